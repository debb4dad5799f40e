"""Our own two-party protocols as an engine: every operation of a graph, between a client and a server.

No dealer, no third party. Semi-honest security; not audited. docs/security/.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from aero.engines.engine import NOTHING, Engine, Progress, PromptRun, RunCost, StepReport, check_batch, first_rows
from aero.engines.on_shares import Protocols, angles_digest, check_states, walk
from aero.engines.planning.session_keys import SessionKeys, check_wear
from aero.engines.planning.stages import Schedule, Stage
from aero.engines.planning.step_plans import (
    NO_STATES,
    OTS,
    OUTPUT,
    bare_states,
    checked_schedule,
    embedding_plan,
    function_plan,
    keys_needed,
    linear_plan,
    needs_ots,
    ots_ahead,
    row_gain_plan,
    stacked_plan,
    wear_of,
)
from aero.engines.planning.steps import Group, Step, columns_of, has_row_gains, state_format
from aero.engines.reveal import LOGITS, Reveal
from aero.engines.two_party.open_output import open_output
from aero.engines.two_party.weight_store import WeightStore
from aero.graph import Graph
from aero.graph.interpret import check_ids
from aero.graph.ring_plan import RingPlan
from aero.mpc.cost import ProtocolCost
from aero.mpc.fixed_point import to_ring
from aero.mpc.ot.supply import set_up_ots
from aero.mpc.ot.transfer import together
from aero.mpc.party import Party, Role
from aero.mpc.protocols.agree import agree
from aero.mpc.protocols.extend import extension
from aero.mpc.protocols.keys import drop_keys, exchange_keys
from aero.mpc.share import Share, concatenate, input_shares, split
from aero.wire import Channel, Traffic

_Asked = tuple[list[str], list[Mapping[str, str]], Reveal]
"""What a schedule depends on: the graphs, which states carry noise, and what is opened."""


class TwoPartyEngine(Engine):
    """One party, over a channel to the other.

    plan: the ring plan, equal at both parties. store: the server's weights as encoded before, which engines may share,
    in this process or in ones that are forked. A failure ends the channel; an engine is not used again after one.

    The server's keys for products of shares bear a number of hints (`aero.mpc.hints`), and are then made anew.

    Error: a product is off by at most its declared number of steps, except with probability 2^-60 for each number, so
    2^-36 for the 2^24 products of GPT-2 small at 128 tokens; a truncation by one step; others as their plans state.
    """

    name: ClassVar[str] = "two-party"
    insecure: ClassVar[bool] = False
    cuts: ClassVar[bool] = True

    def __init__(
        self,
        role: Role,
        channel: Channel,
        plan: RingPlan,
        *,
        progress: Progress | None = None,
        store: WeightStore | None = None,
    ) -> None:
        self._party = Party(role, channel)
        self._plan = plan
        self._progress = progress
        self._states: dict[int, dict[str, Share]] = {}
        self._bare: dict[int, Mapping[str, str]] = {}
        self._loaded = WeightStore(plan) if store is None else store
        self._agreed: set[tuple[tuple[int, str], ...]] = set()
        self._scheduled: tuple[_Asked, Schedule] | None = None
        self._reveal, self._vocabulary = LOGITS, 0
        self._keys = SessionKeys()
        self._report: tuple[StepReport, ...] = ()
        self._cost: RunCost | None = None
        self._set_up = NOTHING

    def prepare(self, graph: Graph, weights: Mapping[str, np.ndarray] | None = None) -> None:
        """Make plans, load the server's weights, compare graph and ring plan with the other party's, and exchange the
        keys that are missing. `run` does it where it was not done. ValueError, naming the node, for a graph that cannot
        be run or weights whose noise would not fit, and at both parties where they differ; any ends the channel."""
        self.prepare_batch([PromptRun(graph, weights=weights)])

    def prepare_batch(self, batch: Sequence[PromptRun]) -> None:
        """The same for a batch, whose ids are not looked at."""
        check_batch(batch)
        with self._ending():
            self._prepare(batch)

    def _prepare(self, batch: Sequence[PromptRun]) -> Schedule:
        start, before = time.perf_counter(), self._party.channel.traffic
        schedule = self._schedule(batch)
        stages = schedule.stages
        if self._party.role is Role.SERVER:
            self._load(schedule, batch)
        if self._keys.drop_worn(wear_of(stages)):
            drop_keys(self._party, Role.SERVER)
        missing = self._keys.add_missing(keys_needed(stages))
        with self._party.channel.op("keys"):
            agreed = tuple((run.prompt, run.graph.digest) for run in batch)
            if agreed not in self._agreed:
                steps = [step for steps in schedule.steps for step in steps]
                public = {
                    "graph": agreed,
                    "ring plan": self._plan.to_json(),
                    "output revealed": [str(self._reveal), self._vocabulary],
                    "rotary angles (install the same version of numpy)": angles_digest(steps),
                }
                agree(self._party, public)
                self._agreed.add(agreed)
            exchange_keys(self._party, *missing)
        if not self._party.has_ots and needs_ots(stages, self._reveal):
            set_up_ots(self._party)
        spent = self._cost_of(self._party.channel.traffic - before, time.perf_counter() - start)
        self._set_up += spent
        return schedule

    def load(self, batch: Sequence[PromptRun]) -> None:
        if self._party.is_client:
            raise ValueError("the client has no weights to load")
        check_batch(batch)
        schedule = self._schedule(batch)
        check_wear(wear_of(schedule.stages))
        self._load(schedule, batch)

    def _load(self, schedule: Schedule, batch: Sequence[PromptRun]) -> None:
        if any(run.weights is None for run in batch):
            raise ValueError("the server gives the weights")
        weights = {name: w for run in batch for name, w in (run.weights or {}).items()}
        self._loaded.load([stage.groups for stage in schedule.stages], weights)

    def _schedule(self, batch: Sequence[PromptRun]) -> Schedule:
        """The last schedule is kept, for `load` or `prepare`, and then `run`, of the same batch."""
        states = [self._bare.get(run.prompt, NO_STATES) for run in batch]
        key: _Asked = [run.graph.digest for run in batch], states, self._reveal
        if self._scheduled is None or self._scheduled[0] != key:
            found = checked_schedule([run.graph for run in batch], self._plan, states, self._reveal)
            self._scheduled = key, found
        return self._scheduled[1]

    def share_state(self, graph: Graph, name: str, value: np.ndarray | None = None, prompt: int = 0) -> None:
        """Share a matrix of the client's, float64, as a state that `graph` reads; the client gives `value`."""
        if name not in graph.state_in:
            raise ValueError(f"the graph reads no state {name!r}; it reads {sorted(graph.state_in)}")
        shape, fmt = graph.state_in[name], state_format(graph, self._plan, name)
        encoded = None
        if self._party.is_client:
            if value is None or value.shape != shape:
                raise ValueError(f"the client gives the state {name!r}, of shape {list(shape)}")
            encoded = to_ring(fmt.encode(value, name), fmt.bits)
        with self._ending(), self._party.channel.op("input"):
            shared = input_shares(self._party, Role.CLIENT, shape, fmt.bits, fmt.fraction_bits, encoded)
        self._states.setdefault(prompt, {})[name] = shared
        self._bare[prompt] = {other: pair for other, pair in self._bare.get(prompt, {}).items() if other != name}

    def reveal_only(self, what: Reveal, vocabulary: int) -> None:
        if vocabulary < 1:
            raise ValueError(f"an output of {vocabulary} tokens has none to reveal")
        self._reveal, self._vocabulary = what, vocabulary
        self._agreed.clear()

    def run(
        self, graph: Graph, *, weights: Mapping[str, np.ndarray] | None = None, ids: np.ndarray | None = None
    ) -> np.ndarray | None:
        return self.run_batch([PromptRun(graph, ids, weights=weights)])[0]

    def run_batch(self, batch: Sequence[PromptRun]) -> list[np.ndarray | None]:
        check_batch(batch)
        for run in batch:
            if self._party.is_client and run.weights is not None:
                raise ValueError("the client gives no weights")
            if not self._party.is_client and run.ids is not None:
                raise ValueError("the server gives no ids")
            if run.ids is not None:
                check_ids(run.ids, run.graph.length)
            check_states(run.graph, self._plan, self._states.get(run.prompt, {}))
        with self._ending():
            return self._run(batch, self._prepare(batch))

    def _run(self, batch: Sequence[PromptRun], schedule: Schedule) -> list[np.ndarray | None]:
        party = self._party
        start, before = time.perf_counter(), party.channel.traffic
        states = [self._taken(run) for run in batch]
        clock = _Clock(party.channel)
        protocols = _TwoParty(party, self._loaded, clock, schedule.stages)
        ids = [run.ids for run in batch]
        found = walk(party, schedule, protocols, ids=ids, states=states, progress=self._progress)
        for run, (_, state) in zip(batch, found, strict=True):
            bare = bare_states(run.graph, self._bare.pop(run.prompt, NO_STATES))
            if state:
                self._states[run.prompt], self._bare[run.prompt] = state, bare
        outputs = [output for output, _ in found]
        self._keys.worn += wear_of(schedule.stages)

        with ExitStack() as scope:

            def begin(cost: ProtocolCost) -> None:
                scope.close()  # OTs are counted apart
                protocols.reserve(cost)
                clock.begin(OUTPUT, OUTPUT)
                scope.enter_context(party.channel.op(OUTPUT))

            begin(ProtocolCost())
            what = batch[0].graph.output
            opened = open_output(party, concatenate(outputs), what, self._reveal, self._vocabulary, begin)
        clock.end()
        traffic = party.channel.traffic - before
        self._cost = self._cost_of(traffic, time.perf_counter() - start)
        self._report = tuple(self._reported(traffic, *row) for row in clock.rows)
        if opened is None:
            return [None] * len(batch)
        return list(np.split(opened, np.cumsum([len(output.values) for output in outputs])[:-1]))

    def cut(self, prompt: int, tokens: int) -> None:
        states = self._states.get(prompt, {})
        self._states[prompt] = {name: x.of(first_rows(x.values, tokens)) for name, x in states.items()}

    def forget(self, prompt: int) -> None:
        self._states.pop(prompt, None)
        self._bare.pop(prompt, None)

    def _taken(self, run: PromptRun) -> dict[str, Share]:
        """What the graph reads of a prompt's state; what the run leaves comes in its place."""
        states = self._states.pop(run.prompt, {})
        return {name: states[name] for name in run.graph.state_in}

    @property
    def cost(self) -> RunCost:
        if self._cost is None:
            raise ValueError("this engine has not run a graph yet")
        return self._cost

    @property
    def report(self) -> tuple[StepReport, ...]:
        return self._report

    @property
    def set_up_cost(self) -> RunCost:
        """Key exchange, renewed keys included, and encoding of the weights, of all graphs so far."""
        return self._set_up

    @property
    def tallies(self) -> dict[str, int]:
        ots = self._party.ots.made if self._party.has_ots else 0
        return {"oblivious_transfers": ots, "keys_renewed": self._keys.renewed}

    @property
    def traffic(self) -> Traffic:
        """Everything that the channel counted, by node."""
        return self._party.channel.traffic

    def close(self) -> None:
        self._party.channel.close()
        self._states.clear()

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """End the channel when something fails, so that the other party learns of it at once, and nothing of an aborted
        run is ever used again."""
        try:
            yield
        except BaseException as error:
            self._party.channel.__exit__(type(error), error, error.__traceback__)
            raise

    def _reported(self, traffic: Traffic, label: str, op: str, seconds: float, waiting: float) -> StepReport:
        found = self._cost_of(traffic.by_op.get(label, Traffic()), seconds)
        up, down, rounds = found.bytes_client_to_server, found.bytes_server_to_client, found.rounds
        assert up is not None and down is not None and rounds is not None
        return StepReport(label, op, up, down, rounds, seconds, waiting)

    def _cost_of(self, traffic: Traffic, seconds: float) -> RunCost:
        up, down = traffic.bytes_sent, traffic.bytes_received
        if not self._party.is_client:
            up, down = down, up
        return RunCost(seconds, up, down, traffic.rounds, traffic.messages)


