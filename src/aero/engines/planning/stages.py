"""The order of a run: what is done at once, of one prompt or of a batch, and what is extended before it.

The graphs of a batch are programs of one model for other lengths and pasts: the same operations of the same weights, by
name, that differ in how many rows they have and in which rows they move. What takes messages is done for all prompts
in the same stage, so that a batch takes the rounds of one prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aero.engines.planning.steps import MOVES, WHOLE, Group, Step, Wants, plan_steps, state_format
from aero.graph import Graph
from aero.graph.graph import INPUT
from aero.graph.ring_plan import RingPlan, whole_weight


@dataclass(frozen=True)
class Extension:
    """A value that is brought from its ring into a larger one. from_bits, bits: of the rings; size: its elements."""

    name: str
    from_bits: int
    bits: int
    size: int


@dataclass(frozen=True)
class Stage:
    """What is done at once. wider: what is extended before, of every prompt of the batch. groups: the steps that go
    together then, of each of the prompts at these places in the batch."""

    wider: tuple[tuple[Extension, ...], ...]
    prompts: tuple[int, ...]
    groups: tuple[Group, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """The first step of each group."""
        return tuple(group[0] for group in self.groups)

    @property
    def op(self) -> str:
        return self.groups[0][0].node.op

    @property
    def label(self) -> str:
        """Under which traffic is counted: the names of the nodes."""
        return group_label(self.groups[0])


@dataclass(frozen=True)
class Schedule:
    """A whole run, known before anything is sent. steps: of each graph."""

    graphs: tuple[Graph, ...]
    plan: RingPlan
    steps: tuple[tuple[Step, ...], ...]
    stages: tuple[Stage, ...]

    @property
    def outputs(self) -> list[Step]:
        """The steps that make the outputs, of each graph."""
        pairs = zip(self.graphs, self.steps, strict=True)
        return [next(s for s in steps if s.node.name == graph.output) for graph, steps in pairs]


def schedule(
    graphs: Sequence[Graph], plan: RingPlan, wants: Wants | None = None, *, output_is_compared: bool = False
) -> Schedule:
    """Of a batch. ValueError, naming the node, for graphs that are not programs of one model."""
    steps = plan_steps(graphs, plan, wants, output_is_compared=output_is_compared)
    stages = plan_stages(graphs, plan, steps)
    found = Schedule(tuple(graphs), plan, tuple(map(tuple, steps)), tuple(stages))
    _check_outputs(found)
    return found


def group_label(group: Group) -> str:
    return " ".join(step.node.name for step in group)


def joined(batch: Sequence[Sequence[Step]]) -> list[list[Group]]:
    """The steps of each prompt in order; products of one value with whole matrices, in the same rings, go together as
    one, where they do in all prompts."""
    products: dict[str, list[tuple[tuple[str, ...], int, int]]] = {}
    for step in (step for steps in batch for step in steps if step.node.op in WHOLE):
        products.setdefault(step.node.name, []).append((step.node.inputs, step.ring_bits, step.shift))
    return [_joined(steps, products) for steps in batch]


def _joined(steps: Sequence[Step], products: Mapping[str, list[tuple[tuple[str, ...], int, int]]]) -> list[Group]:
    groups: list[Group] = []
    done: set[str] = set()
    for step in steps:
        name = step.node.name
        if name in done:
            continue
        group: Group = (step,)
        if step.node.op in WHOLE:
            group = tuple(s for s in steps if s.node.op in WHOLE and products[s.node.name] == products[name])
        groups.append(group)
        done.update(s.node.name for s in group)
    return groups


def plan_stages(graphs: Sequence[Graph], plan: RingPlan, batch: Sequence[Sequence[Step]]) -> list[Stage]:
    """The steps of each graph, stage by stage: rows are moved for each prompt on its own, everything else for all at
    once, extensions too. ValueError for graphs that are not programs of one model."""
    groups = joined(batch)
    queues = [_Queue(graph, plan, mine) for graph, mine in zip(graphs, groups, strict=True)]
    everyone, nothing = range(len(queues)), ((),) * len(queues)
    stages: list[Stage] = []

    def add(prompts: Iterable[int], *, extend: bool) -> None:
        wider = tuple(queue.extend() for queue in queues) if extend else nothing
        stages.append(Stage(wider, tuple(prompts), tuple(queues[i].take() for i in prompts)))

    while any(queue.groups for queue in queues):
        for i in everyone:
            while queues[i].moves and not queues[i].waits:
                add([i], extend=False)
        moving = [i for i in everyone if queues[i].moves]
        if moving:  # into a larger ring, for which other prompts have something to extend as well
            add(moving, extend=True)
        elif any(queue.groups for queue in queues):
            _check_alike(graphs, [queue.groups[-1] if queue.groups else () for queue in queues])
            add(everyone, extend=any(queue.waits for queue in queues))
    return stages


class _Queue:
    """What is still to be done of one prompt, the next last; and what is extended when: what is read next, and whatever
    else a later product, or a later run, reads and is there already, as both then take one message."""

    def __init__(self, graph: Graph, plan: RingPlan, groups: Sequence[Group]) -> None:
        self.groups = list(reversed(groups))
        self._graph = graph
        self._there = set(graph.state_in)
        self._bits: dict[str, int] = {}
        self._needs: dict[str, int] = {}
        for step in (group[0] for group in groups):
            for name, need, found in zip(read(step), step.needed, step.inputs, strict=True):
                self._needs[name] = max(self._needs.get(name, 0), need)
                self._bits[name] = found.bits
        self._kept = {
            value: state_format(graph, plan, name).bits
            for name, value in graph.state_out.items()
            if value in self._needs
        }
        for value, bits in self._kept.items():
            self._needs[value] = max(self._needs[value], bits)

    @property
    def moves(self) -> bool:
        """Whether rows are moved next."""
        return bool(self.groups) and self.groups[-1][0].node.op in MOVES

    @property
    def waits(self) -> bool:
        """Whether something has to be extended before what is next."""
        if not self.groups:
            return False
        step = self.groups[-1][0]
        pairs = zip(read(step), step.needed, strict=True)
        return any(max(need, self._kept.get(name, 0)) > self._bits[name] for name, need in pairs)

    def extend(self) -> tuple[Extension, ...]:
        """What is extended now."""
        names = [name for name in self._bits if name in self._there and self._needs[name] > self._bits[name]]
        shapes = self._graph.shapes
        now = tuple(Extension(name, self._bits[name], self._needs[name], math.prod(shapes[name])) for name in names)
        self._bits |= {extension.name: extension.bits for extension in now}
        return now

    def take(self) -> Group:
        """The steps that are next, which are computed now."""
        group = self.groups.pop()
        self._there |= {step.node.name for step in group}
        return group


def read(step: Step) -> list[str]:
    """The values that a step reads, in shares."""
    return [name for name in step.node.inputs if name != INPUT]


def _check_alike(graphs: Sequence[Graph], groups: Sequence[Group]) -> None:
    first = groups[0]
    for other in groups[1:]:
        names = [group_label(group) or "nothing more" for group in (first, other)]
        if names[0] != names[1]:
            raise _other_model(f"one computes {names[0]!r} where another computes {names[1]!r}")
    for several in zip(*groups, strict=True):
        found = [_fixed(graph, step) for graph, step in zip(graphs, several, strict=True)]
        for what, value in found[0].items():
            for other_fixed in found[1:]:
                if other_fixed[what] != value:
                    raise _other_model(f"{what} of {several[0].node.name!r}, {value} and {other_fixed[what]}")


def _check_outputs(found: Schedule) -> None:
    """All outputs are opened as a single matrix, so they are of the same node, in the same format, and as wide."""
    first = found.graphs[0]
    formats = [step.output for step in found.outputs]
    for graph, fmt in zip(found.graphs, formats, strict=True):
        if graph.output != first.output:
            raise _other_model(f"one's output is {first.output!r}, another's {graph.output!r}")
        columns = [g.shapes[g.output][1:] for g in (first, graph)]
        if columns[0] != columns[1] or fmt != formats[0]:
            raise _other_model(f"the output {first.output!r}, {columns[0]} in {formats[0]} and {columns[1]} in {fmt}")


def _other_model(differs: str) -> ValueError:
    return ValueError(f"the graphs of a batch are programs of one model, and these differ: {differs}; run them apart")


def _fixed(graph: Graph, step: Step) -> dict[str, object]:
    """What does not depend on how many rows there are, nor on where they stand."""
    node = step.node
    shapes = [graph.weight_shapes[name] for name in node.weights]
    return {
        "the operation": node.op,
        "the attributes": {key: value for key, value in node.attrs.items() if key != "start"},
        "the weights": [whole_weight(name) for name in node.weights],
        "the weights' sizes": [s[1:] if n != whole_weight(n) else s for n, s in zip(node.weights, shapes, strict=True)],
        "the width": graph.shapes[node.name][0 if len(graph.shapes[node.name]) == 3 else 1],
        "the number formats": (step.output, step.factor, step.promised, step.wanted, step.windows),
    }
