"""Which protocol each step of a graph takes, in which rings, and what it declares to cost.

Everything follows from the graph and the ring plan: both parties, and a cost model, know it before anything is sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from aero.engines.on_shares import Extension, Step, extensions, group_label, joined, known_windows, plan_steps
from aero.engines.open_output import output_costs
from aero.engines.reveal import LOGITS, Reveal
from aero.graph import OPS, Graph, Node
from aero.graph.ops import Shape
from aero.graph.ring_plan import Format, RingPlan, ScoreWindow
from aero.kernels.rlwe import WEIGHTS, Params
from aero.mpc.cost import ProtocolCost
from aero.mpc.functions.gelu import plan_gelu
from aero.mpc.functions.norm import plan_norm
from aero.mpc.functions.relu import plan_relu
from aero.mpc.functions.softmax import SoftmaxPlan, cheapest, plan_softmax, window_of
from aero.mpc.ot.supply import SupplyModel, set_up_cost
from aero.mpc.ot.transfer import products_cost
from aero.mpc.protocols.agree import agree_cost
from aero.mpc.protocols.embedding import EmbeddingPlan, plan_embedding
from aero.mpc.protocols.extend import extension_shapes
from aero.mpc.protocols.keys import keys_cost
from aero.mpc.protocols.known_factor import KnownFactorPlan
from aero.mpc.protocols.linear import LinearPlan, plan_linear
from aero.mpc.protocols.pair import PairPlan, plan_attend, plan_scores

PAIRS = ("scores", "attend")
OTS, OUTPUT = "ots", "output"
AGREED = 4
"""Things that both parties compare before a graph is run: the graph, the ring plan, what is revealed, public angles."""


def linear_plan(group: tuple[Step, ...]) -> LinearPlan:
    """The plan of linear layers that go together, or of a gain: the product with a diagonal matrix."""
    rows, inner = group[0].input_shapes[0]
    columns = sum(columns_of(step) for step in group)
    return _linear_plan(rows, inner, columns, group[0].ring_bits, group[0].output.bits)


def has_row_gains(step: Step) -> bool:
    """Whether this is a gain with factors of its own for each row."""
    return step.node.op == "gain" and len(step.weight_shapes[0]) == 2


def row_gain_plan(step: Step) -> KnownFactorPlan:
    assert step.factor is not None
    return KnownFactorPlan(step.input_shapes[0], step.ring_bits, min(step.factor.bits, step.ring_bits))


def columns_of(step: Step) -> int:
    return step.weight_shapes[0][1] if step.node.op == "linear" else step.input_shapes[0][1]


def pair_plan(step: Step) -> PairPlan:
    """The plan of `scores` or `attend`."""
    (first, second), op = step.input_shapes, step.node.op
    heads, queries, keys = (
        (int(step.node.attrs["heads"]), first[0], second[0]) if op == "scores" else (first[0], first[1], first[2])
    )
    return _pair_plan(op, heads, queries, keys, second[1] // heads, step.ring_bits, step.output.bits)


def embedding_plan(step: Step) -> EmbeddingPlan:
    (tokens,), (rows, columns) = step.input_shapes[0], step.weight_shapes[0]
    return _embedding_plan(tokens, rows, columns, step.output.bits)


def function_plan(step: Step) -> Any:
    """The plan of a nonlinear operation, as its module in `aero.mpc.functions` makes it."""
    assert step.promised is not None
    node, shape = step.node, step.input_shapes[0]
    return _function_plan(node.op, shape, step.promised, step.output, _attrs(node), step.windows)


def wanted_bits(node: Node, graph: Graph, plan: RingPlan, output_bits: int) -> int:
    """The ring in which a nonlinear operation reads its value, for a result in the ring of 2^output_bits."""
    read, made = plan.of_value(graph, node.inputs[0]), plan.of_value(graph, node.name)
    made = Format(output_bits, made.fraction_bits)
    shape, windows = graph.shapes[node.inputs[0]], known_windows(node, plan)
    found = _function_plan(node.op, shape, read, made, _attrs(node), windows)
    bits: int = found.input_bits
    return bits


def _attrs(node: Node) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(node.attrs.items()))


@lru_cache(maxsize=1024)
def _linear_plan(rows: int, inner: int, columns: int, ring_bits: int, output_bits: int) -> LinearPlan:
    return plan_linear(rows, inner, columns, ring_bits, output_bits)


@lru_cache(maxsize=1024)
def _pair_plan(op: str, heads: int, queries: int, keys: int, width: int, ring_bits: int, output_bits: int) -> PairPlan:
    make = plan_scores if op == "scores" else plan_attend
    return make(heads, queries, keys, width, ring_bits, output_bits)


@lru_cache(maxsize=1024)
def _embedding_plan(tokens: int, rows: int, columns: int, output_bits: int) -> EmbeddingPlan:
    return plan_embedding(tokens, rows, columns, output_bits)


@lru_cache(maxsize=1024)
def _function_plan(
    op: str,
    shape: Shape,
    read: Format,
    made: Format,
    attrs: tuple[tuple[str, Any], ...],
    windows: tuple[ScoreWindow, ...],
) -> Any:
    formats = read.bits, read.fraction_bits, made.bits, made.fraction_bits
    if op == "relu":
        return plan_relu(shape, *formats)
    if op == "gelu":
        return plan_gelu(shape, *formats, form=str(dict(attrs).get("form", "tanh")))
    if op in ("layer_norm", "rms_norm"):
        rows, columns = shape
        return plan_norm(rows, columns, *formats, eps=float(dict(attrs)["eps"]), centred=op == "layer_norm")
    if op == "causal_softmax":
        return _softmax_plan(shape, formats, float(dict(attrs).get("base", math.e)), windows)
    raise ValueError(f"the two-party engine has no protocol for {op!r} yet; use the engine 'spu-cheetah'")


def _softmax_plan(
    shape: Shape, formats: tuple[int, int, int, int], base: float, windows: tuple[ScoreWindow, ...]
) -> SoftmaxPlan:
    """With maxima; without, where the plan has a window that is wide enough for every head and that is cheaper."""
    heads, queries, keys = shape
    plans = [plan_softmax(heads, queries, keys, *formats, base=base)]
    if [w.head for w in windows] == list(range(heads)):
        window = window_of([(w.reference - w.spread, w.reference) for w in windows], base)
        if window is not None:
            plans.append(plan_softmax(heads, queries, keys, *formats, base=base, window=window))
    return cheapest(plans)


# --- a whole graph --------------------------------------------------------------------------------------------------


def bare_pairs(graph: Graph, states: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """The values that carry the noise of a product of two shared values, with the name of that product.

    A linear layer's weights hide it; nothing that is local does, nor does a gain, which has one unknown a column, nor a
    nonlinear operation: ReLU and GELU give large numbers back as they are, probabilities tell differences of scores, a
    norm has one unknown a row. states: the same of the states that the graph reads.
    """
    bare = {name: pair for name, pair in states.items() if name in graph.state_in}
    for node in graph.nodes:
        if node.op in PAIRS:
            bare[node.name] = node.name
        elif node.op != "linear":
            for name in node.inputs:
                if name in bare:
                    bare[node.name] = bare[name]
    return bare


def checked_steps(
    graph: Graph, plan: RingPlan, states: Mapping[str, str] = MappingProxyType({}), reveal: Reveal = LOGITS
) -> list[Step]:
    """The steps of a graph. ValueError, naming the node, where one has no protocol in this engine, or where opening the
    output would show the noise of a product of shares. states: as in `bare_pairs`; reveal: what is opened.
    """
    pair = bare_pairs(graph, states).get(graph.output)
    if pair is not None:
        raise ValueError(
            f"{graph.output}: opening it would show the encryption noise of {pair!r}, a product of two shared values, "
            "and with it the other party's secrets (docs/security/pair.md); let a linear layer follow before the output"
        )
    return plan_steps(graph, plan, wanted_bits, output_is_compared=reveal.k is not None)


def group_cost(group: tuple[Step, ...], wider: Sequence[Extension]) -> ProtocolCost:
    """What steps that go together declare, extensions before them included."""
    cost = extensions_cost(wider)
    plan = group_plan(group)
    return cost if plan is None else cost + plan.cost()


def group_plan(group: tuple[Step, ...]) -> Any:
    """The plan of the protocol that steps take, which has a `cost`; None for what is local."""
    op = group[0].node.op
    if has_row_gains(group[0]):
        return row_gain_plan(group[0])
    if op in ("linear", "gain"):
        return linear_plan(group)
    if op in PAIRS:
        return pair_plan(group[0])
    if op == "embedding":
        return embedding_plan(group[0])
    return function_plan(group[0]) if OPS[op].nonlinear else None


def extensions_cost(wider: Sequence[Extension]) -> ProtocolCost:
    if not wider:
        return ProtocolCost()
    return products_cost([shape for e in wider for shape in extension_shapes(e.size, e.held, e.bits)])


@dataclass(frozen=True)
class Keys:
    """Which parameters each party needs keys for."""

    client: tuple[Params, ...]
    server: tuple[Params, ...]


def keys_needed(groups: Sequence[tuple[Step, ...]]) -> Keys:
    client: dict[Params, None] = {}
    server: dict[Params, None] = {}
    for group in groups:
        plan = group_plan(group)
        if isinstance(plan, LinearPlan):
            client[plan.product.params] = None
        elif isinstance(plan, EmbeddingPlan):
            client[WEIGHTS] = None
        elif isinstance(plan, PairPlan):
            client[plan.params] = server[plan.params] = None
        elif plan is not None:
            client |= dict.fromkeys(getattr(plan, "client_keys", ()))
            server |= dict.fromkeys(getattr(plan, "server_keys", ()))
    return Keys(tuple(client), tuple(server))


@dataclass(frozen=True)
class Declared:
    """One line of what a run will send. label, op: of a step, or of steps that go together; cost: its bytes, messages
    and OTs; rounds: by how many it makes the run longer."""

    label: str
    op: str
    cost: ProtocolCost
    rounds: int


@dataclass(frozen=True)
class DeclaredRun:
    """A run of a graph in a new session. set_up: keys and base OTs, which travel before it."""

    set_up: ProtocolCost
    lines: tuple[Declared, ...]

    @property
    def rounds(self) -> int:
        return sum(line.rounds for line in self.lines)

    def total(self, count: Callable[[ProtocolCost], int]) -> int:
        """The sum of a count of each line's cost."""
        return sum(count(line.cost) for line in self.lines)


