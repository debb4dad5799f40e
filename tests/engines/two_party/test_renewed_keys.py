"""The server's keys for products of shares bear so many hints, and are then made anew; nothing else changes."""

import dataclasses
import gc
import itertools
import weakref

import numpy as np
import pytest

from aero.compiler.positions import decode, prefill
from aero.compiler.quantize import quantize
from aero.engines.engine import PromptRun, RunCost
from aero.engines.insecure.plain import InsecurePlainEngine
from aero.engines.planning import session_keys
from aero.engines.planning.step_plans import bare_pairs, bare_states, checked_schedule, group_plan, wear_of
from aero.engines.planning.steps import PAIRS
from aero.engines.reveal import LOGITS, TOKEN, Reveal
from aero.engines.two_party.engine import TwoPartyEngine
from aero.graph import Program, interpret_step
from aero.graph.ring_plan import RingPlan
from aero.kernels.lattice_matmul import MatmulPlan
from aero.kernels.prg import Prg
from aero.kernels.rlwe import SHARES, WEIGHTS
from aero.mpc.hints import hints
from aero.mpc.party import Role
from aero.mpc.protocols.keys import keys_cost
from aero.mpc.protocols.stacked import StackedPlan
from aero.wire import Traffic
from aero.wire.memory import channel_pair
from conformance import stated
from engines.two_party.test_two_party import run_engines
from programs import RUNGS, random_ids, random_program

LENGTH = 6
Prompt = tuple[int, Program, np.ndarray]
"""Its number, the program, the ids."""


def numbers(rung: str) -> tuple[Program, RingPlan]:
    program = random_program(length=LENGTH, layers=1, every_position=True, **RUNGS[rung])
    return program, quantize(program, [random_ids(program, seed) for seed in range(8)]).plan


class Parties:
    """Both engines; `keys` has, of each run, the server's public key as the client holds it."""

    def __init__(self, plan: RingPlan) -> None:
        self.channels = channel_pair(timeout=240)
        self.client, self.server = (TwoPartyEngine(p, c, plan) for p, c in zip(Role, self.channels, strict=True))
        self.keys: list[bytes] = []
        self.costs: list[RunCost] = []

    def run(self, *batch: Prompt) -> list[np.ndarray]:
        """The client's outputs."""
        asked = [PromptRun(one.graph, ids, number) for number, one, ids in batch]
        held = [PromptRun(one.graph, None, number, one.weights) for number, one, _ in batch]
        outputs, nothing = run_engines(lambda: self.client.run_batch(asked), lambda: self.server.run_batch(held))
        for result in (outputs, nothing):
            if isinstance(result, BaseException):
                raise result
        self.keys.append(self.client._party.peer_keys[SHARES].to_bytes())
        self.costs.append(self.client.cost)
        return outputs

    @property
    def renewed(self) -> list[bool]:
        """Of each run after the first, whether the server's key is another than before."""
        return [now != before for before, now in itertools.pairwise(self.keys)]


def first_tokens(program: Program, count: int, seed: int = 0) -> list[Prompt]:
    one = prefill(program, 2, leave_state=True)
    return [(number, one, random_ids(program, seed + number)[:2]) for number in range(count)]


def plain_tolerance(program: Program, plan: RingPlan, ids: np.ndarray, state=None, pairs=None) -> float:
    exact = stated.tolerance(program, ids, stated.protocols(program, plan, pairs), state)
    return exact + stated.tolerance(program, ids, stated.rounded(program, plan, 0.5), state)


def wear(plan: RingPlan, prompts: list[Prompt]) -> float:
    return wear_of(checked_schedule([one.graph for _, one, _ in prompts], plan).stages)


def test_a_worn_key_is_replaced_and_forgotten(monkeypatch):
    program, plan = numbers("softmax-only")
    parties, plain, secrets = Parties(plan), InsecurePlainEngine(plan), []
    prompts = first_tokens(program, 8)
    expected = [plain.run(one.graph, weights=one.weights, ids=ids) for _, one, ids in prompts]
    limits = [plain_tolerance(one, plan, ids) for _, one, ids in prompts]
    batches = (8, 8, 7, 1, 1)
    monkeypatch.setattr(session_keys, "WHOLE_KEY", 1.0001 * sum(wear(plan, prompts[:n]) for n in batches[:-1]))
    for count in batches:
        for output, exact, limit in zip(parties.run(*prompts[:count]), expected, limits, strict=False):
            assert np.abs(output - exact).max() <= limit < np.abs(exact).max()
        secrets.append(weakref.ref(parties.server._party.secret_keys[SHARES]))
    assert parties.renewed == [False, False, False, True]
    gc.collect()
    assert [secret() is None for secret in secrets] == [True] * 4 + [False]  # the old one is in nobody's memory


