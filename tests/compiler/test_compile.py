"""A compiled program gives the model's own logits, in float64, for every rung of the ladder."""

import copy

import numpy as np
import pytest
import torch

from aero.compiler import VerificationError, compile, lower, verify
from aero.compiler.verify import every_logit, model_logits
from aero.graph import Program, interpret, interpret_step
from small_models import NOTATIONS, make_model


@pytest.mark.parametrize("name", NOTATIONS)
def test_program_equals_model(name):
    model = make_model(name)
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


@pytest.mark.parametrize("name", NOTATIONS)
def test_decoding_token_by_token_equals_the_model(name):
    model = make_model(name)
    compiled = compile(model)
    ids = np.random.default_rng(4).integers(50, size=12)
    expected = every_logit(model, ids[None])[0]
    for prompt in (1, 5):
        logits, state = interpret_step(compiled.prefill(prompt, leave_state=True), ids[:prompt], {})
        for past in range(prompt, 12):
            logits, state = interpret_step(compiled.decode(past), ids[past : past + 1], state)
            np.testing.assert_allclose(logits[0], expected[past], rtol=0, atol=compiled.verification.tolerance)
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


@pytest.mark.parametrize("name", NOTATIONS)
def test_what_is_left_is_what_the_name_says(name):
    operations = {node.op for node in compile(make_model(name)).prefill(5).graph.nodes}
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
