"""What each node of a graph asks of the protocols, and in which rings its values are held.

It follows from the graphs of a batch and the ring plan alone, so both parties, and a cost model, know it before
anything is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from aero.graph import OPS, Graph, Node
from aero.graph.graph import INPUT
from aero.graph.ops import Shape, of_arithmetic
from aero.graph.ops.sheet import (
    ElementProduct,
    Function,
    LookUp,
    Move,
    PublicProduct,
    SharedProduct,
    Sum,
    WeightProduct,
)
from aero.graph.ring_plan import Format, RingPlan, ScoreWindow

PAIRS = of_arithmetic(SharedProduct)
"""Products of two shared values."""
PRODUCTS = of_arithmetic(WeightProduct, PublicProduct, SharedProduct)
FUNCTIONS = of_arithmetic(Function, ElementProduct)
"""What has a protocol of its own, which says in which ring it reads its values."""
WEIGHTED = of_arithmetic(WeightProduct, LookUp)
"""Products with the server's weights, and look-ups."""
WHOLE = tuple(op for op, sheet in OPS.items() if isinstance(sheet.arithmetic, WeightProduct) and sheet.arithmetic.whole)
"""Products with a whole matrix of the server's."""
LOOK_UPS = of_arithmetic(LookUp)
MOVES = of_arithmetic(Move)
JOINS = tuple(op for op in MOVES if OPS[op].arithmetic == Move(of="features"))
"""Features of two values side by side, which are extended before, so that who else reads one finds it extended."""
TERMS = of_arithmetic(Sum)
SUMS = (*TERMS, *MOVES)
SPARE_BITS = 4
"""By so many bits a value is made larger than the plan asks, at most, rather than extended for what reads it."""

Wants = Callable[[str, Sequence[Graph], RingPlan, int], int]
"""The ring in which one of `FUNCTIONS` reads its values, all prompts at once: its name, the graphs of the batch, the
plan, and the ring in which its result is held."""

Group = tuple["Step", ...]
"""Steps of a prompt that are computed together, as a single product; or a single step."""


@dataclass(frozen=True)
class Step:
    """One node with its shapes and rings.

    inputs: formats of the values that it reads, as they are held: the ring may be smaller than what is needed.
    output: format of its value, as it will be held. factor: format of what inputs[0] is multiplied by, for a product.
    promised, wanted: of one of `FUNCTIONS`, what the plan says of its values, and the ring in which it reads them.
    windows: of a softmax, what the plan knows of its scores. modulus_bits: of a product, as the plan has it. shown: of
    a product with weights, whether the client gets it, or what is made of it without another product between.
    """

    node: Node
    input_shapes: tuple[Shape, ...]
    weight_shapes: tuple[Shape, ...]
    inputs: tuple[Format, ...]
    output: Format
    factor: Format | None = None
    promised: tuple[Format, ...] = ()
    wanted: int | None = None
    windows: tuple[ScoreWindow, ...] = ()
    modulus_bits: int = 0
    shown: bool = False

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
        if op in TERMS:
            gained = [self.output.fraction_bits - f.fraction_bits for f in self.inputs]
            return tuple(self.output.bits + max(-g, 0) for g in gained)
        if self.wanted is not None:
            return (self.wanted,) * len(self.inputs)
        if op in MOVES:
            return (self.output.bits,) * len(self.inputs)
        return tuple(f.bits for f in self.inputs)

    @property
    def extends(self) -> bool:
        """Whether an input has to be brought into a larger ring first."""
        return any(need > f.bits for need, f in zip(self.needed, self.inputs, strict=True))


