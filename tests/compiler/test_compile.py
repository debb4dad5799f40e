"""A compiled program gives the model's own logits, in float64, for every rung of the ladder."""

import copy

import numpy as np
import pytest
import torch

from aero.compiler.compile import compile
from aero.compiler.lower import lower
from aero.compiler.verify import VerificationError, every_logit, model_logits, verify
from aero.graph import Program, interpret, interpret_step
from small_models import NOTATIONS, make_model

# Beside GPT-2's shape: GPT-NeoX's, and what lies between them.
SHAPES = {
    "gpt2": {},
    "neox": {"positions": "rotary", "rotary_fraction": 0.5, "parallel_residual": True, "tie_embeddings": False},
    "rotary": {"positions": "rotary", "rotary_fraction": 1.0, "rotary_base": 50.0},
    "parallel": {"parallel_residual": True, "tie_embeddings": False},
}


def shaped(name, shape):
    exact = {"activation": "gelu_erf"} if shape in ("neox", "rotary") and "+G" in name else {}
    return make_model(name, **SHAPES[shape], **exact)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NOTATIONS)
def test_program_equals_model(name, shape):
    model = shaped(name, shape)
    before = copy.deepcopy(model.state_dict())
    compiled = compile(model, softmax_base="2")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    ids = np.random.default_rng(3).integers(50, size=12)
    expected = every_logit(model, ids[None])[0]
    assert np.abs(expected).max() > 0.1
    tolerance = compiled.verification.tolerance
    assert tolerance < 1e-6 and compiled.verification.positions == 12
    np.testing.assert_allclose(interpret(compiled.program, ids), expected, rtol=0, atol=tolerance)
    for length in (1, 7, 12):
        found = interpret(compiled.prefill(length), ids[:length])
        np.testing.assert_allclose(found, expected[length - 1 : length], rtol=0, atol=tolerance)
        every = interpret(compiled.every_position(length), ids[:length])
        np.testing.assert_allclose(every, expected[:length], rtol=0, atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NOTATIONS)
def test_decoding_token_by_token_equals_the_model(name, shape):
    model = shaped(name, shape)
    compiled = compile(model)
    ids = np.random.default_rng(4).integers(50, size=12)
    expected = every_logit(model, ids[None])[0]
    for prompt in (1, 5):
        logits, state = interpret_step(compiled.prefill(prompt, leave_state=True), ids[:prompt], {})
        for past in range(prompt, 12):
            logits, state = interpret_step(compiled.decode(past), ids[past : past + 1], state)
            np.testing.assert_allclose(logits[0], expected[past], rtol=0, atol=compiled.verification.tolerance)
    # Several tokens at once, after others
    _, state = interpret_step(compiled.prefill(3, leave_state=True), ids[:3], {})
    logits, state = interpret_step(compiled.decode(3, 4), ids[3:7], state)
    np.testing.assert_allclose(logits, expected[6:7], rtol=0, atol=compiled.verification.tolerance)
    logits, state = interpret_step(compiled.decode(7, 5), ids[7:], state)
    np.testing.assert_allclose(logits, expected[11:], rtol=0, atol=compiled.verification.tolerance)
    # and what follows each of the last of them
    cut = {name: rows[:7] for name, rows in state.items()}
    for outputs in (2, 5):
        logits = interpret(compiled.decode(7, 5, outputs), ids[7:], state=cut)
        np.testing.assert_allclose(logits, expected[12 - outputs :], rtol=0, atol=compiled.verification.tolerance)
    with pytest.raises(ValueError, match="give 6 outputs"):
        compiled.decode(7, 5, 6)
    with pytest.raises(ValueError, match="do not fit"):
        compiled.decode(7, 6)
    with pytest.raises(ValueError, match="at least 1"):
        compiled.decode(7, 0)
    with pytest.raises(ValueError, match="run the one that leaves"):
        interpret(compiled.decode(3), ids[:1])
    with pytest.raises(ValueError, match="use prefill"):
        compiled.decode(0)


@pytest.mark.parametrize("name", ["SM+LN+G", "SM+R+ScFFN", "SM", "SM+ScFuFFN", "SM(t)+ScFuFFN"])
@pytest.mark.parametrize("max_condition", [1.0, 1e6])
def test_trained_models(trained, name, max_condition):
    """The chain of trained weights is not random: conditions and scales are those that training makes."""
    model = trained(name)
    compiled = compile(model, max_condition=max_condition)
    assert compiled.verification.passed and compiled.verification.tolerance < 1e-5
    if name in ("SM", "SM+ScFuFFN", "SM(t)+ScFuFFN"):
        assert compiled.ffn.chosen.name == ("carry" if max_condition == 1.0 else "basis")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NOTATIONS)
def test_what_is_left_is_what_the_name_says(name, shape):
    base = "e" if "(t)" in name else "2"  # log2 e stays beside a factor of the position
    program = compile(shaped(name, shape), softmax_base=base).prefill(5)
    operations = {node.op for node in program.graph.nodes}
    rotary = "positions" in SHAPES[shape]
    assert ("rotary" in operations) == rotary and ("bias" in operations) == (not rotary)
    assert "layer_norm" not in operations and ("rms_norm" in operations) == ("LN" in name)
    assert ("gelu" in operations) == ("+G" in name)
    assert ("relu" in operations) == ("+R" in name)
    assert "scale" not in operations
    assert ("gain" in operations) == ("(t)" in name)  # one per position stays