def test_a_run_that_no_key_bears_is_refused_by_both(monkeypatch):
    program, plan = numbers("softmax-only")
    parties, prompts = Parties(plan), first_tokens(program, 1)
    monkeypatch.setattr(session_keys, "WHOLE_KEY", 0.4 * wear(plan, prompts))
    with pytest.raises(ValueError, match=r"wear out 2\.5 keys, .* run fewer or shorter prompts"):
        parties.run(*prompts)
    assert parties.client.traffic.bytes_sent == 0


def test_hints_are_what_the_plans_count(monkeypatch):
    """Every number that the server decrypts of a product of shares is a hint on its key, and no other is."""
    program, plan = numbers("layer norm, gelu")
    parties, prompts, seen = Parties(plan), first_tokens(program, 2), []
    decrypt = MatmulPlan.decrypt

    def counted(self, secret, response):
        if secret in parties.server._party.secret_keys.values():
            seen.append(response.b.size)
        return decrypt(self, secret, response)

    monkeypatch.setattr(MatmulPlan, "decrypt", counted)
    parties.run(*prompts)
    stages = checked_schedule([one.graph for _, one, _ in prompts], plan).stages
    assert sum(seen) == sum(group_plan(*s.groups).hints for s in stages if s.op in PAIRS) > 0


@pytest.mark.parametrize("reveal", [LOGITS, TOKEN, Reveal(3)], ids=str)
@pytest.mark.parametrize("rung", ["layer norm, gelu", "softmax-only, scaled"])
def test_every_number_of_every_product_gets_noise_of_the_servers_own(monkeypatch, rung, reveal):
    """Of prompts read at once and of tokens after them, over a renewal, whatever is revealed: one normal number each,
    of a stream that goes on, and none of the client's."""
    program, plan = numbers(rung)
    longer = [
        [(0, prefill(program, 3, leave_state=True)), (1, prefill(program, 2, leave_state=True))],
        [(0, decode(program, 3)), (1, decode(program, 2))],
        [(0, decode(program, 4))],
        [(1, decode(program, 3, 2))],
    ]
    batches = [[(number, one, random_ids(program, number)[: one.graph.length]) for number, one in b] for b in longer]
    monkeypatch.setattr(session_keys, "WHOLE_KEY", 1.0001 * max(wear(plan, batch) for batch in batches))
    parties, drawn, all_drawn = Parties(plan), [], []
    for engine in (parties.client, parties.server):
        engine.reveal_only(reveal, program.graph.shapes[program.graph.output][1])
    normal = Prg.normal

    def counted(self, shape, deviation):
        found = normal(self, shape, deviation)
        assert self is parties.server._party.stream("share noise")
        drawn.append(found.size)
        all_drawn.append(found.reshape(-1)[:4].tobytes())
        return found

    monkeypatch.setattr(Prg, "normal", counted)
    states = [{}, {}]
    for batch in batches:
        drawn.clear()
        parties.run(*batch)
        schedule = checked_schedule([one.graph for _, one, _ in batch], plan, [states[n] for n, *_ in batch], reveal)
        plans = [group_plan(*stage.groups) for stage in schedule.stages]
        products = [getattr(p, "product", None) for p in plans]  # of a linear layer, or of an embedding's
        products = [getattr(p, "product", p) for p in products if p is not None]
        assert sum(drawn) == sum(map(hints, products)) + sum(p.hints for p in plans if isinstance(p, StackedPlan)) > 0
        for number, one, _ in batch:
            states[number] = bare_states(one.graph, states[number])
    assert len(set(all_drawn)) == len(all_drawn) and True in parties.renewed


