"""The residual stream of a Softmax-only model, found in a graph: what FFN elimination works on.

    v_0 = embedding (+ positions)        v_{i+1} = v_i + A W_O    or    v_{i+1} = v_i M + c

Between two matrices M lies a segment. Its values are read by linear layers (queries, keys, values, logits), here called
leaves. Nothing else may read the stream, so every value of it may be held in another basis, v = z T + kappa.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aero.compiler.passes.rewrite import sole_reader
from aero.graph import Graph, Node


@dataclass
class Segment:
    """A stretch of the stream between two matrices.

    values: names, in order; writers: the linear layers that are added to it; leaves: the linear layers that read it;
    matrix: the linear node that leads to the next segment, None in the last one.
    """

    values: list[str]
    writers: list[Node] = field(default_factory=list)
    leaves: list[Node] = field(default_factory=list)
    matrix: Node | None = None


@dataclass(frozen=True)
class Stream:
    """source: the nodes that compute v_0, an embedding and what is added to it; segments: one more than matrices."""

    source: tuple[Node, ...]
    segments: tuple[Segment, ...]

    @property
    def matrices(self) -> list[Node]:
        return [segment.matrix for segment in self.segments if segment.matrix is not None]

    @property
    def first_leaves_read_the_source(self) -> bool:
        return all(leaf.inputs[0] == self.source[-1].name for leaf in self.segments[0].leaves)


def find_stream(graph: Graph) -> Stream | None:
    """The stream, where the graph has one embedding and nothing nonlinear reads the stream; otherwise None."""
    embeddings = [node for node in graph.nodes if node.op == "embedding"]
    if len(embeddings) != 1:
        return None
    source = [embeddings[0]]
    while (reader := sole_reader(graph, source[-1].name)) is not None and reader.op == "bias":
        source.append(reader)
    segments = [Segment([source[-1].name])]
    while True:
        segment, value = segments[-1], segments[-1].values[-1]
        if value in graph.kept:
            return None
        following = [reader for reader in graph.consumers[value] if _continues(graph, reader)]
        leaves = [reader for reader in graph.consumers[value] if reader not in following]
        if len(following) > 1 or any(leaf.op != "linear" for leaf in leaves):
            return None
        segment.leaves += leaves
        if not following:
            return Stream(tuple(source), tuple(segments))
        (node,) = following
        if node.op == "linear":
            segment.matrix = node
            segments.append(Segment([node.name]))
            continue
        others = [name for name in node.inputs if name != value]
        writer = graph.by_name.get(others[0]) if others else None
        if writer is None or writer.op != "linear" or sole_reader(graph, writer.name) is not node:
            return None
        segment.writers.append(writer)
        segment.values.append(node.name)


def _continues(graph: Graph, reader: Node) -> bool:
    """Is this reader the stream's next value, and not a leaf?"""
    if reader.op == "add":
        return True
    readers = graph.consumers[reader.name]
    if reader.op != "linear" or reader.name in graph.kept or not readers:
        return False
    return graph.shapes[reader.name] == graph.shapes[reader.inputs[0]] and all(
        r.op in ("add", "linear") for r in readers
    )
