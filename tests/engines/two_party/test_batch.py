"""Several prompts in one run: each as the plain engine has it, in the rounds of one, for fewer bytes than apart."""

import dataclasses
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aero.compiler.positions import decode, prefill
from aero.compiler.quantize import quantize
from aero.cost.two_party import typical_plan
from aero.engines.engine import PromptRun
from aero.engines.insecure.plain import InsecurePlainEngine
from aero.engines.planning.declared import declared_batch
from aero.engines.planning.step_plans import bare_pairs, checked_schedule, stacked_plan
from aero.engines.reveal import LOGITS, TOKEN, Reveal
from aero.engines.spu.engine import SpuEngine
from aero.engines.two_party.engine import TwoPartyEngine
from aero.graph import Node, Program, interpret, interpret_step
from aero.graph.ring_plan import RingPlan
from aero.models import notation, presets
from aero.mpc.party import Role
from aero.structure import lowered
from aero.wire.memory import channel_pair
from conformance import stated
from programs import RUNGS, random_ids, random_program

LENGTH = 8
DOCUMENTATION = Path(__file__).parents[3] / "docs" / "operate" / "serving.md"
PATIENCE = 240.0
Batch = list[tuple[int, Program, np.ndarray]]
"""Of each prompt: its number, the program, the ids."""


def full_program(**rung: Any) -> tuple[Program, RingPlan]:
    program = random_program(length=LENGTH, layers=1, every_position=True, **rung)
    return program, quantize(program, [random_ids(program, seed) for seed in range(8)]).plan


def batch_of(program: Program, *parts: tuple[int, int, int]) -> Batch:
    """parts: of each prompt its number, how many tokens were read, and how many are."""
    made = []
    for prompt, past, length in parts:
        one = decode(program, past, length) if past else prefill(program, length, leave_state=True)
        made.append((prompt, one, random_ids(program, seed=prompt)[past : past + length]))
    return made