def test_stages_show_what_each_step_did():
    compiled = compile(make_model("SM"))
    names = [stage.name for stage in compiled.stages]
    assert names == [
        "as trained", "constants into weights", "attention biases", "linear layers multiplied", "FFN elimination",
    ]  # fmt: skip
    assert compiled.stages[-1].graph == compiled.program.graph
    assert compiled.stages[0].graph == lower(make_model("SM"), 12, every_position=True).graph


def planted(program: Program, kind: str) -> Program:
    """A program that a wrong rewrite could have made."""
    weights = dict(program.weights)
    query = program.graph.by_name["blocks.1.q"].weights
    if kind == "one weight, slightly":
        weights[query[0]] = weights[query[0]].copy()
        weights[query[0]][3, 5] *= 1 + 1e-4
    elif kind == "a factor":
        weights[query[0]] = weights[query[0]] * (1 + 1e-6)
    elif kind == "a forgotten bias":
        weights[query[1]] = np.zeros_like(weights[query[1]])
    elif kind == "a transposed matrix":
        weights[query[0]] = weights[query[0]].T
    elif kind == "one position":
        table = program.graph.by_name["positions"].weights[0]
        weights[table] = weights[table].copy()
        weights[table][-1] *= 1 + 1e-6
    return Program(program.graph, weights)


@pytest.mark.parametrize(
    "kind", ["one weight, slightly", "a factor", "a forgotten bias", "a transposed matrix", "one position"]
)
@pytest.mark.parametrize("name", ["SM+LN+G", "SM+ScFuFFN"])
def test_a_planted_error_is_caught(name, kind):
    model = make_model(name)
    compiled = compile(model)
    condition = compiled.ffn.chosen.condition if compiled.ffn else 1.0
    assert verify(compiled.program, model, condition=condition).passed
    with pytest.raises(VerificationError, match="differs from the model"):
        verify(planted(compiled.program, kind), model, condition=condition)


@pytest.mark.parametrize("kind", ["a position later", "another base", "features of the wrong pair", "a key's bias"])
@pytest.mark.parametrize("name", ["SM+LN+G", "SM+ScFuFFN"])
def test_a_planted_error_in_rotary_positions_is_caught(name, kind):
    model = shaped(name, "neox")
    compiled = compile(model)
    condition = compiled.ffn.chosen.condition if compiled.ffn else 1.0
    changed = {
        "a position later": {"start": 1},
        "another base": {"base": 9999.0},
        "features of the wrong pair": {"rotated": 2},
    }
    nodes = []
    for node in compiled.program.graph.nodes:
        if node.name == "blocks.1.k" and kind == "a key's bias":
            node = node.replace(weights=node.weights[:1])
        elif node.name == "blocks.1.k.rotary" and kind in changed:
            node = node.replace(attrs={**node.attrs, **changed[kind]})
        nodes.append(node)
    graph = compiled.program.graph
    wrong = Program.of(graph.length, nodes, compiled.program.weights, graph.output)
    assert verify(compiled.program, model, condition=condition).passed
    with pytest.raises(VerificationError, match="differs from the model"):
        verify(wrong, model, condition=condition)


def test_decoding_at_the_wrong_position_would_show():
    """What is read of the cache has been turned already; the next token turns by its own position."""
    model = shaped("SM+LN+G", "neox")
    compiled, ids = compile(model), np.random.default_rng(4).integers(50, size=8)
    starts = {n.name: n.attrs["start"] for n in compiled.decode(7).graph.nodes if n.op == "rotary"}
    assert len(starts) == 4 and set(starts.values()) == {7}
    assert {n.attrs["start"] for n in compiled.prefill(8).graph.nodes if n.op == "rotary"} == {0, 7}  # the last row's q
    _, state = interpret_step(compiled.prefill(7, leave_state=True), ids[:7], {})
    right = compiled.decode(7)
    nodes = [n.replace(attrs={**n.attrs, "start": 6}) if n.op == "rotary" else n for n in right.graph.nodes]
    wrong = Program.of(
        1, nodes, right.weights, right.graph.output, state_in=right.graph.state_in, state_out=right.graph.state_out
    )
    expected = every_logit(model, ids[None])[0, 7]
    assert np.abs(interpret(right, ids[7:], state=state)[0] - expected).max() <= compiled.verification.tolerance
    assert np.abs(interpret(wrong, ids[7:], state=state)[0] - expected).max() > 1e-3


def test_a_compiler_with_a_wrong_pass_is_refused(monkeypatch):
    """The same, from the inside: a pass that forgets what keys and values do with their biases."""
    import importlib

    module = importlib.import_module("aero.compiler.compile")

    def wrong(program: Program) -> Program:
        first = program.graph.by_name["blocks.0.q"]
        if len(first.weights) == 1:
            return program
        nodes = [n.replace(weights=n.weights[:1]) if n is first else n for n in program.graph.nodes]
        return Program.of(program.graph.length, nodes, program.weights, program.graph.output)

    monkeypatch.setattr(module, "drop_attention_biases", wrong)
    with pytest.raises(VerificationError):
        compile(make_model("SM+R"))


def test_a_length_beyond_the_context_is_refused():
    model = make_model("SM")
    for length in (0, 13):
        with pytest.raises(ValueError, match="context of 12"):
            lower(model, length)
        with pytest.raises(ValueError, match="context of 12"):
            compile(model, context=length)
        with pytest.raises(ValueError, match="context of 5"):
            compile(model, context=5, check=False).prefill(length)


def test_lowering_for_the_last_position_is_the_models_last_logits():
    model = make_model("SM+LN+G")
    ids = np.random.default_rng(3).integers(50, size=(3, 7))
    found = np.concatenate([interpret(lower(model, 7), row) for row in ids])
    np.testing.assert_allclose(found, model_logits(model, ids), rtol=0, atol=1e-10)
