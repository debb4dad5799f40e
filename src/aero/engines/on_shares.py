"""A graph on shares: what each node asks of the protocols, and in which rings.

The same walk serves every engine that computes on shares; they differ in the `Protocols` that they bring. Which rings
are used, and where a ring has to be extended, follows from the graph and the ring plan alone, so both parties, and a
cost model, know it before anything is sent.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from aero.engines.plain import encode
from aero.graph import OPS, Graph, Node
from aero.graph.graph import INPUT
from aero.graph.interpret import causal_mask, check_ids
from aero.graph.ops import Shape
from aero.graph.ring_plan import Format, RingPlan, ScoreWindow
from aero.graph.rotary import turns
from aero.mpc.fixed_point import to_ring
from aero.mpc.party import Party, Role
from aero.mpc.share import Share, Words, concatenate, known

PRODUCTS = ("linear", "gain", "scale", "rotary", "scores", "attend")
MOVES = ("rows", "concat_rows")
SUMS = ("add", "bias", *MOVES)
SPARE_BITS = 4
"""By so many bits a value is made larger than the plan asks, at most, rather than extended for what reads it."""

Wants = Callable[[Node, Graph, RingPlan, int], int]
"""The ring in which a nonlinear operation reads its value, given the ring in which its result is held."""


@dataclass(frozen=True)
class Step:
    """One node with its shapes and rings.

    inputs: formats of the values that it reads, as they are held: the ring may be smaller than what is needed.
    output: format of its value, as it will be held. factor: format of what inputs[0] is multiplied by, for a product.
    promised, wanted: of a nonlinear operation, what the plan says of its value, and the ring in which it reads it.
    windows: of a softmax, what the plan knows of its scores.
    """

    node: Node
    input_shapes: tuple[Shape, ...]
    weight_shapes: tuple[Shape, ...]
    inputs: tuple[Format, ...]
    output: Format
    factor: Format | None = None
    promised: Format | None = None
    wanted: int | None = None
    windows: tuple[ScoreWindow, ...] = ()

    @property
    def shift(self) -> int:
        """Fractional bits that a product drops; below zero, bits that its first factor has to gain before."""
        assert self.factor is not None
        return self.inputs[0].fraction_bits + self.factor.fraction_bits - self.output.fraction_bits

    @property
    def dropped(self) -> int:
        return max(self.shift, 0)

    @property
    def ring_bits(self) -> int:
        """The ring of a product before bits are dropped: as many more bits than its value has."""
        return self.output.bits + self.dropped

    @cached_property
    def needed(self) -> tuple[int, ...]:
        """The ring that each input has to be in, at least."""
        op = self.node.op
        if op in PRODUCTS:
            return (self.ring_bits,) * len(self.inputs)
        if op in ("add", "bias"):
            gained = [self.output.fraction_bits - f.fraction_bits for f in self.inputs]
            return tuple(self.output.bits + max(-g, 0) for g in gained)
        if self.wanted is not None:
            return (self.wanted,)
        if op in MOVES:
            return (self.output.bits,) * len(self.inputs)
        return tuple(f.bits for f in self.inputs)

    @property
    def extends(self) -> bool:
        """Whether an input has to be brought into a larger ring first."""
        return any(need > f.bits for need, f in zip(self.needed, self.inputs, strict=True))


def plan_steps(
    graph: Graph, plan: RingPlan, wants: Wants | None = None, *, output_is_compared: bool = False
) -> list[Step]:
    """The steps of a graph, in order.

    A value is held in the plan's ring, or a larger one where that costs nothing: linear layers of one value share the
    largest ring among them, and what is only added to something is made in the ring of the sum. What is extended later
    has one bit more than the plan asks, so that its sign is that of its two highest bits; so has an output whose
    numbers are compared, so that it holds their differences.
    """
    bits = _held_bits(graph, plan, wants, output_is_compared)
    held: dict[str, Format] = {name: state_format(graph, plan, name) for name in graph.state_in}
    moves = {node.name for node in graph.nodes if node.op in MOVES}
    kept = {value: state_format(graph, plan, name) for name, value in graph.state_out.items() if value in moves}
    steps: list[Step] = []
    for node in graph.nodes:
        inputs = tuple(held[name] for name in node.inputs if name != INPUT)
        output = Format(bits[node.name], plan.of_value(graph, node.name).fraction_bits)
        factor = _factor(graph, plan, node)
        if node.name in kept:
            output = kept[node.name]
        elif node.op in MOVES:
            output = Format(min(f.bits for f in inputs), inputs[0].fraction_bits)
        elif factor is not None:  # no ring is larger than 64 bits
            dropped = max(inputs[0].fraction_bits + factor.fraction_bits - output.fraction_bits, 0)
            output = Format(min(output.bits, 64 - dropped), output.fraction_bits)
        elif node.op in ("add", "bias"):
            lost = max(max(f.fraction_bits - output.fraction_bits, 0) for f in inputs)
            output = Format(min(output.bits, 64 - lost), output.fraction_bits)
        promised, wanted = None, None
        if OPS[node.op].nonlinear:
            promised = plan.of_value(graph, node.inputs[0])
            wanted = inputs[0].bits if wants is None else wants(node, graph, plan, output.bits)
        held[node.name] = output
        shapes = tuple(graph.shapes[name] for name in node.inputs)
        weights = tuple(graph.weight_shapes[name] for name in node.weights)
        windows = known_windows(node, plan)
        steps.append(Step(node, shapes, weights, inputs, output, factor, promised, wanted, windows))
    return steps


def known_windows(node: Node, plan: RingPlan) -> tuple[ScoreWindow, ...]:
    """What the plan knows of the scores of a softmax, by head; nothing of other nodes."""
    return tuple(sorted((w for w in plan.windows if w.layer == node.name), key=lambda window: window.head))


def state_format(graph: Graph, plan: RingPlan, name: str) -> Format:
    """How a state, or the value that is left as one, is kept from one run to the next: in a ring in which any later
    product of two shares can read it, so that it is extended once; what no such product reads, ready to be extended."""
    value = graph.state_out.get(name, name)
    held = plan.of_value(graph, name if name in graph.state_in else value)
    bits = held.bits + 1
    for reader in graph.consumers.get(value, ()):
        if reader.op in ("scores", "attend") and reader.inputs[1] == value:
            first, made = (plan.of_value(graph, read) for read in (reader.inputs[0], reader.name))
            dropped = max(first.fraction_bits + held.fraction_bits - made.fraction_bits, 0)
            bits = max(bits, made.bits + SPARE_BITS + dropped)
    return Format(min(bits, 64), held.fraction_bits)


def _factor(graph: Graph, plan: RingPlan, node: Node) -> Format | None:
    if node.op in ("linear", "gain"):
        return plan.of_weight(node.weights[0])
    if node.op in ("scale", "rotary"):
        return Format(64, plan.of_value(graph, node.inputs[0]).fraction_bits)
    if node.op in ("scores", "attend"):
        return plan.of_value(graph, node.inputs[1])
    return None


def _held_bits(graph: Graph, plan: RingPlan, wants: Wants | None, output_is_compared: bool) -> dict[str, int]:
    """Bits of every value, from the last to the first: what is read later decides."""
    bits: dict[str, int] = {}
    formats = {node.name: plan.of_value(graph, node.name) for node in graph.nodes}
    wider = {*graph.state_out.values(), *((graph.output,) if output_is_compared else ())}
    for node in reversed(graph.nodes):
        own = formats[node.name].bits
        need = own + 1 if node.name in wider else own
        for reader in graph.consumers[node.name]:
            target = _needs(graph, plan, reader, formats, bits, wants, node.name)
            if node.op in SUMS:
                follows = reader.op in SUMS
            else:
                follows = (reader.op in SUMS or OPS[reader.op].nonlinear) and target <= own + SPARE_BITS
            if follows:
                need = max(need, target)
            elif target > own:
                need = max(need, own + 1)
        bits[node.name] = min(need, 64)
    for name in {n.inputs[0] for n in graph.nodes if n.op == "linear"}:
        groups: dict[int, list[Node]] = {}
        for reader in graph.consumers[name]:
            if reader.op == "linear":
                shift = plan.of_weight(reader.weights[0]).fraction_bits - formats[reader.name].fraction_bits
                groups.setdefault(shift, []).append(reader)
        for group in groups.values():
            most = max(bits[reader.name] for reader in group)
            bits |= {reader.name: most for reader in group}
    return bits


def _needs(
    graph: Graph,
    plan: RingPlan,
    reader: Node,
    formats: Mapping[str, Format],
    bits: Mapping[str, int],
    wants: Wants | None,
    name: str,
) -> int:
    """The ring in which `reader` needs the value `name`."""
    mine = plan.of_value(graph, name).fraction_bits
    lost = max(mine - formats[reader.name].fraction_bits, 0)
    if OPS[reader.op].nonlinear:
        return wants(reader, graph, plan, bits[reader.name]) if wants is not None else 0
    if reader.op in PRODUCTS:
        factor = _factor(graph, plan, reader)
        assert factor is not None
        first = plan.of_value(graph, reader.inputs[0]).fraction_bits
        return bits[reader.name] + max(first + factor.fraction_bits - formats[reader.name].fraction_bits, 0)
    return bits[reader.name] + lost


def joined(graph: Graph, steps: Sequence[Step]) -> list[tuple[Step, ...]]:
    """The steps in order; linear layers of one value in the same rings go together, as one product."""
    groups: list[tuple[Step, ...]] = []
    done: set[str] = set()
    for step in steps:
        if step.node.name in done:
            continue
        group: tuple[Step, ...] = (step,)
        if step.node.op == "linear":
            group = tuple(s for s in steps if s.node.op == "linear" and _together(s, step))
        groups.append(group)
        done.update(s.node.name for s in group)
    return groups


def _together(a: Step, b: Step) -> bool:
    return a.node.inputs == b.node.inputs and (a.ring_bits, a.shift) == (b.ring_bits, b.shift)


@dataclass(frozen=True)
class Extension:
    """A value that is brought from its ring into a larger one. size: its elements."""

    name: str
    held: int
    bits: int
    size: int


def extensions(graph: Graph, plan: RingPlan, groups: Sequence[tuple[Step, ...]]) -> list[tuple[Extension, ...]]:
    """What is extended before each group of steps: what it reads, and whatever else a later product, or a later run,
    reads and is there already, as both then take one message."""
    needs: dict[str, int] = {}
    for group in groups:
        for name, need in zip(_read(group[0]), group[0].needed, strict=True):
            needs[name] = max(needs.get(name, 0), need)
    held = {name: found.bits for group in groups for name, found in zip(_read(group[0]), group[0].inputs, strict=True)}
    kept = {value: state_format(graph, plan, name).bits for name, value in graph.state_out.items() if value in needs}
    needs |= {value: max(needs[value], bits) for value, bits in kept.items()}
    there, found = set(graph.state_in), []
    for group in groups:
        now: tuple[Extension, ...] = ()
        pairs = zip(_read(group[0]), group[0].needed, strict=True)
        if any(max(need, kept.get(name, 0)) > held[name] for name, need in pairs):
            names = [name for name in held if name in there and needs[name] > held[name]]
            now = tuple(Extension(name, held[name], needs[name], math.prod(graph.shapes[name])) for name in names)
            held |= {extension.name: extension.bits for extension in now}
        found.append(now)
        there |= {step.node.name for step in group}
    return found


def _read(step: Step) -> list[str]:
    return [name for name in step.node.inputs if name != INPUT]


class Protocols(ABC):
    """What takes messages, or a dealer. Each method gives a share in the ring `step.output.bits`, truncated."""

    def begin(self, group: tuple[Step, ...], wider: tuple[Extension, ...]) -> None:  # noqa: B027
        """Called before each group of steps, with what will be extended."""

    @abstractmethod
    def linear(self, steps: tuple[Step, ...], x: Share) -> list[Share]:
        """[x W] for linear layers that go together, or for one gain; x has their `ring_bits`. The server's weights are
        known by the steps' names."""

    @abstractmethod
    def pair(self, step: Step, x: Share, y: Share) -> Share:
        """[x y] for `scores` and `attend`, all heads: x [H, T, k], y [H, k, m]; only live scores count."""

    @abstractmethod
    def extend(self, values: Sequence[Share], bits: Sequence[int]) -> list[Share]:
        """Each [x] in a larger ring; x lies in a quarter of its ring on either side of zero."""

    @abstractmethod
    def nonlinear(self, step: Step, x: Share) -> Share:
        """[f(x)]."""

    @abstractmethod
    def embedding(self, step: Step, ids: np.ndarray | None) -> Share:
        """[table[ids]]; the client gives the ids."""


