"""Our own two-party protocols as an engine: today, everything linear.

Products of the server's weights with shared values, products of shared values with each other, sums, moves. Nonlinear
operations, the embedding of private ids, and bringing a value into a larger ring have no protocol here yet: a graph
that needs one is refused, by the name of the node, before anything is sent. So values start in rings large enough for
all that is dropped on the way; a matrix enters as a state (`share_state`).

No dealer, no third party. Semi-honest security; not audited. docs/security/.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from aero.engines.engine import Cost, Engine, Progress
from aero.engines.engine import Party as EngineParty
from aero.engines.on_shares import PRODUCTS, Protocols, Step, group_label, joined, plan_steps, walk
from aero.engines.plain import decode, encode
from aero.graph import OPS, Graph
from aero.graph.interpret import check_ids
from aero.graph.ring_plan import Format, RingPlan
from aero.mpc.cost import ProtocolCost
from aero.mpc.fixed_point import from_ring, to_ring
from aero.mpc.party import Party, Role
from aero.mpc.protocols.agree import agree
from aero.mpc.protocols.keys import exchange_keys
from aero.mpc.protocols.linear import LinearPlan, LoadedWeights, load_weights, multiply_weights, plan_linear
from aero.mpc.protocols.pair import PairPlan, multiply_shares, plan_attend, plan_scores
from aero.mpc.share import Share, input_shares, open_shares
from aero.wire import Channel, Traffic

LINEAR_OPS = (*PRODUCTS, "add", "bias", "rows", "concat_rows")
PAIRS = ("scores", "attend")
MAX_LOADED = 320
"""Products whose weights are kept loaded: those of a model of some 36 layers, for a prompt and for single tokens."""


class TwoPartyEngine(Engine):
    """One party, over a channel to the other.

    plan: the ring plan, equal at both parties. A failure ends the channel; an engine is not used again after one.

    Error: a product is off by at most its declared number of steps (`product_error`), except with probability 2^-40 for
    a whole graph of less than 2^18 results; a truncation by one step.
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
        groups = joined(graph, checked_steps(graph, self._plan, self._bare))
        linear = [group for group in groups if group[0].node.op in ("linear", "gain")]
        if self._party.role is Role.SERVER:
            if weights is None:
                raise ValueError("the server gives the weights")
            self._loaded.load(linear, weights)
        client = dict.fromkeys(linear_plan(group).product.params for group in linear)
        both = dict.fromkeys(pair_plan(g[0]).params for g in groups if g[0].node.op in PAIRS)
        held = self._party.secret_keys if self._party.is_client else self._party.peer_keys
        mutual = self._party.peer_keys if self._party.is_client else self._party.secret_keys
        with self._party.channel.op("keys"):
            if graph.digest not in self._agreed:
                agree(self._party, {"graph": graph.to_json(), "ring plan": self._plan.to_json()})
                self._agreed.add(graph.digest)
            exchange_keys(
                self._party,
                [params for params in {**client, **both} if params not in held],
                [params for params in both if params not in mutual],
            )
        spent = self._cost_of(self._party.channel.traffic - before, time.perf_counter() - start)
        self._set_up = Cost(*(a + b for a, b in zip(vars(self._set_up).values(), vars(spent).values(), strict=True)))

    def share_state(self, graph: Graph, name: str, value: np.ndarray | None = None) -> None:
        """Share a matrix of the client's, float64, as a state that `graph` reads; the client gives `value`."""
        if name not in graph.state_in:
            raise ValueError(f"the graph reads no state {name!r}; it reads {sorted(graph.state_in)}")
        shape, held = graph.state_in[name], self._plan.of_value(graph, name)
        encoded = None
        if self._party.is_client:
            if value is None or value.shape != shape:
                raise ValueError(f"the client gives the state {name!r}, of shape {list(shape)}")
            encoded = to_ring(encode(name, value, held), held.bits)
        with self._ending(), self._party.channel.op("input"):
            self._state[name] = input_shares(self._party, Role.CLIENT, shape, held.bits, held.fraction_bits, encoded)
        self._bare.pop(name, None)

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
        steps = checked_steps(graph, self._plan, self._bare)
        state = {name: self._state[name] for name in graph.state_in}
        protocols = _TwoParty(party, self._loaded)
        output, self._state = walk(
            party, graph, steps, protocols, weights=weights, ids=ids, state=state, progress=self._progress
        )
        bare = bare_pairs(graph, self._bare)
        self._bare = {name: bare[value] for name, value in graph.state_out.items() if value in bare}
        with party.channel.op("output"):  # to the client alone: the server would learn of the client's key from it
            opened = open_shares(party, output, Role.CLIENT, graph.output)
        self._cost = self._cost_of(party.channel.traffic - before, time.perf_counter() - start)
        if opened is None:
            return None
        return decode(from_ring(opened, output.bits), Format(output.bits, output.fraction_bits))

    @property
    def cost(self) -> Cost:
        if self._cost is None:
            raise ValueError("this engine has not run a graph yet")
        return self._cost

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

    def _cost_of(self, traffic: Traffic, seconds: float) -> Cost:
        up, down = traffic.bytes_sent, traffic.bytes_received
        if not self._party.is_client:
            up, down = down, up
        return Cost(seconds, up, down, traffic.rounds, traffic.messages)


