"""A graph on shares, or those of a batch: the walk through the stages of a schedule.

The same walk serves every engine that computes on shares; they differ in the `Protocols` that they bring. What takes no
message is done for each prompt on its own.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from aero.engines.engine import Progress
from aero.engines.planning.stages import Schedule, Stage, read
from aero.engines.planning.steps import Group, Step, columns_of, state_format
from aero.graph import OPS, Graph
from aero.graph.graph import INPUT
from aero.graph.interpret import apply, check_ids
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
from aero.graph.ring_plan import Format, RingPlan
from aero.mpc.fixed_point import to_ring
from aero.mpc.party import Party, Role
from aero.mpc.share import Share, Words, known


class Protocols(ABC):
    """What takes messages, or a dealer, each time for all prompts of a batch. Each result is a share in the ring
    `step.output.bits`, truncated."""

    def begin(self, stage: Stage) -> None:  # noqa: B027
        """Called before each stage."""

    @abstractmethod
    def added(self, step: Step, name: str) -> NDArray[np.int64] | None:
        """The server's numbers of this name, which are added to the step's value; None to the client."""

    @abstractmethod
    def linear(self, groups: Sequence[Group], xs: Sequence[Share]) -> list[list[Share]]:
        """[x W] for linear layers that go together, or for one gain, for each prompt; x has their `ring_bits`. The
        server's weights are known by the steps' names."""

    @abstractmethod
    def pair(self, steps: Sequence[Step], factors: Sequence[tuple[Share, Share]]) -> list[Share]:
        """[x y] for products of two shared values, all heads: x [H, T, k], y [H, k, m]; only live entries count."""

    @abstractmethod
    def extend(self, values: Sequence[Share], bits: Sequence[int]) -> list[Share]:
        """Each [x] in a larger ring; x lies in a quarter of its ring on either side of zero."""

    @abstractmethod
    def function(self, steps: Sequence[Step], inputs: Sequence[Sequence[Share]]) -> list[Share]:
        """[f(x)], or [x y] number by number."""

    @abstractmethod
    def embedding(self, steps: Sequence[Step], ids: Sequence[np.ndarray | None]) -> list[Share]:
        """[table[ids]]; the client gives the ids."""


def check_states(graph: Graph, plan: RingPlan, states: Mapping[str, Share]) -> None:
    """ValueError, naming what is wrong, where a state that the graph reads is not there, or is not as it reads it: of
    its shape, in its ring, with its fractional bits."""
    for name, shape in graph.state_in.items():
        if name not in states:
            raise ValueError(f"the graph reads the state {name!r}: run what leaves it, or share_state it, first")
        x, expected = states[name], state_format(graph, plan, name)
        for what, found, wanted in (
            ("the shape", x.shape, shape),
            ("ring bits", x.bits, expected.bits),
            ("fraction bits", x.fraction_bits, expected.fraction_bits),
        ):
            if found != wanted:
                raise ValueError(
                    f"the graph reads the state {name!r} with {what} {wanted}, and the state that is here has {found}; "
                    "run the one that leaves it so first"
                )


def walk(
    party: Party,
    schedule: Schedule,
    protocols: Protocols,
    *,
    ids: Sequence[np.ndarray | None],
    states: Sequence[Mapping[str, Share]],
    progress: Progress | None = None,
) -> list[tuple[Share, dict[str, Share]]]:
    """Run a batch as one party: ids and states of each prompt. Returns its share of each output and of each state.
    Traffic is counted by node, and by nodes that go together."""
    graphs, stages = schedule.graphs, schedule.stages
    ids = [_checked(party, graph, mine) for graph, mine in zip(graphs, ids, strict=True)]
    values: list[dict[str, Share]] = [dict(state) for state in states]
    last_use: list[dict[str, int]] = [{} for _ in graphs]
    for index, stage in enumerate(stages):
        for prompt, step in zip(stage.prompts, stage.steps, strict=True):
            last_use[prompt] |= dict.fromkeys(read(step), index)
    for prompt, graph in enumerate(graphs):
        last_use[prompt] |= dict.fromkeys(graph.kept, len(stages))
    for index, stage in enumerate(stages):
        if progress is not None:
            progress(stage.label, index / len(stages))
        protocols.begin(stage)
        with party.channel.op(stage.label):
            _extend(protocols, stage, values)
            inputs = [[values[p][name] for name in read(s)] for p, s in zip(stage.prompts, stage.steps, strict=True)]
            results = _compute(party, stage, protocols, inputs, [ids[prompt] for prompt in stage.prompts])
        for prompt, group, found in zip(stage.prompts, stage.groups, results, strict=True):
            for step, value in zip(group, found, strict=True):
                name, fmt = step.node.name, step.output
                assert (value.bits, value.fraction_bits) == (fmt.bits, fmt.fraction_bits), name
                assert value.shape == graphs[prompt].shapes[name], name
                values[prompt][name] = value
            for name in [name for name in values[prompt] if last_use[prompt].get(name, 0) <= index]:
                del values[prompt][name]
    return [_left(schedule, prompt, found) for prompt, found in enumerate(values)]


def _checked(party: Party, graph: Graph, ids: np.ndarray | None) -> np.ndarray | None:
    if not party.is_client or all(INPUT not in node.inputs for node in graph.nodes):
        return ids
    if ids is None:
        raise ValueError("this graph reads token ids: the client gives them")
    return check_ids(ids, graph.length)


def _extend(protocols: Protocols, stage: Stage, values: list[dict[str, Share]]) -> None:
    wider = [(prompt, extension) for prompt, mine in enumerate(stage.wider) for extension in mine]
    if wider:
        extended = protocols.extend([values[prompt][e.name] for prompt, e in wider], [e.bits for _, e in wider])
        for (prompt, extension), x in zip(wider, extended, strict=True):
            values[prompt][extension.name] = x


def _left(schedule: Schedule, prompt: int, values: Mapping[str, Share]) -> tuple[Share, dict[str, Share]]:
    """The output of a prompt and its state, as they are kept."""
    graph, plan = schedule.graphs[prompt], schedule.plan
    kept = {name: values[value] for name, value in graph.state_out.items()}
    output = schedule.outputs[prompt].output
    return values[graph.output].reduced(output.bits), {
        name: x.reduced(min(x.bits, state_format(graph, plan, name).bits)) for name, x in kept.items()
    }


def _compute(
    party: Party,
    stage: Stage,
    protocols: Protocols,
    inputs: list[list[Share]],
    ids: Sequence[np.ndarray | None],
) -> list[list[Share]]:
    """The values of each prompt's group."""
    steps = stage.steps
    match OPS[stage.op].arithmetic:
        case WeightProduct():
            products = protocols.linear(stage.groups, [_ready(s, x) for s, (x,) in zip(steps, inputs, strict=True)])
            return [
                [_biased(party, step, protocols, y) for step, y in zip(group, found, strict=True)]
                for group, found in zip(stage.groups, products, strict=True)
            ]
        case LookUp():
            results = protocols.embedding(steps, ids)
        case SharedProduct() as product:
            factors = [_factors(step, product, *mine) for step, mine in zip(steps, inputs, strict=True)]
            pairs = zip(steps, protocols.pair(steps, factors), strict=True)
            results = [z.of(product.joined(z.values, **step.node.attrs)) for step, z in pairs]
        case Function() | ElementProduct():
            results = protocols.function(steps, inputs)
        case Move():
            results = [_moved(step, mine) for step, mine in zip(steps, inputs, strict=True)]
        case Sum():
            results = [_sum(party, step, protocols, mine) for step, mine in zip(steps, inputs, strict=True)]
        case PublicProduct() as public:
            results = [_times_public(step, public, x) for step, (x,) in zip(steps, inputs, strict=True)]
        case other:
            assert_never(other)
    return [[result] for result in results]