def plan_steps(
    graphs: Sequence[Graph], plan: RingPlan, wants: Wants | None = None, *, output_is_compared: bool = False
) -> list[list[Step]]:
    """The steps of each graph of a batch, in order; of the same name, they have the same formats.

    A value is held in the plan's ring, or a larger one where that costs nothing: linear layers of one value share the
    largest ring among them, and what is only added to something is made in the ring of the sum. What is extended later
    has one bit more than the plan asks, so that its sign is that of its two highest bits; so has an output whose
    numbers are compared, so that it holds their differences.
    """
    if wants is not None:  # it plans for all graphs together, and is asked the same for each
        wants = _remembered(wants)
    bits: dict[str, int] = {}
    for graph in graphs:
        for name, needed in _value_bits(graph, graphs, plan, wants, output_is_compared).items():
            bits[name] = max(needed, bits.get(name, 0))
    shown = set().union(*map(_shown_products, graphs))
    return [_steps(graph, graphs, plan, bits, wants, shown) for graph in graphs]


def _remembered(wants: Wants) -> Wants:
    """For one batch and plan."""
    found: dict[tuple[str, int], int] = {}

    def asked(name: str, graphs: Sequence[Graph], plan: RingPlan, bits: int) -> int:
        if (name, bits) not in found:
            found[name, bits] = wants(name, graphs, plan, bits)
        return found[name, bits]

    return asked


def _shown_products(graph: Graph) -> set[str]:
    """The products with weights of which the output is made without a linear layer, or a product of shares, between:
    the client knows a part of their error, and sees them as they are, or in a sum, or behind a nonlinear operation."""
    read, shown = {graph.output}, set()
    for node in reversed(graph.nodes):
        if node.name not in read:
            continue
        if node.op in WEIGHTED:
            shown.add(node.name)
        if node.op not in (*WHOLE, *PAIRS):
            read.update(node.inputs)
    return shown


def _steps(
    graph: Graph,
    graphs: Sequence[Graph],
    plan: RingPlan,
    bits: Mapping[str, int],
    wants: Wants | None,
    shown: Collection[str],
) -> list[Step]:
    formats: dict[str, Format] = {name: state_format(graph, plan, name) for name in graph.state_in}
    moves = {node.name for node in graph.nodes if node.op in MOVES}
    kept = {value: state_format(graph, plan, name) for name, value in graph.state_out.items() if value in moves}
    steps: list[Step] = []
    for node in graph.nodes:
        inputs = tuple(formats[name] for name in node.inputs if name != INPUT)
        output = Format(bits[node.name], plan.of_value(graph, node.name).fraction_bits)
        factor = _factor(graph, plan, node)
        if node.name in kept:
            output = kept[node.name]
        elif node.op in JOINS:
            output = Format(bits[node.name], inputs[0].fraction_bits)
        elif node.op in MOVES:
            output = Format(min(f.bits for f in inputs), inputs[0].fraction_bits)
        elif factor is not None:  # no ring is larger than 64 bits
            dropped = max(inputs[0].fraction_bits + factor.fraction_bits - output.fraction_bits, 0)
            output = Format(min(output.bits, 64 - dropped), output.fraction_bits)
        elif node.op in TERMS:
            lost = max(max(f.fraction_bits - output.fraction_bits, 0) for f in inputs)
            output = Format(min(output.bits, 64 - lost), output.fraction_bits)
        promised: tuple[Format, ...] = ()
        wanted = None
        if node.op in FUNCTIONS:
            promised = tuple(plan.of_value(graph, name) for name in node.inputs)
            wanted = None if wants is None else wants(node.name, graphs, plan, output.bits)
        formats[node.name] = output
        shapes = tuple(graph.shapes[name] for name in node.inputs)
        weights = tuple(graph.weight_shapes[name] for name in node.weights)
        known = known_windows(node, plan), plan.moduli.get(node.name, 0), node.name in shown
        steps.append(Step(node, shapes, weights, inputs, output, factor, promised, wanted, *known))
    return steps


def columns_of(step: Step) -> int:
    """Of the value of a product with weights, or of a sum with them."""
    return step.weight_shapes[0][1] if step.node.op in WHOLE else step.input_shapes[0][1]


def has_row_gains(step: Step) -> bool:
    """Whether every number is multiplied by a factor of its own."""
    product = OPS[step.node.op].arithmetic
    return isinstance(product, WeightProduct) and not product.whole and len(step.weight_shapes[0]) == 2


