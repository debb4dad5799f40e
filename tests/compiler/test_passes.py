"""Every pass, alone and together, against float64; and what is left of the graph afterwards."""

import dataclasses
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero.compiler.compile import rewrite
from aero.compiler.passes import (
    PASSES,
    centre_residual,
    drop_attention_biases,
    drop_identities,
    eliminate_ffn,
    fold_into_next,
    fold_into_previous,
    join_gains,
    last_position,
    merge_branches,
    merge_linears,
    sink_scalar_gains,
    softmax_base_two,
)  # fmt: skip
from aero.compiler.verify import rounding_noise
from aero.graph import OPS, Node, Program, interpret
from aero.graph.count import count, multiplications
from aero.graph.heads import causal_mask
from programs import ENCODERS, RUNGS, random_encoder, random_ids, random_program


def everything(program: Program) -> Program:
    return rewrite(program, softmax_base="2")[0]


def ops(program):
    return Counter(node.op for node in program.graph.nodes)


def assert_same_function(before: Program, after: Program, condition: float = 1.0):
    """Within what roundings explain, times the condition number of what was inverted."""
    ids = random_ids(before, seed=5)
    expected = interpret(before, ids)
    tolerance = 64 * condition * rounding_noise(before, ids)
    assert tolerance < 1e-6 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(interpret(after, ids), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("apply_pass", [*PASSES, everything], ids=lambda p: p.__name__)
def test_a_pass_keeps_the_function_and_its_argument(rung, apply_pass):
    program = random_program(**RUNGS[rung])
    copies = {name: array.copy() for name, array in program.weights.items()}
    after = apply_pass(program)
    assert_same_function(program, after)
    for name, array in copies.items():
        np.testing.assert_array_equal(program.weights[name], array)
    assert apply_pass(after).graph == after.graph  # there is nothing left to do


@pytest.mark.parametrize("form", ENCODERS)
@pytest.mark.parametrize("apply_pass", [*PASSES, everything], ids=lambda p: p.__name__)
def test_a_pass_keeps_what_an_encoder_computes(form, apply_pass):
    program = random_encoder(layers=2, **ENCODERS[form])
    after = apply_pass(program)
    assert_same_function(program, after)
    assert apply_pass(after).graph == after.graph


@pytest.mark.parametrize("form", ENCODERS)
def test_gains_of_post_norms_join_the_products_that_they_are_added_to(form):
    """Then all norms are of values without a mean. What is left is of the last norm where it is the output."""
    program = random_encoder(layers=2, **ENCODERS[form])
    found = ops(everything(program))
    last = form in ("mean", "first token")
    assert (found["gain"], found["bias"], found["add"], found["layer_norm"]) == (last, 1 + last, 0, 0)
    assert found["concat_columns"] == 2 * 2 and found["rms_norm"] == 1 + 2 * 2


def test_a_gain_of_a_post_norm_with_another_reader_stays():
    program = random_encoder()
    end = Node("end", "relu", ("embedding.norm.bias",))
    pooled = Node("both", "add", ("end", program.graph.output))
    nodes = [*program.graph.nodes, end.replace(inputs=("blocks.0.norm_1.bias",)), Node("mean", "mean_rows", ("end",))]
    nodes.append(pooled.replace(inputs=("mean", program.graph.output)))
    read = Program.of(program.graph.length, nodes, dict(program.weights), "both")
    found = ops(join_gains(read))
    assert found["concat_columns"] == 1 and found["gain"] == ops(read)["gain"]


ARCHITECTURE = {
    "length": st.integers(1, 5),
    "heads": st.integers(1, 3),
    "layers": st.integers(1, 3),
    "norm": st.booleans(),
    "activation": st.sampled_from([None, None, "relu", "gelu", "gelu_erf"]),
    "scaled": st.booleans(),
    "fused": st.booleans(),
    "frozen_norm": st.booleans(),
    "parallel": st.booleans(),
    "rotary": st.booleans(),
    "every_position": st.booleans(),
    "seed": st.integers(0, 1000),
}


@settings(max_examples=60)
@given(apply_pass=st.sampled_from([*PASSES, everything]), architecture=st.fixed_dictionaries(ARCHITECTURE))
def test_random_architectures(apply_pass, architecture):
    """max_condition is the compiler's default, so roundings may be amplified by it where a basis was changed."""
    program = random_program(width=4 * architecture["heads"], **architecture)
    changes_basis = apply_pass in (everything, PASSES[PASSES.index(eliminate_ffn)])
    assert_same_function(program, apply_pass(program), condition=1e3 if changes_basis else 1.0)


@pytest.mark.parametrize("rung", RUNGS)
def test_no_scale_or_gain_is_left(rung):
    found = ops(rewrite(random_program(**RUNGS[rung]))[0])
    assert not found["scale"] and not found["gain"] and not found["layer_norm"]
    assert found["bias"] == (0 if "rotary" in rung else 1)  # the position embedding


def chain(*nodes: Node, weights: dict[str, np.ndarray], output: str) -> Program:
    rng = np.random.default_rng(0)
    table = {"t": rng.normal(size=(11, 4)), "w": rng.normal(size=(4, 4)), **weights}
    return Program.of(3, [Node("embedding", "embedding", ("ids",), ("t",)), *nodes], table, output)


def test_a_gain_with_a_second_reader_stays():
    program = chain(
        Node("g", "gain", ("embedding",), ("v",)),
        Node("y", "linear", ("g",), ("w",)),
        Node("r", "relu", ("g",)),
        Node("out", "add", ("y", "r")),
        weights={"v": np.arange(1.0, 5.0)},
        output="out",
    )
    assert fold_into_next(program) is program


def test_a_value_with_a_second_reader_is_not_scaled_in_place():
    program = chain(
        Node("y", "linear", ("embedding",), ("w",)),
        Node("g", "gain", ("y",), ("v",)),
        Node("out", "add", ("y", "g")),
        weights={"v": np.arange(1.0, 5.0)},
        output="out",
    )
    assert fold_into_previous(program) is program


def test_a_weight_shared_by_two_layers_is_changed_for_one_alone():
    program = chain(
        Node("g", "gain", ("embedding",), ("v",)),
        Node("a", "linear", ("g",), ("w",)),
        Node("b", "linear", ("embedding",), ("w",)),
        Node("out", "add", ("a", "b")),
        weights={"v": np.arange(1.0, 5.0)},
        output="out",
    )
    after = fold_into_next(program)
    assert ops(after)["gain"] == 0
    assert_same_function(program, after)


TURN = {"heads": 2, "rotated": 2, "base": 50.0, "start": 0}


@pytest.mark.parametrize(
    ("op", "attrs"), [("layer_norm", {"eps": 1e-2}), ("rms_norm", {"eps": 1e-2}), ("relu", {}), ("rotary", TURN)]
)
def test_a_positive_scalar_sinks_past_what_lets_it(op, attrs):
    program = chain(
        Node("g", "gain", ("embedding",), ("v",)),
        Node("f", op, ("g",), (), attrs),
        Node("out", "linear", ("f",), ("w",)),
        weights={"v": np.float64(0.3)},
        output="out",
    )
    after = sink_scalar_gains(program)
    assert ops(after)["gain"] == 0
    assert_same_function(program, after)


@pytest.mark.parametrize("s", [-1.5, 0.0])
def test_a_scalar_that_is_not_positive_stays(s):
    program = chain(
        Node("g", "gain", ("embedding",), ("v",)),
        Node("out", "layer_norm", ("g",), (), {"eps": 1e-5}),
        weights={"v": np.float64(s)},
        output="out",
    )
    assert sink_scalar_gains(program) is program


def test_a_temperature_per_position_is_kept_as_a_gain():
    """A factor that depends on the row cannot enter a weight matrix."""
    program = chain(
        Node("q", "linear", ("embedding",), ("w",)),
        Node("g", "gain", ("q",), ("v",)),
        Node("out", "relu", ("g",)),
        weights={"v": np.random.default_rng(1).uniform(1, 2, (3, 4))},
        output="out",
    )
    after = rewrite(program)[0]
    assert ops(after)["gain"] == 1
    assert_same_function(program, after)


# --- attention biases -----------------------------------------------------------------------------------------------


def test_keys_and_values_lose_their_biases_and_queries_do_not():
    program = random_program()
    after = drop_attention_biases(program)
    for block in range(2):
        biased = {role: len(after.graph.by_name[f"blocks.{block}.{role}"].weights) == 2 for role in "qkvo"}
        assert biased == {"q": True, "k": False, "v": False, "o": True}
    assert_same_function(program, after)


def test_keys_that_something_else_reads_keep_their_bias():
    nodes = [
        Node("q", "linear", ("embedding",), ("w",)),
        Node("k", "linear", ("embedding",), ("w", "b")),
        Node("s", "scores", ("q", "k"), (), {"heads": 2}),
        Node("p", "softmax", ("s",)),
        Node("a", "attend", ("p", "k")),
        Node("out", "linear", ("a",), ("w",)),
    ]
    program = chain(*nodes, weights={"b": np.arange(4.0)}, output="out")
    assert drop_attention_biases(program) is program
    # Attended values that a norm reads: it would not commute with the bias.
    nodes[4:] = [Node("a", "attend", ("p", "embedding2")), Node("out", "relu", ("a",))]
    nodes[0:0] = [Node("embedding2", "linear", ("embedding",), ("w", "b"))]
    program = chain(*nodes, weights={"b": np.arange(4.0)}, output="out")
    after = drop_attention_biases(program)
    assert len(after.graph.by_name["k"].weights) == 1 and len(after.graph.by_name["embedding2"].weights) == 2
    assert_same_function(program, after)


def test_under_rotary_positions_keys_keep_their_bias():
    """The score of a bias that turns depends on its distance from the query: without it, this is another function."""
    program = random_program(rotary=True)
    after = drop_attention_biases(program)
    for block in range(2):
        biased = {role: len(after.graph.by_name[f"blocks.{block}.{role}"].weights) == 2 for role in "qkvo"}
        assert biased == {"q": True, "k": True, "v": False, "o": True}
    assert_same_function(program, after)
    nodes = [n.replace(weights=n.weights[:1]) if n.name == "blocks.0.k" else n for n in program.graph.nodes]
    with pytest.raises(AssertionError):
        assert_same_function(program, Program.of(6, nodes, program.weights, program.graph.output))


@pytest.mark.parametrize(
    ("rotated", "g", "moves"),
    [
        (2, 3.0, True),
        (2, [1, 1, 2, 3, 4, 4, 5, 6], True),
        (4, [1, 2, 1, 2, 4, 3, 4, 3], True),
        (4, [1, 1, 2, 2, 4, 4, 3, 3], False),
        (2, [1, 1, 2, 3, 4, 5, 6, 7], False),
    ],
)
def test_a_factor_steps_over_turns_where_pairs_are_alike(rotated, g, moves):
    rng = np.random.default_rng(0)
    nodes = [
        Node("embedding", "embedding", ("ids",), ("t",)),
        Node("q", "linear", ("embedding",), ("w", "b")),
        Node("turned", "rotary", ("q",), (), {"heads": 2, "rotated": rotated, "base": 100.0, "start": 1}),
        Node("g", "gain", ("turned",), ("g",)),
        Node("out", "relu", ("g",)),
    ]
    weights = {"t": rng.normal(size=(11, 8)), "w": rng.normal(size=(8, 8)), "b": rng.normal(size=8), "g": np.array(g)}
    program = Program.of(5, nodes, weights, "out")
    after = fold_into_previous(program)
    assert ops(after)["gain"] == (0 if moves else 1)
    assert_same_function(program, after)


# --- linear layers --------------------------------------------------------------------------------------------------


def test_an_ffn_without_activation_becomes_one_matrix():
    program = random_program(norm=True, fused=False, layers=1)
    after = merge_linears(program)
    assert after.graph.weight_shapes["blocks.0.ffn.out.w"] == (8, 8)
    assert ops(after)["linear"] == ops(program)["linear"] - 1
    assert_same_function(program, after)


def test_a_bottleneck_is_not_multiplied_out():
    rng = np.random.default_rng(0)
    program = chain(
        Node("down", "linear", ("embedding",), ("d",)),
        Node("out", "linear", ("down",), ("u",)),
        weights={"d": rng.normal(size=(4, 1)), "u": rng.normal(size=(1, 4))},
        output="out",
    )
    assert merge_linears(program) is program


def test_a_value_with_a_second_reader_is_not_multiplied_away():
    program = chain(
        Node("a", "linear", ("embedding",), ("w",)),
        Node("b", "linear", ("a",), ("w",)),
        Node("out", "add", ("a", "b")),
        weights={},
        output="out",
    )
    assert merge_linears(program) is program
    after = merge_branches(program)  # the sum as a whole is linear in `a`, and that in the embedding
    assert ops(after) == {"embedding": 1, "linear": 2} and ops(merge_linears(after)) == {"embedding": 1, "linear": 1}
    assert_same_function(program, merge_linears(after))


def test_sums_are_merged_whatever_their_order():
    rng = np.random.default_rng(0)
    program = chain(
        Node("f", "linear", ("embedding",), ("w", "b")),
        Node("r", "relu", ("embedding",)),
        Node("g", "gain", ("embedding",), ("s",)),
        Node("left", "add", ("g", "r")),
        Node("out", "add", ("left", "f")),
        weights={"b": rng.normal(size=4), "s": np.float64(-2.0)},
        output="out",
    )
    after = merge_branches(program)
    assert ops(after) == {"embedding": 1, "linear": 1, "relu": 1, "add": 1}
    assert_same_function(program, after)


def test_what_changes_nothing_is_dropped():
    program = chain(
        Node("one", "scale", ("embedding",), (), {"factor": 1.0}),
        Node("zero", "bias", ("one",), ("z",)),
        Node("same", "linear", ("zero",), ("i",)),
        Node("all", "rows", ("same",), (), {"start": 0, "stop": 3}),
        Node("out", "linear", ("all",), ("w", "z")),
        weights={"z": np.zeros(4), "i": np.eye(4)},
        output="out",
    )
    after = drop_identities(program)
    assert ops(after) == {"embedding": 1, "linear": 1} and set(after.weights) == {"t", "w"}
    assert_same_function(program, after)


# --- LayerNorm ------------------------------------------------------------------------------------------------------


def test_layer_norm_becomes_rms_norm_of_a_centred_stream():
    program = random_program(norm=True, activation="gelu", scaled=True)
    after = centre_residual(program)
    assert ops(after)["rms_norm"] == 5 and not ops(after)["layer_norm"]
    means = []
    streams = {n.inputs[0] for n in after.graph.nodes if n.op == "rms_norm"}
    interpret(after, random_ids(after), keep=lambda n, v: means.append(v.mean(-1)) if n in streams else None)
    assert len(means) == len(streams) and max(np.abs(m).max() for m in means) < 1e-12
    assert_same_function(program, after)


def test_a_stream_that_something_else_reads_is_not_centred():
    program = chain(
        Node("n", "layer_norm", ("embedding",), (), {"eps": 1e-5}),
        Node("y", "linear", ("embedding",), ("w",)),
        Node("out", "add", ("n", "y")),
        weights={},
        output="out",
    )
    assert centre_residual(program) is program


# --- softmax and positions ------------------------------------------------------------------------------------------


def test_softmax_in_base_two_costs_nothing():
    program = random_program()
    after, _, _ = rewrite(program, softmax_base="2")
    assert {n.attrs["base"] for n in after.graph.nodes if n.op == "softmax"} == {2.0}
    assert ops(after) == ops(rewrite(program)[0])
    assert_same_function(program, after)
    assert softmax_base_two(after) is after


def test_the_last_block_computes_one_row_beside_keys_and_values():
    program = random_program(length=6, activation="relu", norm=True)
    after = last_position(program)
    computed = [n.name for n in after.graph.nodes if n.op in ("linear", "relu", "layer_norm")]
    whole = {name for name in computed if after.graph.shapes[name][0] == 6 and name.startswith("blocks.1")}
    assert whole == {"blocks.1.norm_1", "blocks.1.k", "blocks.1.v"}
    assert after.graph.shapes["blocks.1.scores"] == (2, 1, 6)
    assert_same_function(program, after)


def test_rows_in_the_middle_do_not_pass_attention():
    program = random_program(length=6, every_position=True)
    nodes = [*program.graph.nodes, Node("middle", "rows", (program.graph.output,), (), {"start": 2, "stop": 4})]
    program = Program.of(6, nodes, program.weights, "middle")
    after = last_position(program)
    assert after.graph.shapes["blocks.1.attend"] == (6, 8) and after.graph.shapes["blocks.1.o"] == (2, 8)
    assert_same_function(program, after)


def test_nothing_above_the_diagonal_is_read(monkeypatch):
    """Scores of keys that a query does not see are replaced by nonsense; the output must not notice."""
    program = random_program()
    scores = OPS["scores"]
    nonsense = dataclasses.replace(
        scores,
        meaning=lambda q, k, **attrs: np.where(causal_mask(len(q), len(k)), scores.meaning(q, k, **attrs), np.nan),
    )
    expected = interpret(program, random_ids(program))
    tolerance = 64 * rounding_noise(program, random_ids(program))
    monkeypatch.setattr(sys.modules["aero.graph.interpret"], "OPS", {**OPS, "scores": nonsense})
    np.testing.assert_allclose(interpret(program, random_ids(program)), expected, rtol=0, atol=tolerance)


def test_live_entries_alone_are_counted():
    program = random_program(length=6, width=8, heads=2, layers=1)
    scores = program.graph.by_name["blocks.0.scores"]
    assert multiplications(program.graph, scores) == 21 * 8
    assert count(program.graph).nonlinear == 2 * 21
    one = last_position(program)
    assert multiplications(one.graph, one.graph.by_name["blocks.0.scores"]) == 6 * 8
