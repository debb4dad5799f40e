"""Which protocol each step of a graph takes, in which rings, and what it declares to cost.

Everything follows from the graphs and the ring plan: both parties, and a cost model, know it before anything is sent.
Plans take the steps of one prompt, or those of each prompt of a batch: what has rows is then one plan for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import assert_never

from aero.engines.planning.session_keys import Keys
from aero.engines.planning.stages import Extension, Schedule, Stage, schedule
from aero.engines.planning.steps import LOOK_UPS, PAIRS, WHOLE, Group, Step, columns_of, has_row_gains, known_windows
from aero.engines.reveal import LOGITS, Reveal
from aero.graph import OPS, Graph, Node
from aero.graph.heads import CAUSAL
from aero.graph.ops import Attrs, Shape, of_arithmetic, require_all
from aero.graph.ops.sheet import (
    ElementProduct,
    Function,
    LookUp,
    Move,
    PublicProduct,
    SharedProduct,
    Sum,
    WeightProduct,
    mask_of,
)
from aero.graph.ring_plan import Format, RingPlan, ScoreWindow
from aero.mpc.cost import ProtocolCost
from aero.mpc.functions.element_product import plan_element_product
from aero.mpc.functions.norm import plan_norm
from aero.mpc.functions.relu import plan_relu
from aero.mpc.functions.score_rows import ScoreRows
from aero.mpc.functions.smooth_relu import plan_smooth_relu
from aero.mpc.functions.softmax import SoftmaxPlan, cheapest, plan_softmax, window_of
from aero.mpc.functions.tanh import plan_tanh
from aero.mpc.ot.transfer import products_cost
from aero.mpc.plan import FunctionPlan, Plan
from aero.mpc.protocols.embedding import EmbeddingPlan, plan_embedding
from aero.mpc.protocols.extend import extension_shapes
from aero.mpc.protocols.grouped_embedding import GroupedPlan
from aero.mpc.protocols.known_factor import KnownFactorPlan
from aero.mpc.protocols.linear import LinearPlan, plan_linear
from aero.mpc.protocols.pair import PairPlan, plan_attend, plan_pair, plan_scores
from aero.mpc.protocols.stacked import StackedPlan, plan_stacked

OTS, OUTPUT = "ots", "output"
OTS_AHEAD = 1 << 25
"""What waits takes 2 MB of memory for a million, at either party."""
LookUpPlan = EmbeddingPlan | GroupedPlan
WeightPlan = LinearPlan | LookUpPlan
NO_STATES: Mapping[str, str] = MappingProxyType({})


def linear_plan(*groups: Group) -> LinearPlan:
    """The plan of linear layers that go together, or of a gain: the product with a diagonal matrix."""
    first = groups[0][0]
    rows, columns = rows_of(group[0] for group in groups), sum(columns_of(step) for step in groups[0])
    modulus_bits = max(step.modulus_bits for step in groups[0])
    shown = max(step.factor.bits for step in groups[0] if step.factor is not None)
    if not any(step.shown for step in groups[0]):
        shown = 0
    rings = first.ring_bits, first.output.bits
    return _linear_plan(rows, first.input_shapes[0][1], columns, *rings, modulus_bits, shown)


def row_gain_plan(*steps: Step) -> KnownFactorPlan:
    first = steps[0]
    assert first.factor is not None
    shape = (rows_of(steps), first.input_shapes[0][1])
    return KnownFactorPlan(shape, first.ring_bits, min(first.factor.bits, first.ring_bits))


def rows_of(steps: Iterable[Step]) -> int:
    return sum(step.input_shapes[0][0] for step in steps)


def stacked_plan(*steps: Step) -> StackedPlan:
    """The plan of a product of two shared values."""
    first = steps[0]
    product = OPS[first.node.op].arithmetic
    assert isinstance(product, SharedProduct)
    heads, group, _, _, width = product.sizes(list(first.input_shapes), first.node.attrs)
    sizes = tuple(product.sizes(list(step.input_shapes), step.node.attrs)[2:4] for step in steps)
    causal = mask_of(first.node.attrs) == CAUSAL
    return _stacked_plan(product.keys, causal, heads, group, sizes, width, first.ring_bits, first.output.bits)


def embedding_plan(*steps: Step) -> LookUpPlan:
    rows, columns = steps[0].weight_shapes[0]
    first = steps[0]
    shown = first.output.bits if first.shown else 0  # a table's numbers have as many bits as its rows, at most
    return _embedding_plan(rows_of(steps), rows, columns, first.output.bits, first.modulus_bits, shown)


def weight_plan(*groups: Group) -> WeightPlan:
    """The plan of a product with a matrix of weights, or of a look-up in a table."""
    steps = [group[0] for group in groups]
    return embedding_plan(*steps) if steps[0].node.op in LOOK_UPS else linear_plan(*groups)


def function_plan(*steps: Step) -> FunctionPlan:
    """The plan of a nonlinear operation, or of a product number by number, by `FUNCTIONS`."""
    first = steps[0]
    shapes = tuple(step.input_shapes[0] for step in steps)
    return _function_plan(first.node.op, shapes, first.promised, first.output, _attrs(first.node), first.windows)


def wanted_bits(name: str, graphs: Sequence[Graph], plan: RingPlan, output_bits: int) -> int:
    """The ring in which an operation of `FUNCTIONS` reads its values, of all graphs at once, for a result in the ring
    of 2^output_bits."""
    nodes = [graph.by_name[name] for graph in graphs if name in graph.by_name]
    first, graph = nodes[0], next(graph for graph in graphs if name in graph.by_name)
    read, made = tuple(plan.of_value(graph, value) for value in first.inputs), plan.of_value(graph, name)
    made = Format(output_bits, made.fraction_bits)
    shapes = tuple(g.shapes[g.by_name[name].inputs[0]] for g in graphs if name in g.by_name)
    return _function_plan(first.op, shapes, read, made, _attrs(first), known_windows(first, plan)).reads.bits


def _attrs(node: Node) -> tuple[tuple[str, int | float | str], ...]:
    return tuple(sorted(node.attrs.items()))


@lru_cache(maxsize=1024)
def _linear_plan(
    rows: int, inner: int, columns: int, ring_bits: int, output_bits: int, modulus_bits: int, shown: int
) -> LinearPlan:
    """shown: the bits of the weights where the client learns the product, 0 elsewhere."""
    shape, rings = (rows, inner, columns), (ring_bits, output_bits)
    return plan_linear(*shape, *rings, modulus_bits=modulus_bits, opened=shown > 0, weight_bits=shown)


@lru_cache(maxsize=256)
def _stacked_plan(
    keys_are: str,
    causal: bool,
    heads: int,
    group: int,
    sizes: tuple[tuple[int, int], ...],
    width: int,
    ring_bits: int,
    output_bits: int,
) -> StackedPlan:
    """The same for all layers."""
    return plan_stacked(
        lambda *stack: _pair_plan(keys_are, causal, group, *stack, width, ring_bits, output_bits), heads, sizes
    )


@lru_cache(maxsize=1024)
def _pair_plan(
    keys_are: str,
    causal: bool,
    group: int,
    heads: int,
    queries: int,
    keys: int,
    width: int,
    ring_bits: int,
    output_bits: int,
) -> PairPlan:
    if not causal:
        inner, columns = {"columns": (width, keys), "inner": (keys, width)}[keys_are]
        return plan_pair(heads, queries * group, inner, columns, ring_bits, output_bits)
    make = {"columns": plan_scores, "inner": plan_attend}[keys_are]
    return make(heads, queries, keys, width, ring_bits, output_bits, group=group)


@lru_cache(maxsize=1024)
def _embedding_plan(
    tokens: int, rows: int, columns: int, output_bits: int, modulus_bits: int, shown: int
) -> LookUpPlan:
    """shown: as in `_linear_plan`."""
    table = tokens, rows, columns, output_bits
    return plan_embedding(*table, modulus_bits=modulus_bits, opened=shown > 0, weight_bits=shown)


Rings = tuple[int, ...]
"""Bits and fractional bits of each value that is read, and then of what is made."""


@lru_cache(maxsize=256)
def _function_plan(
    op: str,
    shapes: tuple[Shape, ...],
    read: tuple[Format, ...],
    made: Format,
    attrs: tuple[tuple[str, int | float | str], ...],
    windows: tuple[ScoreWindow, ...],
) -> FunctionPlan:
    rings = tuple(number for fmt in (*read, made) for number in (fmt.bits, fmt.fraction_bits))
    return FUNCTIONS[op](shapes, rings, dict(attrs), windows)


@lru_cache(maxsize=256)
def _with_maxima(rows: ScoreRows, rings: Rings, base: float) -> SoftmaxPlan:
    """The same plan for all layers of equal formats."""
    return plan_softmax(rows, *rings, base=base)


def _softmax_plan(shapes: Sequence[Shape], rings: Rings, attrs: Attrs, windows: Sequence[ScoreWindow]) -> SoftmaxPlan:
    """With maxima; without, where the plan has a window that is wide enough for every head and that is cheaper."""
    heads = shapes[0][0]
    prompts = tuple((queries, keys) for _, queries, keys in shapes)
    rows = ScoreRows(heads, prompts, causal=mask_of(attrs) == CAUSAL)
    base = float(attrs.get("base", math.e))
    plans = [_with_maxima(rows, rings, base)]
    if [w.head for w in windows] == list(range(heads)):
        window = window_of([(w.reference - w.spread, w.reference) for w in windows], base)
        if window is not None:
            plans.append(plan_softmax(rows, *rings, base=base, window=window))
    return cheapest(plans)


def _all_rows(shapes: Sequence[Shape]) -> tuple[int, int]:
    """Matrices of one width, one after the other."""
    return sum(rows for rows, _ in shapes), shapes[0][1]


def _norm_plan(shapes: Sequence[Shape], rings: Rings, attrs: Attrs, *, centred: bool) -> FunctionPlan:
    """Of heads side by side, each is a row."""
    (rows, columns), heads = _all_rows(shapes), int(attrs.get("heads", 1))
    return plan_norm(rows * heads, columns // heads, *rings, eps=float(attrs["eps"]), centred=centred)


def _multiply_plan(shapes: Sequence[Shape], rings: Rings) -> FunctionPlan:
    first, one, second, other, *made = rings
    return plan_element_product(_all_rows(shapes), ((first, one), (second, other)), *made)


def _smooth_relu_plan(shapes: Sequence[Shape], rings: Rings, form: str) -> FunctionPlan:
    return plan_smooth_relu(_all_rows(shapes), *rings, form=form)


MakePlan = Callable[[Sequence[Shape], Rings, Attrs, Sequence[ScoreWindow]], FunctionPlan]
"""Of the shapes that the prompts of a batch read, rings, attributes, windows."""

FUNCTIONS: Mapping[str, MakePlan] = {
    "softmax": _softmax_plan,
    "gelu": lambda shapes, rings, attrs, _: _smooth_relu_plan(shapes, rings, str(attrs.get("form", "tanh"))),
    "layer_norm": lambda shapes, rings, attrs, _: _norm_plan(shapes, rings, attrs, centred=True),
    "multiply": lambda shapes, rings, *_: _multiply_plan(shapes, rings),
    "relu": lambda shapes, rings, *_: plan_relu(_all_rows(shapes), *rings),
    "rms_norm": lambda shapes, rings, attrs, _: _norm_plan(shapes, rings, attrs, centred=False),
    "silu": lambda shapes, rings, *_: _smooth_relu_plan(shapes, rings, "silu"),
    "tanh": lambda shapes, rings, *_: plan_tanh(_all_rows(shapes), *rings),
}
"""What makes the plan of each nonlinear operation, and of products number by number."""
require_all("the plans of nonlinear operations", FUNCTIONS, of_arithmetic(Function, ElementProduct))


# --- a whole run --------------------------------------------------------------------------------------------------


def bare_pairs(graph: Graph, states: Mapping[str, str] = NO_STATES) -> dict[str, str]:
    """The values that carry the noise of a product of two shared values, with the name of that product.

    A linear layer's weights hide it; nothing that is local does, nor does a gain, which has one unknown a column, nor a
    nonlinear operation: ReLU and GELU give large numbers back as they are, probabilities tell differences of scores, a
    norm has one unknown a row. states: the same of the states that the graph reads.
    """
    bare = {name: pair for name, pair in states.items() if name in graph.state_in}
    for node in graph.nodes:
        if node.op in PAIRS:
            bare[node.name] = node.name
        elif node.op not in WHOLE:
            for name in node.inputs:
                if name in bare:
                    bare[node.name] = bare[name]
    return bare


def bare_states(graph: Graph, states: Mapping[str, str] = NO_STATES) -> dict[str, str]:
    """Of the states that a graph leaves, those that `bare_pairs` names."""
    bare = bare_pairs(graph, states)
    return {name: bare[value] for name, value in graph.state_out.items() if value in bare}


def checked_schedule(
    graphs: Sequence[Graph],
    plan: RingPlan,
    states: Sequence[Mapping[str, str]] | None = None,
    reveal: Reveal = LOGITS,
) -> Schedule:
    """The steps of a batch, in stages. ValueError, naming the node, where one has no protocol in this engine, where
    opening an output would show the noise of a product of shares, and for graphs that are not programs of one model.
    states: as in `bare_pairs`, for each graph; reveal: what is opened.
    """
    for graph, mine in zip(graphs, states or [NO_STATES] * len(graphs), strict=True):
        pair = bare_pairs(graph, mine).get(graph.output)
        if pair is not None:
            raise ValueError(
                f"{graph.output}: opening it would show the encryption noise of {pair!r}, a product of two shared "
                "values, and with it the other party's secrets (docs/security/pair.md); let a linear layer follow "
                "before the output"
            )
    return schedule(graphs, plan, wanted_bits, output_is_compared=reveal.k is not None)


def stage_cost(stage: Stage) -> ProtocolCost:
    """What a stage declares, extensions before it included."""
    cost, plan = extensions_cost([extension for wider in stage.wider for extension in wider]), group_plan(*stage.groups)
    return cost if plan is None else cost + plan.cost()


def ots_ahead(stages: Sequence[Stage]) -> list[ProtocolCost]:
    """The OTs to have ready before each stage: its own and those of the stages after it, while they are at most
    OTS_AHEAD in either direction; nothing before a stage whose OTs are there already."""
    ahead: list[ProtocolCost] = []
    first = 0
    for i, stage in enumerate(stages):
        cost = stage_cost(stage)
        own = ProtocolCost(ots_from_client=cost.ots_from_client, ots_from_server=cost.ots_from_server)
        ahead.append(own)
        if i == first:
            continue
        joined = ahead[first] + own
        if max(joined.ots_from_client, joined.ots_from_server) > OTS_AHEAD:
            first = i
        else:
            ahead[first], ahead[i] = joined, ProtocolCost()
    return ahead


def group_plan(*groups: Group) -> Plan[..., object] | None:
    """The plan of the protocol that steps take; None for what takes no message."""
    steps = [group[0] for group in groups]
    match OPS[steps[0].node.op].arithmetic:
        case WeightProduct() | LookUp():
            return row_gain_plan(*steps) if has_row_gains(steps[0]) else weight_plan(*groups)
        case SharedProduct():
            return stacked_plan(*steps)
        case Function() | ElementProduct():
            return function_plan(*steps)
        case Sum() | Move() | PublicProduct():
            return None
        case other:
            assert_never(other)


def extensions_cost(wider: Sequence[Extension]) -> ProtocolCost:
    if not wider:
        return ProtocolCost()
    return products_cost([shape for e in wider for shape in extension_shapes(e.size, e.from_bits, e.bits)])


def wear_of(stages: Sequence[Stage]) -> float:
    """The part of a key of the server's that a run takes, for all products of shares together."""
    return sum(stacked_plan(*stage.steps).wear for stage in stages if stage.op in PAIRS)


def keys_needed(stages: Sequence[Stage]) -> Keys:
    """Under which parameters each party encrypts."""
    plans = [plan for plan in (group_plan(*stage.groups) for stage in stages) if plan is not None]
    client = dict.fromkeys(key for plan in plans for key in plan.client_keys)
    server = dict.fromkeys(key for plan in plans for key in plan.server_keys)
    return Keys(tuple(client), tuple(server))


def needs_ots(stages: Sequence[Stage], reveal: Reveal = LOGITS) -> bool:
    """Whether anything but products with weights, and sums, is there."""
    if reveal.k is not None:
        return True
    costs = map(stage_cost, stages)
    return any(cost.ots_from_client + cost.ots_from_server for cost in costs)
