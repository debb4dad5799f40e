"""Our own two-party protocols as an engine: every operation of a graph, between a client and a server.

No dealer, no third party. Semi-honest security; not audited. docs/security/.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import numpy as np

from aero.engines.engine import Cost, Engine, Progress, StepReport
from aero.engines.engine import Party as EngineParty
from aero.engines.on_shares import Extension, Protocols, Step, angles_digest, group_label, joined, state_format, walk
from aero.engines.open_output import open_output
from aero.engines.plain import encode
from aero.engines.reveal import LOGITS, Reveal
from aero.engines.step_plans import (
    OTS,
    OUTPUT,
    bare_pairs,
    checked_steps,
    columns_of,
    embedding_plan,
    function_plan,
    group_cost,
    has_row_gains,
    keys_needed,
    linear_plan,
    needs_ots,
    pair_plan,
    row_gain_plan,
)
from aero.engines.weight_store import WeightStore
from aero.graph import Graph
from aero.graph.interpret import check_ids
from aero.graph.ring_plan import RingPlan
from aero.mpc.cost import ProtocolCost
from aero.mpc.fixed_point import to_ring
from aero.mpc.functions.gelu import gelu
from aero.mpc.functions.norm import norm
from aero.mpc.functions.relu import relu
from aero.mpc.functions.softmax import causal_softmax
from aero.mpc.ot.supply import set_up_ots
from aero.mpc.ot.transfer import together
from aero.mpc.party import Party, Role
from aero.mpc.protocols.agree import agree
from aero.mpc.protocols.embedding import look_up_rows
from aero.mpc.protocols.extend import extension
from aero.mpc.protocols.keys import exchange_keys
from aero.mpc.protocols.known_factor import multiply_known
from aero.mpc.protocols.linear import multiply_weights
from aero.mpc.protocols.pair import multiply_shares
from aero.mpc.share import Share, input_shares
from aero.wire import Channel, Traffic

FUNCTIONS: dict[str, Any] = {
    "causal_softmax": causal_softmax,
    "gelu": gelu,
    "layer_norm": norm,
    "rms_norm": norm,
    "relu": relu,
}


class TwoPartyEngine(Engine):
    """One party, over a channel to the other.

    plan: the ring plan, equal at both parties. A failure ends the channel; an engine is not used again after one.

    Error: a product is off by at most its declared number of steps, except with probability 2^-60 for each number, so
    2^-36 for the 2^24 products of GPT-2 small at 128 tokens; a truncation by one step; others as their plans state.
    """

    name: ClassVar[str] = "two-party"
    insecure: ClassVar[bool] = False

    def __init__(
        self, party: EngineParty, channel: Channel, plan: RingPlan, *, progress: Progress | None = None
    ) -> None:
        self._party = Party(Role.CLIENT if party is EngineParty.CLIENT else Role.SERVER, channel)
        self._plan = plan
        self._progress = progress
        self._state: dict[str, Share] = {}
        self._bare: dict[str, str] = {}
        self._loaded = WeightStore(plan)
        self._agreed: set[str] = set()
        self._reveal, self._vocabulary = LOGITS, 0
        self._keyed: dict[Role, set[Any]] = {role: set() for role in Role}
        self._report: tuple[StepReport, ...] = ()
        self._cost: Cost | None = None
        self._set_up = Cost(0.0, 0, 0, 0, 0)

    def prepare(self, graph: Graph, weights: Mapping[str, np.ndarray] | None = None) -> None:
        """Make plans, load the server's weights, compare graph and ring plan with the other party's, and exchange the
        keys that are missing. `run` does it where it was not done. ValueError, naming the node, for a graph that cannot
        be run or weights whose noise would not fit, and at both parties where they differ; any ends the channel."""
        with self._ending():
            self._prepare(graph, weights)

    def _prepare(self, graph: Graph, weights: Mapping[str, np.ndarray] | None) -> None:
        start, before = time.perf_counter(), self._party.channel.traffic
        steps = checked_steps(graph, self._plan, self._bare, self._reveal)
        groups = joined(graph, steps)
        weighted = [group for group in groups if group[0].node.op in ("linear", "gain", "embedding")]
        if self._party.role is Role.SERVER:
            if weights is None:
                raise ValueError("the server gives the weights")
            self._loaded.load(weighted, weights)
        missing = self._keys_missing(groups)
        with self._party.channel.op("keys"):
            if graph.digest not in self._agreed:
                revealed = [str(self._reveal), self._vocabulary]
                public = {"graph": graph.to_json(), "ring plan": self._plan.to_json(), "output revealed": revealed}
                public["rotary angles (install the same version of numpy)"] = angles_digest(steps)
                agree(self._party, public)
                self._agreed.add(graph.digest)
            exchange_keys(self._party, *missing)
        if not self._party.has_ots and needs_ots(groups, self._reveal):
            set_up_ots(self._party)
        spent = self._cost_of(self._party.channel.traffic - before, time.perf_counter() - start)
        self._set_up = Cost(*(a + b for a, b in zip(vars(self._set_up).values(), vars(spent).values(), strict=True)))

    def _keys_missing(self, groups: Sequence[tuple[Step, ...]]) -> tuple[list[Any], list[Any]]:
        """The parameters under which the client, and the server, has no key yet."""
        needed = keys_needed(groups)
        missing = (
            [p for p in needed.client if p not in self._keyed[Role.CLIENT]],
            [p for p in needed.server if p not in self._keyed[Role.SERVER]],
        )
        for role, several in zip(Role, missing, strict=True):
            self._keyed[role].update(several)
        return missing

    def share_state(self, graph: Graph, name: str, value: np.ndarray | None = None) -> None:
        """Share a matrix of the client's, float64, as a state that `graph` reads; the client gives `value`."""
        if name not in graph.state_in:
            raise ValueError(f"the graph reads no state {name!r}; it reads {sorted(graph.state_in)}")
        shape, held = graph.state_in[name], state_format(graph, self._plan, name)
        encoded = None
        if self._party.is_client:
            if value is None or value.shape != shape:
                raise ValueError(f"the client gives the state {name!r}, of shape {list(shape)}")
            encoded = to_ring(encode(name, value, held), held.bits)
        with self._ending(), self._party.channel.op("input"):
            self._state[name] = input_shares(self._party, Role.CLIENT, shape, held.bits, held.fraction_bits, encoded)
        self._bare.pop(name, None)

    def reveal_only(self, what: Reveal, vocabulary: int) -> None:
        if vocabulary < 1:
            raise ValueError(f"an output of {vocabulary} tokens has none to reveal")
        self._reveal, self._vocabulary = what, vocabulary
        self._agreed.clear()

    def run(
        self, graph: Graph, *, weights: Mapping[str, np.ndarray] | None = None, ids: np.ndarray | None = None
    ) -> np.ndarray | None:
        if self._party.is_client and weights is not None:
            raise ValueError("the client gives no weights")
        if not self._party.is_client and ids is not None:
            raise ValueError("the server gives no ids")
        if ids is not None:
            check_ids(ids, graph.length)
        for name, shape in graph.state_in.items():
            if name not in self._state or self._state[name].shape != shape:
                raise ValueError(f"the graph reads the state {name!r}: share_state it, or run what leaves it, first")
        with self._ending():
            self._prepare(graph, weights)
            return self._run(graph, weights, ids)

    def _run(self, graph: Graph, weights: Mapping[str, np.ndarray] | None, ids: np.ndarray | None) -> np.ndarray | None:
        party = self._party
        start, before = time.perf_counter(), party.channel.traffic
        steps = checked_steps(graph, self._plan, self._bare, self._reveal)
        state = {name: self._state[name] for name in graph.state_in}
        clock = _Clock(party.channel)
        protocols = _TwoParty(party, self._loaded, clock)
        output, self._state = walk(
            party, graph, self._plan, steps, protocols, weights=weights, ids=ids, state=state, progress=self._progress
        )
        bare = bare_pairs(graph, self._bare)
        self._bare = {name: bare[value] for name, value in graph.state_out.items() if value in bare}

        with ExitStack() as scope:

            def begin(cost: ProtocolCost) -> None:
                scope.close()  # OTs are counted apart
                protocols.reserve(cost)
                clock.begin(OUTPUT, OUTPUT)
                scope.enter_context(party.channel.op(OUTPUT))

            begin(ProtocolCost())
            opened = open_output(party, output, graph.output, self._reveal, self._vocabulary, begin)
        clock.end()
        traffic = party.channel.traffic - before
        self._cost = self._cost_of(traffic, time.perf_counter() - start)
        self._report = tuple(self._reported(traffic, *row) for row in clock.rows)
        return opened

    @property
    def cost(self) -> Cost:
        if self._cost is None:
            raise ValueError("this engine has not run a graph yet")
        return self._cost

    @property
    def report(self) -> tuple[StepReport, ...]:
        return self._report

    @property
    def set_up_cost(self) -> Cost:
        """Key exchange and encoding of the weights, of all graphs so far."""
        return self._set_up

    @property
    def traffic(self) -> Traffic:
        """Everything that the channel counted, by node."""
        return self._party.channel.traffic

    def close(self) -> None:
        self._party.channel.close()
        self._loaded.clear()
        self._state.clear()

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

    def _cost_of(self, traffic: Traffic, seconds: float) -> Cost:
        up, down = traffic.bytes_sent, traffic.bytes_received
        if not self._party.is_client:
            up, down = down, up
        return Cost(seconds, up, down, traffic.rounds, traffic.messages)


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

    def __init__(self, party: Party, loaded: WeightStore, clock: _Clock) -> None:
        self._party, self._loaded, self._clock = party, loaded, clock

    def begin(self, group: tuple[Step, ...], wider: tuple[Extension, ...]) -> None:
        self.reserve(group_cost(group, wider))
        self._clock.begin(group_label(group), group[0].node.op)

    def reserve(self, cost: ProtocolCost) -> None:
        """Have the OTs ready that this takes."""
        if cost.ots_from_client or cost.ots_from_server:
            self._clock.begin(OTS, OTS)
            counts = cost.ots_from_client, cost.ots_from_server
            self._party.ots.reserve(*(counts if self._party.is_client else reversed(counts)))

    def linear(self, steps: tuple[Step, ...], x: Share) -> list[Share]:
        weights = None if self._party.is_client else self._loaded.of(steps)
        if has_row_gains(steps[0]):
            y = multiply_known(self._party, row_gain_plan(steps[0]), x, 0, weights)
            y = y.of(y.values, fraction_bits=steps[0].output.fraction_bits + steps[0].dropped)
            return [y.truncated(steps[0].dropped)]
        y = multiply_weights(self._party, linear_plan(steps), x, 0, weights)
        ends = np.cumsum([columns_of(step) for step in steps])[:-1]
        parts = np.split(y.values, ends, axis=1)
        return [Share(v, s.output.bits, s.output.fraction_bits) for v, s in zip(parts, steps, strict=True)]

    def pair(self, step: Step, x: Share, y: Share) -> Share:
        return multiply_shares(self._party, pair_plan(step), x, y)

    def extend(self, values: Sequence[Share], bits: Sequence[int]) -> list[Share]:
        jobs = [extension(self._party, x, to) for x, to in zip(values, bits, strict=True)]
        return together(self._party, *jobs)

    def nonlinear(self, step: Step, x: Share) -> Share:
        plan = function_plan(step)
        return FUNCTIONS[step.node.op](self._party, plan, x.reduced(plan.input_bits))

    def embedding(self, step: Step, ids: np.ndarray | None) -> Share:
        table = None if self._party.is_client else self._loaded.of((step,))
        return look_up_rows(self._party, embedding_plan(step), step.output.fraction_bits, ids, table)