class WeightStore:
    """The server's weights as loaded for products: once for each matrix and plan, whichever graph reads it.

    Loaded anew where the numbers given are others than before. The longest unused go first, beyond `MAX_LOADED`
    products and beyond what the graph at hand reads.
    """

    def __init__(self, plan: RingPlan) -> None:
        self._plan = plan
        self._held: dict[tuple[Any, ...], tuple[list[np.ndarray], bytes, LoadedWeights]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def load(self, groups: Sequence[tuple[Step, ...]], weights: Mapping[str, np.ndarray]) -> None:
        """ValueError, naming the nodes, for noise that would not fit."""
        for group in groups:
            key, arrays = self._key(group), [np.asarray(weights[step.node.weights[0]]) for step in group]
            held = self._held.pop(key, None)
            if held is None or not _same_arrays(arrays, held[0]):
                digest = _digest(arrays)
                loaded = held[2] if held is not None and held[1] == digest else _load(self._plan, group, arrays)
                held = arrays, digest, loaded
            self._held[key] = held  # the last used stand last
        for key in list(self._held)[: max(0, len(self._held) - max(MAX_LOADED, len(groups)))]:
            del self._held[key]

    def of(self, group: tuple[Step, ...]) -> LoadedWeights:
        return self._held[self._key(group)][2]

    def clear(self) -> None:
        self._held.clear()

    def _key(self, group: tuple[Step, ...]) -> tuple[Any, ...]:
        return tuple((step.node.op, step.node.weights[0]) for step in group), linear_plan(group)


def _same_arrays(arrays: list[np.ndarray], before: list[np.ndarray]) -> bool:
    """Whether these are the very same arrays, and nobody could have changed them through these names."""
    return all(a is b and not a.flags.writeable for a, b in zip(arrays, before, strict=True))


def _digest(arrays: list[np.ndarray]) -> bytes:
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array, dtype=np.float64).data)
    return total.digest()


def _load(plan: RingPlan, group: tuple[Step, ...], arrays: list[np.ndarray]) -> LoadedWeights:
    matrices = []
    for step, array in zip(group, arrays, strict=True):
        w = np.asarray(array, dtype=np.float64)
        if step.node.op == "gain":
            w = np.diag(np.broadcast_to(w, (step.input_shapes[0][1],)))
        name = step.node.weights[0]
        matrices.append(encode(name, w, plan.of_weight(name)))
    try:
        return load_weights(linear_plan(group), np.concatenate(matrices, axis=1))
    except ValueError as error:
        raise ValueError(f"{group_label(group)}: {error}") from None


class _TwoParty(Protocols):
    """The protocols of `aero.mpc.protocols`."""

    def __init__(self, party: Party, loaded: WeightStore) -> None:
        self._party, self._loaded = party, loaded

    def linear(self, steps: tuple[Step, ...], x: Share) -> list[Share]:
        weights = None if self._party.is_client else self._loaded.of(steps)
        y = multiply_weights(self._party, linear_plan(steps), x, 0, weights)
        ends = np.cumsum([_columns(step) for step in steps])[:-1]
        parts = np.split(y.values, ends, axis=1)
        return [Share(v, s.output.bits, s.output.fraction_bits) for v, s in zip(parts, steps, strict=True)]

    def pair(self, step: Step, x: Share, y: Share) -> Share:
        return multiply_shares(self._party, pair_plan(step), x, y)

    def extend(self, step: Step, x: Share, bits: int) -> Share:
        raise AssertionError("checked_steps refuses these graphs")

    def nonlinear(self, step: Step, x: Share) -> Share:
        raise AssertionError("checked_steps refuses these graphs")

    def embedding(self, step: Step, ids: np.ndarray | None) -> Share:
        raise AssertionError("checked_steps refuses these graphs")