def walk(
    party: Party,
    graph: Graph,
    plan: RingPlan,
    steps: list[Step],
    protocols: Protocols,
    *,
    weights: Mapping[str, np.ndarray] | None,
    ids: np.ndarray | None,
    state: Mapping[str, Share],
    progress: Any = None,
) -> tuple[Share, dict[str, Share]]:
    """Run a graph as one party; returns its share of the output and of the state. Traffic is counted by node, and by
    nodes that go together."""
    values = dict(state)
    if any(INPUT in node.inputs for node in graph.nodes) and party.is_client:
        if ids is None:
            raise ValueError("this graph reads token ids: the client gives them")
        ids = check_ids(ids, graph.length)
    groups = joined(graph, steps)
    last_use = {name: index for index, group in enumerate(groups) for name in _read(group[0])}
    last_use |= dict.fromkeys(graph.kept, len(groups))
    for index, (group, wider) in enumerate(zip(groups, extensions(graph, plan, groups), strict=True)):
        label = group_label(group)
        if progress is not None:
            progress(label, index / len(groups))
        protocols.begin(group, wider)
        with party.channel.op(label):
            if wider:
                extended = protocols.extend([values[e.name] for e in wider], [e.bits for e in wider])
                values |= {e.name: x for e, x in zip(wider, extended, strict=True)}
            inputs = [values[name] for name in _read(group[0])]
            results = _compute(party, group, protocols, inputs, weights, ids)
        for step, value in zip(group, results, strict=True):
            assert (value.bits, value.fraction_bits) == (step.output.bits, step.output.fraction_bits), step.node.name
            assert value.shape == graph.shapes[step.node.name], step.node.name
            values[step.node.name] = value
        for name in [name for name in values if last_use.get(name, 0) <= index]:
            del values[name]
    kept = {name: values[value] for name, value in graph.state_out.items()}
    output = next(step.output for step in steps if step.node.name == graph.output)
    return values[graph.output].reduced(output.bits), {
        name: x.reduced(min(x.bits, state_format(graph, plan, name).bits)) for name, x in kept.items()
    }