def test_tokens_go_on_over_a_renewal_from_states_that_are_older(monkeypatch):
    program, plan = numbers("layer norm, gelu")
    steps = [decode(program, past) if past else prefill(program, 1, leave_state=True) for past in range(5)]
    most = max(wear(plan, [(0, one, None)]) for one in steps)
    monkeypatch.setattr(session_keys, "WHOLE_KEY", 2.5 * most)
    parties, plain, all_ids = Parties(plan), InsecurePlainEngine(plan), random_ids(program)
    state, pairs, kept = {}, {}, {}
    for past, one in enumerate(steps):
        ids = all_ids[past : past + 1]
        [output] = parties.run((0, one, ids))
        expected = plain.run(one.graph, weights=one.weights, ids=ids)
        assert np.abs(output - expected).max() <= plain_tolerance(one, plan, ids, state, pairs) < np.abs(expected).max()
        _, state = interpret_step(one, ids, state)
        bare = bare_pairs(one.graph, pairs)
        pairs = {name: bare[value] for name, value in one.graph.state_out.items() if value in bare}
        own = parties.client._party
        now = {0: own.secret_keys[WEIGHTS], 1: own.secret_keys[SHARES], **own.slot_secrets, **own.peer_slot_keys}
        assert now.items() >= kept.items()  # the client's keys, and those of fields
        kept = now
    assert len(kept) > 2 and parties.renewed == [False, True, False, True]


def test_all_products_of_a_batch_count(monkeypatch):
    program, plan = numbers("softmax-only")
    parties, prompts, worn, expected = Parties(plan), first_tokens(program, 6), 0.0, []
    batches = (3, 1, 1, 2, 6, 1, 3)
    takes = [wear(plan, prompts[:count]) for count in batches]
    monkeypatch.setattr(session_keys, "WHOLE_KEY", 2.5 * max(takes))
    for count, take in zip(batches, takes, strict=True):
        parties.run(*prompts[:count])
        expected.append(worn + take > 2.5 * max(takes))
        worn = take if expected[-1] else worn + take
    assert parties.renewed == expected[1:] and True in expected and False in expected[1:]


def test_a_renewal_sends_one_key_and_counts_as_set_up(monkeypatch):
    program, plan = numbers("softmax-only")
    parties, [prompt] = Parties(plan), first_tokens(program, 1)
    monkeypatch.setattr(session_keys, "WHOLE_KEY", 3.5 * wear(plan, [prompt]))
    traffic: list[Traffic] = []
    reports = []
    for _ in range(5):
        parties.run(prompt)
        traffic.append(parties.client.traffic)
        rows = [dataclasses.replace(row, seconds=0.0, waiting_seconds=0.0) for row in parties.client.report]
        reports.append([row for row in rows if row.op != "ots"])  # refills come when they come
    sent = [(now - before).by_op.get("keys", Traffic()) for before, now in itertools.pairwise(traffic)]
    key = keys_cost((), (SHARES,))
    assert parties.renewed == [False, False, True, False]
    assert [(t.bytes_sent, t.bytes_received, t.messages) for t in sent] == [
        (0, key.bytes_server_to_client, 1) if renewed else (0, 0, 0) for renewed in parties.renewed
    ]
    assert [t.rounds for t in sent] == [0, 0, 0, 0]  # it travels with the output before it
    assert all(report == reports[1] for report in reports[1:])  # the run costs what it always does
    whole, parts = parties.client.traffic, [parties.client.set_up_cost, *parties.costs]
    for count, total in (
        (lambda cost: cost.bytes_client_to_server, whole.bytes_sent),
        (lambda cost: cost.bytes_server_to_client, whole.bytes_received),
        (lambda cost: cost.rounds, whole.rounds),
        (lambda cost: cost.messages, whole.messages),
    ):
        assert sum(map(count, parts)) == total


def test_preparing_a_run_renews_once(monkeypatch):
    program, plan = numbers("softmax-only")
    parties, [prompt] = Parties(plan), first_tokens(program, 1)
    monkeypatch.setattr(session_keys, "WHOLE_KEY", 1.5 * wear(plan, [prompt]))
    parties.run(prompt)
    graph, weights = prompt[1].graph, prompt[1].weights
    run_engines(lambda: parties.client.prepare(graph), lambda: parties.server.prepare(graph, weights))
    prepared = parties.client._party.peer_keys[SHARES].to_bytes()
    parties.run(prompt)
    assert parties.keys[0] != prepared == parties.keys[1]