def bare_pairs(graph: Graph, states: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """The values that carry the noise of a product of two shared values, with the name of that product.

    A linear layer's weights hide it; nothing that is local does, nor does a gain, which has one unknown a column.
    states: the same of the states that the graph reads.
    """
    bare = {name: pair for name, pair in states.items() if name in graph.state_in}
    for node in graph.nodes:
        if node.op in PAIRS:
            bare[node.name] = node.name
        elif node.op != "linear" and not OPS[node.op].nonlinear:
            for name in node.inputs:
                if name in bare:
                    bare[node.name] = bare[name]
    return bare


def checked_steps(graph: Graph, plan: RingPlan, states: Mapping[str, str] = MappingProxyType({})) -> list[Step]:
    """The steps of a graph. ValueError, naming the node, where one has no protocol in this engine, or where opening the
    output would show the noise of a product of shares. states: as in `bare_pairs`.
    """
    pair = bare_pairs(graph, states).get(graph.output)
    if pair is not None:
        raise ValueError(
            f"{graph.output}: opening it would show the encryption noise of {pair!r}, a product of two shared values, "
            "and with it the other party's secrets (docs/security/pair.md); let a linear layer follow before the output"
        )
    steps = plan_steps(graph, plan)
    for step in steps:
        node = step.node
        if node.op not in LINEAR_OPS:
            raise ValueError(
                f"{node.name}: the two-party engine has no protocol for {node.op!r} yet; use the engine 'spu-cheetah'"
            )
        if step.extends:
            held = min(f.bits for f in step.inputs)
            raise ValueError(
                f"{node.name}: needs its input in a ring of {max(step.needed)} bits, and it is held in {held}; "
                "extending a ring has no protocol in the two-party engine yet: plan larger rings for what comes before"
            )
        if node.op == "gain" and len(step.weight_shapes[0]) == 2:
            raise ValueError(f"{node.name}: a gain of its own for each row has no protocol in the two-party engine yet")
    return steps


def declared_cost(graph: Graph, plan: RingPlan) -> dict[str, ProtocolCost]:
    """Bytes, messages and rounds of each node, or nodes that go together, that send any: before anything is sent."""
    costs = {}
    for group in joined(graph, checked_steps(graph, plan)):
        if group[0].node.op in ("linear", "gain"):
            costs[group_label(group)] = linear_plan(group).cost()
        elif group[0].node.op in PAIRS:
            costs[group_label(group)] = pair_plan(group[0]).cost()
    return costs


@lru_cache(maxsize=1024)
def _linear_plan(rows: int, inner: int, columns: int, ring_bits: int, output_bits: int) -> LinearPlan:
    return plan_linear(rows, inner, columns, ring_bits, output_bits)


@lru_cache(maxsize=1024)
def _pair_plan(op: str, heads: int, queries: int, keys: int, width: int, ring_bits: int, output_bits: int) -> PairPlan:
    make = plan_scores if op == "scores" else plan_attend
    return make(heads, queries, keys, width, ring_bits, output_bits)


def linear_plan(group: tuple[Step, ...]) -> LinearPlan:
    """The plan of linear layers that go together, or of a gain: the product with a diagonal matrix."""
    rows, inner = group[0].input_shapes[0]
    columns = sum(_columns(step) for step in group)
    return _linear_plan(rows, inner, columns, group[0].ring_bits, group[0].output.bits)


def _columns(step: Step) -> int:
    return step.weight_shapes[0][1] if step.node.op == "linear" else step.input_shapes[0][1]


def pair_plan(step: Step) -> PairPlan:
    """The plan of `scores` or `attend`."""
    (first, second), op = step.input_shapes, step.node.op
    heads, queries, keys = (
        (int(step.node.attrs["heads"]), first[0], second[0]) if op == "scores" else (first[0], first[1], first[2])
    )
    return _pair_plan(op, heads, queries, keys, second[1] // heads, step.ring_bits, step.output.bits)
