"""Every form of FFN elimination computes the same function, and the chooser chooses by condition and price."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero.compiler.compile import rewrite
from aero.compiler.passes import FOLDS, merge_branches, merge_linears
from aero.compiler.passes.carry import carry, merge_output_projection
from aero.compiler.passes.change_basis import Basis, best_basis, change_basis
from aero.compiler.passes.eliminate_ffn import by_products, choose_ffn_form
from aero.compiler.passes.residual_stream import find_stream
from aero.compiler.passes.rewrite import until_done
from aero.compiler.verify import rounding_noise
from aero.graph import Program, interpret
from aero.graph.count import count
from programs import random_ids, random_program


def merged(**architecture) -> Program:
    """A Softmax-only program whose FFNs are matrices on the stream."""

    def simplify(program: Program) -> Program:
        for apply_pass in (*FOLDS, merge_linears, merge_branches):
            program = apply_pass(program)
        return program

    return until_done(simplify, random_program(every_position=True, **architecture))


def error(before: Program, after: Program) -> float:
    ids = random_ids(before)
    return float(np.abs(interpret(after, ids) - interpret(before, ids)).max())


def bound(program: Program, condition: float = 1.0) -> float:
    return 64 * condition * rounding_noise(program, random_ids(program))


ARCHITECTURES = {
    "fused": {},
    "scaled": {"scaled": True, "layers": 3},
    "two matrices": {"fused": False},
    "frozen norm": {"frozen_norm": True, "scaled": True, "fused": False},
    "parallel": {"parallel": True, "layers": 3},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_stream_has_one_matrix_for_each_ffn(name):
    program = merged(**ARCHITECTURES[name])
    layers = ARCHITECTURES[name].get("layers", 2)
    stream = find_stream(program.graph)
    # The last FFN of a model without a parallel residual went into the vocabulary projection.
    assert len(stream.matrices) == (layers if name == "parallel" else layers - 1)
    assert sum(len(s.leaves) for s in stream.segments) == 3 * layers + 1


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("second_table", [False, True])
def test_every_basis_computes_the_same(name, second_table):
    program = merged(**ARCHITECTURES[name])
    stream = find_stream(program.graph)
    for k in range(len(stream.segments)):
        after = change_basis(program, stream, Basis(k, second_table, 0.0))
        assert not find_stream(after.graph) or not find_stream(after.graph).matrices
        removed = 6 * 64 * len(stream.matrices)
        assert count(after.graph).multiplications == count(program.graph).multiplications - removed
        condition = max(np.linalg.cond(program.weights[m.weights[0]]) for m in stream.matrices) ** len(stream.matrices)
        assert error(program, after) <= bound(program, condition)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_carry_forms_compute_the_same_and_wait_less(name):
    program = merged(**ARCHITECTURES[name])
    carried = carry(program, find_stream(program.graph))
    both = merge_output_projection(carried)
    for after in (carried, both):
        assert error(program, after) <= bound(program)
    depths = [count(p.graph).depth for p in (program, carried, both)]
    assert depths[0] >= depths[1] > depths[2] and (name == "parallel" or depths[0] > depths[1])
    # One product between two softmaxes: softmax, attend, product, scores for each further layer.
    layers = ARCHITECTURES[name].get("layers", 2)
    assert name == "parallel" or depths[2] == 3 + 4 * (layers - 1) + 3


def test_no_products_are_left_of_the_ffns():
    """The multiplications are those of the same model with its FFNs absent."""
    program, stages, choice = rewrite(random_program(scaled=True, layers=3, every_position=True))
    assert choice.chosen.name == "basis" and choice.chosen.condition < 1e3
    ffn = sum("ffn" in node.name for node in program.graph.nodes)
    assert ffn == 0 and Counter(n.op for n in program.graph.nodes)["linear"] == 3 * 4 + 1
    assert stages[0].name == "as trained" and stages[-1].name == "FFN elimination"


def test_an_ill_conditioned_model_gets_the_carry_form():
    program = merged(layers=3)
    stream = find_stream(program.graph)
    weights = dict(program.weights)
    for matrix in stream.matrices:
        u, _, v = np.linalg.svd(weights[matrix.weights[0]])
        weights[matrix.weights[0]] = u @ np.diag(np.logspace(0, -6, 8)) @ v
    program = Program(program.graph, weights)
    after, choice = choose_ffn_form(program)
    assert choice.chosen.name == "carry" and choice.chosen.condition == 1
    assert next(form for form in choice.forms if form.name == "basis").condition > 1e5
    assert "basis" in choice.reason
    assert error(program, after) <= bound(program)


def test_a_singular_matrix_is_never_inverted():
    program = merged(layers=2)
    weights = dict(program.weights)
    (matrix,) = find_stream(program.graph).matrices
    weights[matrix.weights[0]] = np.zeros((8, 8))
    program = Program(program.graph, weights)
    after, choice = choose_ffn_form(program, max_condition=np.inf)
    assert np.isfinite(choice.chosen.condition)
    assert error(program, after) <= bound(program)


def test_the_price_decides():
    program = merged(layers=3)
    waits_least = choose_ffn_form(program, price=lambda graph: (count(graph).depth,))[1]
    assert waits_least.chosen.name == "carry, merged"
    assert choose_ffn_form(program, price=by_products)[1].chosen.name == "basis"
    never = choose_ffn_form(program, max_condition=1.0)[1]
    assert never.chosen.name == "carry"


def test_the_second_table_spares_the_worst_inverse():
    program = merged(layers=3)
    stream = find_stream(program.graph)
    weights = dict(program.weights)
    first = stream.matrices[0].weights[0]
    weights[first] = weights[first] @ np.diag(np.logspace(0, -4, 8))
    program = Program(program.graph, weights)
    one, two = (best_basis(program, stream, second_table=t) for t in (False, True))
    assert two.condition < one.condition / 100


def test_models_with_something_nonlinear_on_the_stream_are_left_alone():
    for architecture in ({"norm": True}, {"norm": True, "activation": "relu"}, {"activation": "gelu"}):
        program = merged(**architecture)
        after, choice = choose_ffn_form(program)
        assert after is program and choice is None


@settings(max_examples=25)
@given(
    length=st.integers(1, 4),
    heads=st.integers(1, 2),
    layers=st.integers(1, 4),
    scaled=st.booleans(),
    fused=st.booleans(),
    frozen_norm=st.booleans(),
    parallel=st.booleans(),
    form=st.sampled_from(["basis", "basis, 2 tables", "carry", "carry, merged"]),
    seed=st.integers(0, 1000),
)
def test_random_models_in_every_form(length, heads, layers, scaled, fused, frozen_norm, parallel, form, seed):
    program = random_program(
        length=length, heads=heads, width=4 * heads, layers=layers, scaled=scaled, fused=fused,
        frozen_norm=frozen_norm, parallel=parallel, every_position=True, seed=seed,
    )  # fmt: skip
    base = merged(
        length=length, heads=heads, width=4 * heads, layers=layers, scaled=scaled, fused=fused,
        frozen_norm=frozen_norm, parallel=parallel, seed=seed,
    )  # fmt: skip
    stream = find_stream(base.graph)
    if stream is None or not stream.matrices:
        return
    if form == "carry":
        after, condition = carry(base, stream), 1.0
    elif form == "carry, merged":
        after, condition = merge_output_projection(carry(base, stream)), 1.0
    else:
        basis = best_basis(base, stream, second_table=form != "basis")
        after, condition = change_basis(base, stream, basis), basis.condition
    if condition < 1e4:
        assert error(program, after) <= bound(program, condition)