def _compute(
    party: Party,
    group: tuple[Step, ...],
    protocols: Protocols,
    inputs: list[Share],
    weights: Mapping[str, np.ndarray] | None,
    ids: np.ndarray | None,
) -> list[Share]:
    if group[0].node.op not in ("linear", "gain"):
        return [_apply(party, group[0], protocols, inputs, weights, ids)]
    products = protocols.linear(group, _ready(group[0], inputs[0]))
    return [_biased(party, step, y, weights) for step, y in zip(group, products, strict=True)]


def _apply(
    party: Party,
    step: Step,
    protocols: Protocols,
    inputs: list[Share],
    weights: Mapping[str, np.ndarray] | None,
    ids: np.ndarray | None,
) -> Share:
    node, attrs, out = step.node, dict[str, Any](step.node.attrs), step.output
    match node.op:
        case "rows":
            return inputs[0][attrs["start"] : attrs["stop"]].reduced(out.bits)
        case "concat_rows":
            return concatenate(*(x.reduced(out.bits) for x in inputs))
        case "embedding":
            return protocols.embedding(step, ids)
        case "add":
            return _to(inputs[0], out) + _to(inputs[1], out)
        case "bias":
            return _to(inputs[0], out) + _added(party, step, node.weights[0], weights)
        case "scale":
            assert step.factor is not None
            factor = int(encode(node.name, np.array(attrs["factor"]), step.factor))
            y = _ready(step, inputs[0]).times(factor, step.factor.fraction_bits)
            return y.truncated(step.dropped)
        case "rotary":
            return _turned(step, _ready(step, inputs[0])).truncated(step.dropped)
        case "scores":
            q, k = (_heads(x, attrs["heads"]) for x in inputs)
            return _live(protocols.pair(step, _ready(step, q), k.transpose(0, 2, 1).reduced(step.ring_bits)))
        case "attend":
            p, v = inputs
            y = protocols.pair(step, _ready(step, p), _heads(v, p.shape[0]).reduced(step.ring_bits))
            return y.transpose(1, 0, 2).reshape(y.shape[1], -1)
        case _:
            assert OPS[node.op].nonlinear
            return protocols.nonlinear(step, inputs[0])