def added_format(step: Step) -> Format:
    """Of the server's numbers that are added to a value: as many fractional bits as it has."""
    return Format(64, step.output.fraction_bits)


def known_windows(node: Node, plan: RingPlan) -> tuple[ScoreWindow, ...]:
    """What the plan knows of the scores of a softmax, by head; nothing of other nodes."""
    return tuple(sorted((w for w in plan.windows if w.layer == node.name), key=lambda window: window.head))


def state_format(graph: Graph, plan: RingPlan, name: str) -> Format:
    """How a state, or the value that becomes a state, is kept from one run to the next: in a ring in which any later
    product of two shares can read it, so that it is extended once; what no such product reads, ready to be extended."""
    value = graph.state_out.get(name, name)
    fmt = plan.of_value(graph, name if name in graph.state_in else value)
    bits = fmt.bits + 1
    for reader in graph.consumers.get(value, ()):
        if reader.op in PAIRS and reader.inputs[1] == value:
            first, made = (plan.of_value(graph, read) for read in (reader.inputs[0], reader.name))
            dropped = max(first.fraction_bits + fmt.fraction_bits - made.fraction_bits, 0)
            bits = max(bits, made.bits + 1 + dropped)
    return Format(min(bits, 64), fmt.fraction_bits)


def _factor(graph: Graph, plan: RingPlan, node: Node) -> Format | None:
    match OPS[node.op].arithmetic:
        case WeightProduct():
            return plan.of_weight(node.weights[0])
        case PublicProduct() as product:
            return Format(64, plan.of_value(graph, node.inputs[0]).fraction_bits + product.finer)
        case SharedProduct():
            return plan.of_value(graph, node.inputs[1])
    return None


def _value_bits(
    graph: Graph, graphs: Sequence[Graph], plan: RingPlan, wants: Wants | None, output_is_compared: bool
) -> dict[str, int]:
    """Bits of every value, from the last to the first: what is read later decides."""
    bits: dict[str, int] = {}
    formats = {node.name: plan.of_value(graph, node.name) for node in graph.nodes}
    wider = {*graph.state_out.values(), *((graph.output,) if output_is_compared else ())}
    for node in reversed(graph.nodes):
        own = formats[node.name].bits
        need = own + 1 if node.name in wider else own
        for reader in graph.consumers[node.name]:
            target = _needs(graph, graphs, plan, reader, formats, bits, wants, node.name)
            if node.op in SUMS:
                follows = node.op in JOINS or reader.op in SUMS
            elif node.op in PAIRS:  # whose bits cost more than those of an extension
                follows = False
            else:
                follows = (reader.op in SUMS or reader.op in FUNCTIONS) and target <= own + SPARE_BITS
            if follows:
                need = max(need, target)
            elif target > own:
                need = max(need, own + 1)
        bits[node.name] = min(need, 64)
    for name in {n.inputs[0] for n in graph.nodes if n.op in WHOLE}:
        groups: dict[int, list[Node]] = {}
        for reader in graph.consumers[name]:
            if reader.op in WHOLE:
                shift = plan.of_weight(reader.weights[0]).fraction_bits - formats[reader.name].fraction_bits
                groups.setdefault(shift, []).append(reader)
        for group in groups.values():
            most = max(bits[reader.name] for reader in group)
            bits |= {reader.name: most for reader in group}
    return bits


def _needs(
    graph: Graph,
    graphs: Sequence[Graph],
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
    if reader.op in FUNCTIONS:
        return wants(reader.name, graphs, plan, bits[reader.name]) if wants is not None else 0
    if reader.op in PRODUCTS:
        factor = _factor(graph, plan, reader)
        assert factor is not None
        first = plan.of_value(graph, reader.inputs[0]).fraction_bits
        return bits[reader.name] + max(first + factor.fraction_bits - formats[reader.name].fraction_bits, 0)
    return bits[reader.name] + lost