def both(ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[Any, Any]:
    with ThreadPoolExecutor(2) as pool:
        jobs = pool.submit(ours), pool.submit(theirs)
        return jobs[0].result(PATIENCE), jobs[1].result(PATIENCE)


class Parties:
    """Both engines, and the plain one beside them."""

    def __init__(self, plan: RingPlan, reveal: Reveal = LOGITS, vocabulary: int = 11) -> None:
        channels = channel_pair(timeout=PATIENCE)
        self.client, self.server = (TwoPartyEngine(p, c, plan) for p, c in zip(Role, channels, strict=True))
        self.plain = InsecurePlainEngine(plan)
        if reveal is not LOGITS:
            for engine in (self.client, self.server):
                engine.reveal_only(reveal, vocabulary)

    def run(self, batch: Batch) -> list[np.ndarray]:
        """The client's outputs."""
        asked = [PromptRun(program.graph, ids, number) for number, program, ids in batch]
        blind = [dataclasses.replace(one, ids=None) for one in asked]
        held = [PromptRun(program.graph, None, number, program.weights) for number, program, _ in batch]
        both(lambda: self.client.prepare_batch(blind), lambda: self.server.prepare_batch(held))
        outputs, nothing = both(lambda: self.client.run_batch(asked), lambda: self.server.run_batch(held))
        assert nothing == [None] * len(batch)
        return outputs

    def run_plain(self, batch: Batch) -> list[np.ndarray]:
        return self.plain.run_batch([PromptRun(one.graph, ids, number, one.weights) for number, one, ids in batch])


PREFILL = [(0, 0, 5), (1, 0, 3), (2, 0, 6)]
NEXT = [(0, 5, 1), (1, 3, 1), (2, 6, 1)]
AFTER = [(2, 7, 1), (1, 4, 1)]  # one prompt has ended, the others are in another order


@pytest.mark.parametrize("rung", ["softmax-only, scaled", "layer norm, gelu", "rotary, parallel, layer norm, gelu"])
def test_each_prompt_is_that_of_the_plain_engine(rung):
    program, plan = full_program(**RUNGS[rung])
    parties = Parties(plan)
    states: dict[int, dict[str, np.ndarray]] = {}
    bare: dict[int, dict[str, str]] = {}
    for parts in (PREFILL, NEXT, AFTER):
        batch = batch_of(program, *parts)
        found, expected = parties.run(batch), parties.run_plain(batch)
        for (number, one, ids), output, plain in zip(batch, found, expected, strict=True):
            state, pairs = states.get(number, {}), bare.get(number, {})
            exact, states[number] = interpret_step(one, ids, state)
            limit = stated.tolerance(one, ids, stated.protocols(one, plan, pairs), state)
            rounding = stated.tolerance(one, ids, stated.rounded(one, plan, 0.5), state)
            assert np.abs(output - exact).max() <= limit < np.abs(exact).max()
            assert np.abs(output - plain).max() <= limit + rounding
            left = bare_pairs(one.graph, pairs)
            bare[number] = {name: left[value] for name, value in one.graph.state_out.items() if value in left}


def spent(parties: Parties) -> dict[str, tuple[int, int, int]]:
    """Bytes up and down, and rounds, of the last run, by label; refills of OTs, which come when they come, left out."""
    rows = [row for row in parties.client.report if row.op != "ots" and row.rounds]
    return {row.label: (row.bytes_client_to_server, row.bytes_server_to_client, row.rounds) for row in rows}


def test_factors_of_each_row_are_the_prompts_own():
    rng = np.random.default_rng(0)
    weights = {"table": (11, 8), "w": (LENGTH, 8), "out.w": (8, 5)}
    nodes = [
        Node("x", "embedding", ("ids",), ("table",)),
        Node("y", "gain", ("x",), ("w",)),
        Node("out", "linear", ("y",), ("out.w",)),
    ]
    program = Program.of(LENGTH, nodes, {name: rng.normal(0, 1, shape) for name, shape in weights.items()}, "out")
    plan = quantize(program, [random_ids(program, seed) for seed in range(4)]).plan
    batch = batch_of(program, *PREFILL)
    for (_, one, ids), output in zip(batch, Parties(plan).run(batch), strict=True):
        limit = stated.tolerance(one, ids, stated.protocols(one, plan))
        assert np.abs(output - interpret(one, ids)).max() <= limit < 0.1


@pytest.mark.parametrize(
    ("rung", "reveal"),
    [
        ("softmax-only", LOGITS),
        ("softmax-only", Reveal(3)),
        ("layer norm, relu, scaled", TOKEN),
        ("rotary, parallel, layer norm, gelu", LOGITS),
    ],
)
def test_a_batch_sends_what_was_declared_in_the_rounds_of_one(rung, reveal):
    program, plan = full_program(**RUNGS[rung])
    together, alone = Parties(plan, reveal), Parties(plan, reveal)
    for parts in (PREFILL, NEXT):
        batch = batch_of(program, *parts)
        assert [output.shape for output in together.run(batch)] == [(1, 11)] * 3
        found = spent(together)
        declared = declared_batch([one.graph for _, one, _ in batch], plan, reveal=reveal)
        lines = [line for line in declared.lines if line.op != "ots"]
        for label in {line.label for line in lines}:
            costs = [line.cost for line in lines if line.label == label]
            sent = sum(c.bytes_client_to_server for c in costs), sum(c.bytes_server_to_client for c in costs)
            assert found[label][:2] == sent, label
        if parts is PREFILL:  # of a new session, refills too
            cost = together.client.cost
            assert (cost.rounds, cost.messages) == (declared.rounds, declared.total(lambda c: c.messages))
            assert cost.bytes_client_to_server == declared.total(lambda c: c.bytes_client_to_server)
            assert cost.bytes_server_to_client == declared.total(lambda c: c.bytes_server_to_client)

        apart = []
        for one in batch:
            alone.run([one])
            apart.append(spent(alone))
        assert set(found) == set(apart[0])
        for label, (_, _, rounds) in found.items():
            of_one = max(one[label][2] for one in apart)
            # More scores may make another plan of a softmax the cheapest, such as that in a window.
            assert rounds <= of_one if "softmax" in label else rounds == of_one, label
        if parts is NEXT:
            total = sum(up + down for up, down, _ in found.values())
            assert total < 0.8 * sum(up + down for one in apart for up, down, _ in one.values())


def test_prompts_that_begin_go_on_and_end_together():
    """A new prompt, one of a single token, a text that goes on and next tokens: formats and products are the same."""
    program, plan = full_program(**RUNGS["rotary, parallel, layer norm, gelu"])
    parties = Parties(plan)
    first = batch_of(program, (4, 0, 3), (5, 0, 4))
    mixed = batch_of(program, (6, 0, 1), (4, 3, 1), (7, 0, LENGTH), (5, 4, 3))
    for batch in (first, mixed):
        for output, plain in zip(parties.run(batch), parties.run_plain(batch), strict=True):
            assert np.abs(output - plain).max() < 0.05 * np.abs(plain).max()
    assert len(parties.client.report) == len({row.label for row in parties.client.report})


def test_what_is_held_does_not_grow_over_prompts():
    """Prompts end and others begin: both parties hold the states of those that go on, and nothing of the others."""
    program, plan = full_program()
    parties = Parties(plan)
    engines = parties.client, parties.server

    def held(engine: TwoPartyEngine) -> tuple[list[int], int]:
        shares = [share for state in engine._states.values() for share in state.values()]
        return sorted(engine._states), sum(share.values.nbytes for share in shares)

    for prompt in range(3):
        parties.run(batch_of(program, (prompt, 0, 4), (7, 0, 2)))
        parties.run(batch_of(program, (7, 2, 1)))
        sizes = {held(engine)[1] for engine in engines}
        assert [held(engine)[0] for engine in engines] == [[prompt, 7]] * 2
        for engine in engines:
            engine.forget(prompt)
            assert held(engine)[0] == [7] and 0 < held(engine)[1] < min(sizes)
    after = [held(engine) for engine in engines]
    parties.run(batch_of(program, (7, 0, 3)))  # anew: as long as it was
    assert [held(engine) for engine in engines] == after
    for engine in engines:
        engine.forget(7)
        engine.forget(11)
        assert engine._states == engine._bare == {}
    [(_, next_one, ids)] = batch_of(program, (7, 3, 1))
    with pytest.raises(ValueError, match="reads the state"):
        parties.client.run_batch([PromptRun(next_one.graph, ids, 7)])


def test_a_single_prompt_is_a_batch_of_one():
    program, plan = full_program()
    batch = batch_of(program, (3, 0, 5))
    numbered, plain = Parties(plan), Parties(plan)
    numbered.run(batch)
    one = batch[0][1]
    weights = one.weights
    both(lambda: plain.client.prepare(one.graph), lambda: plain.server.prepare(one.graph, weights))
    both(lambda: plain.client.run(one.graph, ids=batch[0][2]), lambda: plain.server.run(one.graph, weights=weights))
    assert spent(numbered) == spent(plain)
    assert numbered.client.set_up_cost.messages == plain.client.set_up_cost.messages


def test_products_of_shares_are_stacked_where_that_takes_fewer_bytes():
    program, plan = full_program()
    for parts, stacked in ((NEXT, True), ([(0, 0, 1), (1, 0, LENGTH)], None), ([(0, 0, 4), (1, 0, 4)], True)):
        steps = checked_schedule([one.graph for _, one, _ in batch_of(program, *parts)], plan).steps
        for op in ("scores", "attend"):
            few = [next(step for step in mine if step.node.op == op) for mine in steps]
            together = stacked_plan(*few)
            assert sorted(i for members in together.members for i in members) == list(range(len(parts)))
            alone = sum(stacked_plan(step).cost().total_bytes for step in few)
            assert together.cost().total_bytes <= alone
            if stacked:
                assert len(together.plans) == 1


OTHERS = {
    "computes": dict(activation="relu"),
    "the attributes": dict(heads=4),
    "the weights' sizes": dict(width=16),
}


@pytest.mark.parametrize("what", OTHERS)
def test_graphs_of_other_models_are_refused(what):
    program, plan = full_program()
    other = random_program(length=LENGTH, layers=1, every_position=True, **OTHERS[what])
    others = quantize(other, [random_ids(other)]).plan
    plan = RingPlan({**others.values, **plan.values}, {**others.weights, **plan.weights}, {}, plan.windows)
    graphs = [prefill(program, 4).graph, prefill(other, 5).graph]
    with pytest.raises(ValueError, match=f"one model.*{what}"):
        checked_schedule(graphs, plan)


def test_graphs_with_other_outputs_are_refused():
    """The same nodes of the same weights, of which they open different ones: the rows of two values."""
    nodes = [
        Node("x", "embedding", ("ids",), ("table",)),
        Node("y", "linear", ("x",), ("w",)),
        Node("first", "rows", ("y",), (), {"start": 0, "stop": 1}),
        Node("second", "rows", ("y",), (), {"start": 1, "stop": 2}),
        Node("narrow", "linear", ("second",), ("v",)),
    ]
    weights = {"table": np.ones((11, 8)), "w": np.ones((8, 5)), "v": np.ones((5, 3))}
    program = Program.of(4, nodes, weights, "narrow", state_out={"first.past": "first", "y.past": "y"})
    graphs = [dataclasses.replace(program.graph, output=output) for output in ("first", "second", "narrow")]
    plan = RingPlan.uniform(program.graph, 12)
    for one, other in ((0, 1), (1, 2), (2, 0)):
        named = f"one's output is '{graphs[one].output}', another's '{graphs[other].output}'"
        with pytest.raises(ValueError, match=f"one model.*{named}"):
            checked_schedule([graphs[one], graphs[other]], plan)
    checked_schedule(graphs[:1] * 2, plan)


def test_outputs_of_one_name_that_are_rows_of_different_values_are_refused():
    weights = {"table": np.ones((11, 8)), "w": np.ones((8, 5))}
    graphs = []
    for source in ("x", "y"):
        nodes = [
            Node("x", "embedding", ("ids",), ("table",)),
            Node("y", "linear", ("x",), ("w",)),
            Node("last", "rows", (source,), (), {"start": 3, "stop": 4}),
        ]
        graphs.append(Program.of(4, nodes, weights, "last", state_out={"y.past": "y"}).graph)
    with pytest.raises(ValueError, match=r"one model.*the output 'last', \(8,\) in .* and \(5,\) in"):
        checked_schedule(graphs, RingPlan.uniform(graphs[0], 12))


def test_what_a_batch_refuses():
    program, plan = full_program()
    (client_channel, _) = channel_pair()
    engine = TwoPartyEngine(Role.CLIENT, client_channel, plan)
    (_, one, ids), (_, next_one, next_ids) = batch_of(program, (0, 0, 4))[0], batch_of(program, (0, 4, 1))[0]
    for refuse in (engine.run_batch, engine.prepare_batch, InsecurePlainEngine(plan).run_batch):
        with pytest.raises(ValueError, match="at least one prompt"):
            refuse([])
        with pytest.raises(ValueError, match="the prompt 7 stands in a batch twice"):
            refuse([PromptRun(one.graph, ids, 6), PromptRun(one.graph, ids, 7), PromptRun(one.graph, ids, 7)])
    with pytest.raises(ValueError, match="reads the state"):
        engine.run_batch([PromptRun(one.graph, ids, 1), PromptRun(next_one.graph, next_ids, 2)])
    assert client_channel.traffic.messages == 0 and not client_channel.ended  # nothing was sent; it can be used
    with pytest.raises(ValueError, match="one prompt at a time"):
        SpuEngine.run_batch(object.__new__(SpuEngine), [PromptRun(one.graph), PromptRun(one.graph, None, 1)])


def test_matrices_are_encoded_once_for_batches_of_any_size():
    """Prompts that end make batches smaller: other plans, of the same numbers."""
    program, plan = full_program()
    server = TwoPartyEngine(Role.SERVER, channel_pair()[1], plan)
    stages = {}
    for count in range(2, 9):
        graphs = [decode(program, 3).graph] * count
        states = [{}] * count
        groups = [s.groups for s in checked_schedule(graphs, plan, states).stages if s.op == "linear"]
        server._loaded.load(groups, program.weights | decode(program, 3).weights)
        stages[count] = [server._loaded.of(several) for several in groups]
    for several in zip(*stages.values(), strict=True):
        assert len({loaded.plan for loaded in several}) == len(several)
        assert len({part.ctypes.data for loaded in several for part in loaded.encoded.parts}) == len(
            several[0].encoded.parts
        )


def test_the_costs_that_the_documentation_states():
    size = dataclasses.replace(presets.size("gpt2-small"), context=129)
    graph = lowered(notation.parse("SM+ScFuFFN"), size, every_position=True)
    nothing = np.zeros(())
    weights = {name: np.broadcast_to(nothing, shape) for name, shape in graph.weight_shapes.items()}
    one = decode(Program(graph, weights), 128).graph
    rows = re.findall(
        r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \| (\d+) \| (\d+) \|$", DOCUMENTATION.read_text(), re.MULTILINE
    )
    assert [row[0] for row in rows] == ["1", "2", "4", "8"]
    for prompts, *stated_costs in rows:
        count = int(prompts)
        own = [line for line in declared_batch([one] * count, typical_plan(one)).lines if line.op != "ots"]
        megabytes, rounds = sum(line.cost.total_bytes for line in own) / 1e6, sum(line.rounds for line in own)
        assert stated_costs == [f"{megabytes:.1f}", f"{megabytes / count:.1f}", f"{rounds}", f"{rounds / count:.0f}"]