def group_label(group: tuple[Step, ...]) -> str:
    """Under which traffic is counted: the names of the nodes."""
    return " ".join(step.node.name for step in group)


def _biased(party: Party, step: Step, y: Share, weights: Mapping[str, np.ndarray] | None) -> Share:
    return y + _added(party, step, step.node.weights[1], weights) if len(step.node.weights) == 2 else y


def _ready(step: Step, x: Share) -> Share:
    """The first factor of a product, in the product's ring."""
    x = x.reduced(step.ring_bits)
    return x.times(1 << -step.shift, -step.shift) if step.shift < 0 else x


def _turned(step: Step, x: Share) -> Share:
    """Each party turns its own part by the public angles: sums of two products, not truncated."""
    assert step.factor is not None
    cosine, sine, partner = _angles(step)
    values = x.values * to_ring(cosine, x.bits) + x.values[:, partner] * to_ring(sine, x.bits)
    return x.of(values, fraction_bits=x.fraction_bits + step.factor.fraction_bits)


def _angles(step: Step) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosines and sines as integers, and partners."""
    assert step.factor is not None
    by = turns(*step.input_shapes[0], **dict[str, Any](step.node.attrs))
    return encode(step.node.name, by.cosine, step.factor), encode(step.node.name, by.sine, step.factor), by.partner


def angles_digest(steps: Sequence[Step]) -> str:
    """Of all public angles as this machine computes them. Libraries round the last place of a cosine as they like; two
    parties that multiplied their parts by different integers would get nonsense, so they compare this before."""
    digest = hashlib.sha256()
    for step in steps:
        if step.node.op == "rotary":
            for table in _angles(step)[:2]:
                digest.update(table.astype("<i8").tobytes())
    return digest.hexdigest()


def _to(x: Share, held: Format) -> Share:
    """The same number in another format."""
    gained = held.fraction_bits - x.fraction_bits
    x = x.times(1 << gained, gained) if gained > 0 else x.truncated(-gained)
    return x.reduced(held.bits)


def _added(party: Party, step: Step, name: str, weights: Mapping[str, np.ndarray] | None) -> Share:
    """What the server adds: a bias, in the format of the sum."""
    shape = step.input_shapes[0] if step.node.op == "bias" else (step.weight_shapes[1][0],)
    shape = (step.input_shapes[0][0], shape[-1])
    values: Words = np.zeros(shape, dtype=np.uint64)
    if weights is not None and party.role is Role.SERVER:
        bias = encode(name, weights[name], Format(64, step.output.fraction_bits))
        values = np.ascontiguousarray(np.broadcast_to(to_ring(bias, step.output.bits), shape))
    return known(party, Role.SERVER, values, step.output.bits, step.output.fraction_bits)


def _live(scores: Share) -> Share:
    """Scores that no query may see are zero: both parts."""
    return scores.of(np.where(causal_mask(*scores.shape[1:]), scores.values, np.uint64(0)))


def _heads(x: Share, heads: int) -> Share:
    rows, width = x.shape
    return x.reshape(rows, heads, width // heads).transpose(1, 0, 2)