class _Clock:
    """Wall time and time waited for the other party, by label."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._found: dict[tuple[str, str], tuple[float, float]] = {}
        self._current: tuple[tuple[str, str], float, float] | None = None

    def begin(self, label: str, op: str) -> None:
        """What follows belongs to this label."""
        self.end()
        self._current = (label, op), time.perf_counter(), self._channel.seconds_waited

    def end(self) -> None:
        if self._current is not None:
            key, started, waited = self._current
            seconds, waiting = self._found.get(key, (0.0, 0.0))
            seconds += time.perf_counter() - started
            self._found[key] = seconds, waiting + self._channel.seconds_waited - waited
        self._current = None

    @property
    def rows(self) -> list[tuple[str, str, float, float]]:
        return [(*key, *times) for key, times in self._found.items()]


class _TwoParty(Protocols):
    """The protocols of `aero.mpc`."""

    def __init__(self, party: Party, loaded: WeightStore, clock: _Clock, stages: Sequence[Stage]) -> None:
        self._party, self._loaded, self._clock = party, loaded, clock
        self._ahead = iter(ots_ahead(stages))

    def begin(self, stage: Stage) -> None:
        self.reserve(next(self._ahead))
        self._clock.begin(stage.label, stage.op)

    def reserve(self, cost: ProtocolCost) -> None:
        """Have the OTs ready that this takes."""
        if cost.ots_from_client or cost.ots_from_server:
            self._clock.begin(OTS, OTS)
            counts = cost.ots_from_client, cost.ots_from_server
            self._party.ots.reserve(*(counts if self._party.is_client else reversed(counts)))

    def added(self, step: Step, name: str) -> NDArray[np.int64] | None:
        return None if self._party.is_client else self._loaded.added(step, name)

    def linear(self, groups: Sequence[Group], xs: Sequence[Share]) -> list[list[Share]]:
        first, rows = groups[0][0], [len(x.values) for x in xs]
        if has_row_gains(first):
            factors = None if self._party.is_client else self._loaded.factors(groups)
            y = row_gain_plan(*(group[0] for group in groups)).run(self._party, concatenate(xs), 0, factors)
            y = y.of(y.values, fraction_bits=first.output.fraction_bits + first.dropped).truncated(first.dropped)
            return [[part] for part in split(y, rows)]
        weights = None if self._party.is_client else self._loaded.of(groups)
        y = linear_plan(*groups).run(self._party, concatenate(xs), 0, weights)
        ends = np.cumsum([columns_of(step) for step in groups[0]])[:-1]
        return [
            [
                Share(values, step.output.bits, step.output.fraction_bits)
                for values, step in zip(np.split(part.values, ends, axis=1), group, strict=True)
            ]
            for part, group in zip(split(y, rows), groups, strict=True)
        ]

    def pair(self, steps: Sequence[Step], factors: Sequence[tuple[Share, Share]]) -> list[Share]:
        return stacked_plan(*steps).run(self._party, factors)

    def extend(self, values: Sequence[Share], bits: Sequence[int]) -> list[Share]:
        jobs = [extension(self._party, x, to) for x, to in zip(values, bits, strict=True)]
        return together(self._party, *jobs)

    def function(self, steps: Sequence[Step], inputs: Sequence[Sequence[Share]]) -> list[Share]:
        plan = function_plan(*steps)
        reads = plan.reads
        together = (concatenate([x.reduced(reads.bits).reshape(-1) for x in xs]) for xs in zip(*inputs, strict=True))
        y = plan.run(self._party, *(flat.reshape(*reads.shape) for flat in together)).reshape(-1)
        shapes = [values[0].shape for values in inputs]
        parts = split(y, [math.prod(shape) for shape in shapes])
        return [part.reshape(*shape) for part, shape in zip(parts, shapes, strict=True)]

    def embedding(self, steps: Sequence[Step], ids: Sequence[np.ndarray | None]) -> list[Share]:
        groups, given = [(step,) for step in steps], [mine for mine in ids if mine is not None]
        table = None if self._party.is_client else self._loaded.of(groups)
        all_ids = np.concatenate(given) if given else None
        rows = embedding_plan(*steps).run(self._party, steps[0].output.fraction_bits, all_ids, table)
        return split(rows, [step.input_shapes[0][0] for step in steps])
