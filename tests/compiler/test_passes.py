"""Every pass, alone and together, against float64; and what is left of the graph afterwards."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero.compiler.compile import rewrite
from aero.compiler.passes import PASSES, fold_into_next, fold_into_previous, sink_scalar_gains
from aero.graph import Node, Program, interpret
from programs import RUNGS, random_ids, random_program


def ops(program):
    return Counter(node.op for node in program.graph.nodes)


def assert_same_function(before: Program, after: Program):
    ids = random_ids(before, seed=5)
    expected = interpret(before, ids)
    np.testing.assert_allclose(interpret(after, ids), expected, atol=1e-11 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("apply_pass", [*PASSES, rewrite], ids=lambda p: p.__name__)
def test_a_pass_keeps_the_function_and_its_argument(rung, apply_pass):
    program = random_program(**RUNGS[rung])
    copies = {name: array.copy() for name, array in program.weights.items()}
    assert_same_function(program, apply_pass(program))
    for name, array in copies.items():
        np.testing.assert_array_equal(program.weights[name], array)


@pytest.mark.parametrize("rung", RUNGS)
def test_no_scale_or_gain_is_left(rung):
    found = ops(rewrite(random_program(**RUNGS[rung])))
    assert not found["scale"] and not found["gain"]
    assert found["bias"] == 1  # the position embedding


@settings(max_examples=30, deadline=None)
@given(
    length=st.integers(1, 5),
    heads=st.integers(1, 3),
    layers=st.integers(1, 3),
    norm=st.booleans(),
    activation=st.sampled_from([None, "relu", "gelu"]),
    scaled=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_random_architectures(length, heads, layers, norm, activation, scaled, seed):
    program = random_program(
        length=length,
        width=4 * heads,
        heads=heads,
        layers=layers,
        norm=norm,
        activation=activation,
        scaled=scaled,
        seed=seed,
    )
    assert_same_function(program, rewrite(program))


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
    after = rewrite(program)
    assert ops(after)["gain"] == 1
    assert_same_function(program, after)
