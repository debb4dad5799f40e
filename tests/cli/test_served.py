"""The form of FFNs, number formats and moduli are chosen together, with room for noise in mind."""

from dataclasses import replace

import numpy as np
import pytest

import aero.cli.served as served_module
from aero.cli.served import fit, formats
from aero.compiler.compile import compile
from aero.cost import estimate
from aero.cost.two_party import TwoPartyProfile
from aero.kernels.lattice_noise import NoRoomError
from small_models import make_model

MODEL = make_model("SM+ScFuFFN", vocab_size=300)
BLOCKS = list(np.random.default_rng(0).integers(300, size=(4, 12)))


@pytest.fixture(scope="module")
def compiled():
    return compile(MODEL, softmax_base="2")


def large_weights(monkeypatch, compiled, moduli):
    """As if the products of the first form had weights that ask for these moduli; an error, that nothing has room."""
    original = served_module.with_room

    def with_room(programs, plan, prompts):
        if programs.program.graph == compiled.program.graph:
            if isinstance(moduli, Exception):
                raise moduli
            return replace(plan, moduli=moduli)
        return original(programs, plan, prompts)

    monkeypatch.setattr(served_module, "with_room", with_room)


def size(found) -> float:
    graphs = found.compiled.prefill(12).graph, found.compiled.decode(11).graph
    plan = found.quantized.plan
    return sum(estimate(graph, TwoPartyProfile(graph, plan)).total.bytes_both_ways or 0 for graph in graphs)


def test_a_form_with_room_is_left_as_it_is(compiled):
    found = fit(MODEL, compiled, BLOCKS)
    assert found.compiled is compiled and compiled.ffn.chosen.name == "basis"
    assert found.quantized == formats(compiled, BLOCKS) and not found.quantized.plan.moduli


def test_bytes_decide_where_a_form_asks_for_larger_moduli(compiled, monkeypatch):
    products = {node.name for node in compiled.program.graph.nodes if node.op in ("linear", "embedding")}
    large_weights(monkeypatch, compiled, dict.fromkeys(products, 150))
    found = fit(MODEL, compiled, BLOCKS)
    assert found.compiled.ffn.chosen.name in ("keep", "carry") and found.compiled.verification.passed
    assert not found.quantized.plan.moduli
    first = served_module.Served(compiled, formats(compiled, BLOCKS))
    assert size(found) < size(first) and f"basis {size(first) / 1e6:.2f} MB" in found.compiled.ffn.reason


def test_a_form_that_cannot_be_served_gives_way(compiled, monkeypatch):
    large_weights(monkeypatch, compiled, NoRoomError("logits: the noise may reach 1e9 steps"))
    found = fit(MODEL, compiled, BLOCKS)
    assert found.compiled.ffn.chosen.name != "basis" and "basis cannot be served" in found.compiled.ffn.reason


def test_what_no_form_can_serve_is_refused_with_what_the_first_lacks(compiled, monkeypatch):
    def with_room(programs, plan, prompts):
        raise NoRoomError(f"{programs.ffn.chosen.name}: the noise may reach 1e9 steps")

    monkeypatch.setattr(served_module, "with_room", with_room)
    with pytest.raises(NoRoomError, match=r"^basis: the noise"):
        fit(MODEL, compiled, BLOCKS)
    with pytest.raises(ValueError, match=r"no form 'basis' with a condition number of at most 1;"):
        compile(MODEL, form="basis", max_condition=1.0)