def declared_run(
    graph: Graph,
    plan: RingPlan,
    states: Mapping[str, str] = MappingProxyType({}),
    reveal: Reveal = LOGITS,
    vocabulary: int | None = None,
) -> DeclaredRun:
    """What a run of a graph will send, before anything is sent. states: as in `bare_pairs`; reveal: what is opened, of
    the first `vocabulary` columns, by default all."""
    groups = joined(graph, checked_steps(graph, plan, states, reveal))
    set_up, supply = set_up_declared(groups, reveal), SupplyModel()
    lines: list[Declared] = []
    clock = set_up

    def add(label: str, op: str, cost: ProtocolCost) -> None:
        nonlocal clock
        before, clock = clock.rounds, clock + cost
        if cost.messages:
            lines.append(Declared(label, op, cost, clock.rounds - before))

    for group, wider in zip(groups, extensions(graph, plan, groups), strict=True):
        cost = group_cost(group, wider)
        add(OTS, OTS, supply.reserve(cost.ots_from_client, cost.ots_from_server))
        supply.use(cost.ots_from_client, cost.ots_from_server)
        add(group_label(group), group[0].node.op, cost)
    output = next(group[0].output for group in groups if any(s.node.name == graph.output for s in group))
    shape = graph.shapes[graph.output]
    for cost in output_costs(shape, output, reveal, vocabulary or shape[1]):
        add(OTS, OTS, supply.reserve(cost.ots_from_client, cost.ots_from_server))
        supply.use(cost.ots_from_client, cost.ots_from_server)
        add(OUTPUT, OUTPUT, cost)
    return DeclaredRun(set_up, tuple(lines))


def set_up_declared(groups: Sequence[tuple[Step, ...]], reveal: Reveal = LOGITS) -> ProtocolCost:
    """Of a new session: that both have the same, keys, base OTs."""
    keys = keys_needed(groups)
    cost = agree_cost(AGREED) + keys_cost(keys.client, keys.server)
    return cost + set_up_cost() if needs_ots(groups, reveal) else cost


def needs_ots(groups: Sequence[tuple[Step, ...]], reveal: Reveal = LOGITS) -> bool:
    """Whether anything but products with weights, and sums, is there."""
    if reveal.k is not None:
        return True
    plans = [(group[0], group_plan(group)) for group in groups]
    wide = any(step.extends for step, _ in plans)
    return wide or any(plan.cost().ots_from_client + plan.cost().ots_from_server for _, plan in plans if plan)
