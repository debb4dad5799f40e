"""What our own engine's kernels take: what is counted is what runs, and what is counted is priced."""

import dataclasses
import functools
import json
import operator
import threading
from collections import Counter

import numpy as np
import pytest

from aero.compiler.architecture import compiled_stages
from aero.cost.machine import SERIAL, Computer, Machine, load_machine, machine_names, units_of
from aero.cost.two_party import TwoPartyProfile, predicted, typical_plan
from aero.engines.planning.declared import declared_run
from aero.kernels.lattice_cost import cost_of
from aero.kernels.lattice_matmul import MatmulPlan
from aero.kernels.slots import SlotPublicKey, SlotSecret
from aero.models.notation import parse
from aero.models.presets import SIZES
from aero.mpc.cost import ProtocolCost, message
from aero.mpc.dealer import InsecureDealtOts
from aero.mpc.functions.norm import plan_norm
from aero.mpc.functions.score_rows import ScoreRows
from aero.mpc.functions.smooth_relu import plan_smooth_relu
from aero.mpc.functions.softmax import plan_softmax, window_of
from aero.mpc.party import Party, Role
from aero.mpc.protocols.keys import exchange_keys
from aero.mpc.protocols.linear import PARAMS, plan_linear
from aero.mpc.protocols.pair import plan_scores
from aero.mpc.work import evaluator_work, owner_work
from aero.wire.network import LOOPBACK, WAN
from mpc.ots import split
from mpc.parties import run_both