def _factors(step: Step, product: SharedProduct, x: Share, y: Share) -> tuple[Share, Share]:
    """Those of every head, in the ring of the product."""
    x, y = _ready(step, x), y.reduced(step.ring_bits)
    left, right = product.factors(x.values, y.values, **step.node.attrs)
    return x.of(np.ascontiguousarray(left)), y.of(np.ascontiguousarray(right))


# What takes no message: each party does the same to its own parts.


def _moved(step: Step, inputs: list[Share]) -> Share:
    parts = [x.reduced(step.output.bits) for x in inputs]
    return parts[0].of(apply(step.node, [x.values for x in parts], []))


def _sum(party: Party, step: Step, protocols: Protocols, inputs: list[Share]) -> Share:
    terms = [_to(x, step.output) for x in inputs]
    added = [_added(party, step, protocols, name).values for name in step.node.added]
    return terms[0].of(apply(step.node, [x.values for x in terms], added))


def _times_public(step: Step, product: PublicProduct, x: Share) -> Share:
    assert step.factor is not None
    x = _ready(step, x)
    constants = [to_ring(table, x.bits) for table in _constants(step, product)]
    y = product.form(x.values, *constants, **step.node.attrs)
    return x.of(y, fraction_bits=x.fraction_bits + step.factor.fraction_bits).truncated(step.dropped)


def _biased(party: Party, step: Step, protocols: Protocols, y: Share) -> Share:
    for name in step.node.added:
        y = y + _added(party, step, protocols, name)
    return y


def _ready(step: Step, x: Share) -> Share:
    """The first factor of a product, in the product's ring."""
    x = x.reduced(step.ring_bits)
    return x.times(1 << -step.shift, -step.shift) if step.shift < 0 else x


def _constants(step: Step, product: PublicProduct) -> list[np.ndarray]:
    """The public factors, as integers."""
    assert step.factor is not None
    tables = product.constants(step.input_shapes[0], **step.node.attrs)
    return [step.factor.encode(table, step.node.name) for table in tables]


def angles_digest(steps: Sequence[Step]) -> str:
    """Of all public angles as this machine computes them. Libraries round the last place of a cosine as they like; two
    parties that multiplied their parts by different integers would get nonsense, so they compare this before."""
    digest = hashlib.sha256()
    for step in steps:
        product = OPS[step.node.op].arithmetic
        if isinstance(product, PublicProduct) and product.computed:
            for table in _constants(step, product):
                digest.update(table.astype("<i8").tobytes())
    return digest.hexdigest()


def _to(x: Share, fmt: Format) -> Share:
    """The same number in another format."""
    gained = fmt.fraction_bits - x.fraction_bits
    x = x.times(1 << gained, gained) if gained > 0 else x.truncated(-gained)
    return x.reduced(fmt.bits)


def _added(party: Party, step: Step, protocols: Protocols, name: str) -> Share:
    """What the server adds, in the format of the sum."""
    shape, bias = (step.input_shapes[0][0], columns_of(step)), protocols.added(step, name)
    values: Words = np.zeros(shape, dtype=np.uint64)
    if bias is not None:
        values = np.ascontiguousarray(np.broadcast_to(to_ring(bias, step.output.bits), shape))
    return known(party, Role.SERVER, values, step.output.bits, step.output.fraction_bits)
