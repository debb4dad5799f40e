"""A graph on shares: what each node asks of the protocols, and in which rings.

The same walk serves every engine that computes on shares; they differ in the `Protocols` that they bring. Which rings
are used, and where a ring has to be extended, follows from the graph and the ring plan alone, so both parties, and a
cost model, know it before anything is sent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from aero.engines.plain import encode
from aero.graph import OPS, Graph, Node
from aero.graph.graph import INPUT
from aero.graph.interpret import causal_mask, check_ids
from aero.graph.ops import Shape
from aero.graph.ring_plan import Format, RingPlan
from aero.graph.rotary import turns
from aero.mpc.fixed_point import to_ring
from aero.mpc.party import Party, Role
from aero.mpc.share import Share, Words, concatenate, known

PRODUCTS = ("linear", "gain", "scale", "rotary", "scores", "attend")
MOVES = ("rows", "concat_rows")


@dataclass(frozen=True)
class Step:
    """One node with its shapes and rings.

    inputs: formats of the values that it reads, as they are held: the ring may be smaller than the plan's.
    output: format of its value, as it will be held. factor: format of what inputs[0] is multiplied by, for a product.
    """

    node: Node
    input_shapes: tuple[Shape, ...]
    weight_shapes: tuple[Shape, ...]
    inputs: tuple[Format, ...]
    output: Format
    factor: Format | None = None

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
        return tuple(f.bits for f in self.inputs)

    @property
    def extends(self) -> bool:
        """Whether an input has to be brought into a larger ring first."""
        return any(need > f.bits for need, f in zip(self.needed, self.inputs, strict=True))


def plan_steps(graph: Graph, plan: RingPlan) -> list[Step]:
    """The steps of a graph, in order."""
    held: dict[str, Format] = {name: plan.of_value(graph, name) for name in graph.state_in}
    steps = []
    for node in graph.nodes:
        inputs = tuple(held[name] for name in node.inputs if name != INPUT)
        wanted = plan.of_value(graph, node.name)
        factor = None
        if node.op in ("linear", "gain"):
            factor = plan.of_weight(node.weights[0])
        elif node.op in ("scale", "rotary"):
            factor = Format(64, inputs[0].fraction_bits)
        elif node.op in ("scores", "attend"):
            factor = inputs[1]
        if node.op in MOVES:
            wanted = Format(min(f.bits for f in inputs), inputs[0].fraction_bits)
        elif factor is not None:  # no ring is larger than 64 bits
            dropped = max(inputs[0].fraction_bits + factor.fraction_bits - wanted.fraction_bits, 0)
            wanted = Format(min(wanted.bits, 64 - dropped), wanted.fraction_bits)
        elif node.op in ("add", "bias"):
            lost = max(max(f.fraction_bits - wanted.fraction_bits, 0) for f in inputs)
            wanted = Format(min(wanted.bits, 64 - lost), wanted.fraction_bits)
        held[node.name] = wanted
        shapes = tuple(graph.shapes[name] for name in node.inputs)
        weights = tuple(graph.weight_shapes[name] for name in node.weights)
        steps.append(Step(node, shapes, weights, inputs, wanted, factor))
    return steps


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


class Protocols(ABC):
    """What takes messages, or a dealer. Each method gives a share in the ring `step.output.bits`, truncated."""

    @abstractmethod
    def linear(self, steps: tuple[Step, ...], x: Share) -> list[Share]:
        """[x W] for linear layers that go together, or for one gain; x has their `ring_bits`. The server's weights are
        known by the steps' names."""

    @abstractmethod
    def pair(self, step: Step, x: Share, y: Share) -> Share:
        """[x y] for `scores` and `attend`, all heads: x [H, T, k], y [H, k, m]; only live scores count."""

    @abstractmethod
    def extend(self, step: Step, x: Share, bits: int) -> Share:
        """[x] in a larger ring."""

    @abstractmethod
    def nonlinear(self, step: Step, x: Share) -> Share:
        """[f(x)]."""

    @abstractmethod
    def embedding(self, step: Step, ids: np.ndarray | None) -> Share:
        """[table[ids]]; the client gives the ids."""


def walk(
    party: Party,
    graph: Graph,
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
    for index, group in enumerate(groups):
        label, first = group_label(group), group[0]
        if progress is not None:
            progress(label, index / len(groups))
        with party.channel.op(label):
            inputs = []
            for name, need in zip((n for n in first.node.inputs if n != INPUT), first.needed, strict=True):
                x = values[name]
                inputs.append(protocols.extend(first, x, need) if x.bits < need else x)
            results = _compute(party, group, protocols, inputs, weights, ids)
        for step, value in zip(group, results, strict=True):
            assert (value.bits, value.fraction_bits) == (step.output.bits, step.output.fraction_bits), step.node.name
            assert value.shape == graph.shapes[step.node.name], step.node.name
            values[step.node.name] = value
    return values[graph.output], {name: values[value] for name, value in graph.state_out.items()}


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
    by, factor = turns(*x.shape, **dict[str, Any](step.node.attrs)), step.factor
    cosine, sine = (to_ring(encode(step.node.name, table, factor), x.bits) for table in (by.cosine, by.sine))
    values = x.values * cosine + x.values[:, by.partner] * sine
    return x.of(values, fraction_bits=x.fraction_bits + factor.fraction_bits)


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