ROWS = ScoreRows(2, ((16, 16),))
FUNCTIONS = {
    "gelu": plan_smooth_relu((5, 1000), 22, 16, 22, 16, form="tanh"),
    "layer norm": plan_norm(7, 96, 22, 16, 22, 16, eps=1e-5, centred=True),
    "softmax": plan_softmax(ROWS, 22, 14, 20, 18),
    "softmax in a window": plan_softmax(ROWS, 22, 14, 20, 18, window=window_of([(0.0, 4.0)] * 2, 2.0)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_ciphertexts_of_slots_are_counted_as_they_are_made(name, monkeypatch):
    plan, here = FUNCTIONS[name], threading.local()
    seen: dict[Role, Counter[str]] = {role: Counter() for role in Role}

    def counting(owner, method, count):
        original = getattr(owner, method)

        def counted(self, *args, **kwargs):
            made = original(self, *args, **kwargs)
            bits = self.field.p.bit_length()
            seen[here.role].update({f"slots {kernel} {bits}": n for kernel, n in count(made, *args).items()})
            return made

        monkeypatch.setattr(owner, method, counted)

    counting(SlotSecret, "encrypt", lambda made, values, *_: {"encrypt": len(values)})
    counting(SlotSecret, "decrypt", lambda made, response: {"decrypt": response.shape[1]})
    counting(SlotPublicKey, "respond", lambda made, _, v, *__: {"multiply": len(v), "answer": made[0].shape[1]})

    def program(party: Party):
        here.role, party.ots = party.role, InsecureDealtOts(party.role, bytes(32))
        exchange_keys(party, plan.client_keys, plan.server_keys)
        return plan.run(party, split(party, np.zeros(plan.reads.shape), plan.reads.bits, plan.reads.fraction_bits))

    run_both(program)
    cost = plan.cost()
    assert seen == {Role.CLIENT: cost.client_work, Role.SERVER: cost.server_work}


@pytest.mark.parametrize("shape", [(128, 768, 768), (1, 768, 2304), (33, 100, 70)])
def test_products_count_what_their_plan_does(shape):
    plan = plan_linear(*shape, 41, 25)
    product, prepared = plan.product, plan.prepared
    exact, work = cost_of(product, prepared=prepared), evaluator_work(product, prepared=prepared)
    bits = product.params.modulus.bit_length()
    butterflies = exact.transforms * product.params.n * np.log2(product.front) / 2
    assert work.get(f"transform {bits}", 0) == butterflies
    assert work["read 50" if prepared else f"multiply {bits}"] == exact.multiplications
    assert work.get(f"switch {bits}", 0) == exact.key_switches
    assert owner_work(product)[f"encrypt {bits}"] == work[f"load {bits}"] == product.uploads
    declared = plan.cost()
    assert declared.client_work == owner_work(product) and declared.server_work == work


def test_both_parties_do_the_same_in_products_of_shares():
    cost = plan_scores(2, 16, 16, 32, 41, 25).cost()
    assert cost.client_work == cost.server_work
    assert any(name.startswith("encode") for name in cost.client_work)


UNITS = dict.fromkeys(SERIAL, 0.0) | {"ot sent": 1.0, "ot received": 2.0, "x": 10.0, "y": 1.0}
MACHINE = Machine("test", "portable", "none", "1", UNITS)


def test_parties_take_turns_or_compute_at_the_same_time():
    turns = message(Role.CLIENT, 5) + message(Role.SERVER, 5) | ProtocolCost(client_work={"x": 1}, server_work={"y": 4})
    assert MACHINE.computing(turns) == (10, 4, 14)
    both = message(Role.CLIENT, 5) | message(Role.SERVER, 5) | ProtocolCost(client_work={"x": 1}, server_work={"x": 1})
    assert MACHINE.computing(both) == (10, 10, 10)
    crossing = message(Role.CLIENT, 5) | message(Role.SERVER, 5) | ProtocolCost(ots_from_client=2)
    assert MACHINE.computing(crossing) == (2, 4, 5)
    assert units_of(crossing, Role.SERVER)["ot received"] == 2
    parts = functools.reduce(operator.or_, [message(Role.CLIENT, 5) + message(Role.SERVER, 5)] * 5)
    computed = parts | ProtocolCost(client_work={"x": 1}, server_work={"y": 10})
    assert (computed.messages, computed.rounds) == (10, 2) and MACHINE.computing(computed) == (10, 10, 11)
    with pytest.raises(ValueError, match="not measured at z; measure it anew"):
        MACHINE.computing(ProtocolCost(client_work={"z": 1}))


def test_threads_share_all_but_what_is_serial():
    units = dict.fromkeys(UNITS, 0.0) | {"x": 1.0, "message": 1.0}
    cost = message(Role.CLIENT, 5) | ProtocolCost(client_work={"x": 8})
    machine = dataclasses.replace(MACHINE, units=units)
    assert [machine.computing(cost, threads) for threads in (1, 2, 4)] == [(9, 1, 10), (9, 1, 6), (9, 1, 4)]
    with pytest.raises(ValueError, match="at least 1"):
        Computer(machine, 0)


KERNELS = ("encrypt", "decrypt", "load", "transform", "multiply", "read", "switch", "respond", "entry")
MODULI = [params.modulus.bit_length() for params in PARAMS]


@pytest.mark.parametrize("name", ["avx512", "avx2", "portable"])
def test_what_is_declared_is_priced_on_every_machine_that_comes_with_aero(name):
    machine = load_machine(name)
    assert set(machine.units) >= {f"{kernel} {bits}" for kernel in KERNELS for bits in MODULI}
    assert machine.level == machine.name == name and min(machine.units.values()) >= 0
    for notation in ("SM+ScFuFFN", "SM+LN+G", "SM+R"):
        graph = compiled_stages(parse(notation), dataclasses.replace(SIZES["gpt2-small"], context=8))[-1].graph
        profile = TwoPartyProfile(graph, on=Computer(machine))
        assert profile.set_up.compute_seconds > 0 and f"as {name}, measured on" in profile.notes[-1]
        run = declared_run(graph, typical_plan(graph))
        found = {network.name: predicted(run, Computer(machine), network) for network in (LOOPBACK, WAN)}
        assert 0 < found["loopback"]["seconds"] < found["wan"]["seconds"]
        assert found["loopback"]["rounds"] == run.rounds
        assert sum(found["loopback"]["cpu_seconds"].values()) >= found["loopback"]["seconds"]
    assert machine_names() == ["avx2", "avx512", "portable"]


def test_a_file_holds_a_machine(tmp_path):
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(MACHINE.to_json()))
    assert load_machine(str(path)) == MACHINE
    path.write_text(json.dumps({**MACHINE.to_json(), "format_version": 0}))
    with pytest.raises(ValueError, match="aero bench calibrate --engine two-party"):
        load_machine(str(path))
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="fewer than 0: x; measure"):
            dataclasses.replace(MACHINE, units={**UNITS, "x": wrong})
    with pytest.raises(ValueError, match="there are avx2, avx512, portable"):
        load_machine("nonesuch")


def test_a_matrix_product_is_counted_under_its_modulus():
    plan = MatmulPlan(plan_linear(4, 8, 8, 55, 30).product.params, 4, 8, 8, 55, 4, 8, 256, 1, 30)
    assert set(owner_work(plan)) == {"encrypt 150", "decrypt 150", "entry 150"}
