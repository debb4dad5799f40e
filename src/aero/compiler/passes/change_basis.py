"""FFNs disappear from a Softmax-only model when the residual stream is held in the basis of one of its layers.

With matrices M_0 .. M_{n-1} on the stream, choose a segment k; hold every v of segment s as z, v = z T_s + kappa:

    T_s = (M_s .. M_{k-1})^-1   before k          T_k = I          T_s = M_k .. M_{s-1}   after k

    a matrix:   v M + c            = z T_{s+1} + (kappa M + c)                   nothing is left to compute
    a writer:   v + A W + b        = (z + A W T_s^-1) T_s + (kappa + b)          W' = W T_s^-1, no bias
    a leaf:     v W + b            = z (T_s W) + (b + kappa W)                   W' = T_s W
    the source: z_0 = v_0 T_0^-1   = (E T_0^-1)[ids] + P T_0^-1

An inverse is formed only for the leaves before k and the writers after it. A second embedding table, in the first
segment's own basis, spares the worst of them: the first segment's leaves read it, and T_0 is never inverted.
kappa is constant, and the server's. Precondition: `residual_stream.find_stream` found the stream.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aero.compiler.passes.residual_stream import Stream
from aero.compiler.passes.rewrite import Rewrite, matrix_and_bias
from aero.graph import Program

_CANDIDATES = 3


@dataclass(frozen=True)
class Basis:
    """segment: k; second_table: for the first segment's leaves; condition: the largest of a matrix that is inverted."""

    segment: int
    second_table: bool
    condition: float


def best_basis(program: Program, stream: Stream, *, second_table: bool) -> Basis:
    """The segment whose basis needs the best-conditioned inverses.

    cond(A B) <= cond(A) cond(B) ranks the segments; the first few are then measured.
    """
    matrices = [program.weights[m.weights[0]] for m in stream.matrices]
    single = np.array([condition_number(m) for m in matrices])

    def bounds(k: int) -> dict[int, float]:
        """By segment whose product must be inverted, how large the condition number can be at most."""
        found = {}
        for s, segment in enumerate(stream.segments):
            users = segment.leaves if s < k else segment.writers
            if s != k and users and not (s == 0 and second_table):
                found[s] = float(np.prod(single[min(s, k) : max(s, k)]))
        return found

    ranked = sorted(range(len(stream.segments)), key=lambda k: max(bounds(k).values(), default=1.0))[:_CANDIDATES]
    found = [Basis(k, second_table, _measure(matrices, k, bounds(k))) for k in ranked]
    return min(found, key=lambda basis: basis.condition)


def _measure(matrices: list[np.ndarray], k: int, bounds: dict[int, float]) -> float:
    """The largest condition number of a product that must be inverted."""
    worst, products = 1.0, _products(matrices, k)
    for s, bound in sorted(bounds.items(), key=lambda item: -item[1]):
        if bound > worst:  # else it cannot be worse than what is known
            worst = max(worst, condition_number(products[s]))
    return worst


def change_basis(program: Program, stream: Stream, basis: Basis) -> Program:
    """Hold the stream in the basis of one segment; every matrix on it disappears."""
    rewrite, k = Rewrite(program), basis.segment
    matrices = [matrix_and_bias(program, m) for m in stream.matrices]
    products = _products([w for w, _ in matrices], k)
    width = products[0].shape[0]
    kappa, z = np.zeros(width), {}
    if basis.second_table:
        _copy_source(program, rewrite, stream, products[0])
        z[stream.source[-1].name] = f"{stream.source[-1].name}.stream"
    else:
        _change_source(program, rewrite, stream, products[0])
    for s, segment in enumerate(stream.segments):
        product = products[s]
        for leaf in segment.leaves:
            w, b = matrix_and_bias(program, leaf)
            if s == 0 and basis.second_table:
                continue
            changed = np.linalg.solve(product, w) if s < k else product @ w
            # A leaf before a writer of its segment does not see that writer's bias.
            at = segment.values.index(leaf.inputs[0])
            seen = kappa + sum((matrix_and_bias(program, w)[1] for w in segment.writers[:at]), np.zeros(width))
            source = z.get(leaf.inputs[0], leaf.inputs[0])
            rewrite.replace(leaf.name, rewrite.linear(leaf.name, source, changed, b + seen @ w))
        for writer in segment.writers:
            w, b = matrix_and_bias(program, writer)
            changed = w @ product if s < k else np.linalg.solve(product.T, w.T).T
            rewrite.replace(writer.name, rewrite.linear(writer.name, writer.inputs[0], changed))
            kappa = kappa + b
        if segment.matrix is not None:
            w, c = matrices[s]
            kappa = kappa @ w + c
    for old, new in z.items():
        _read_stream_copy(rewrite, stream, old, new)
    for matrix in stream.matrices:
        current = next(n for n in rewrite.nodes if n.name == matrix.name)
        rewrite.read_instead(matrix.name, current.inputs[0])
    return rewrite.done()


def _products(matrices: list[np.ndarray], k: int) -> list[np.ndarray]:
    """For each segment s: M_s .. M_{k-1} before k, the identity at k, M_k .. M_{s-1} after it."""
    products: dict[int, np.ndarray] = {k: np.eye(len(matrices[0]))}
    for s in range(k - 1, -1, -1):
        products[s] = matrices[s] @ products[s + 1]
    for s in range(k + 1, len(matrices) + 1):
        products[s] = products[s - 1] @ matrices[s - 1]
    return [products[s] for s in range(len(matrices) + 1)]


def condition_number(matrix: np.ndarray) -> float:
    """In the 2-norm; infinite where a singular value is zero."""
    values = np.linalg.svd(matrix, compute_uv=False)
    return float(values[0] / values[-1]) if values[-1] > 0 else float("inf")


def _change_source(program: Program, rewrite: Rewrite, stream: Stream, product: np.ndarray) -> None:
    for node in stream.source:
        role = "table" if node.op == "embedding" else "w"
        names = (rewrite.own_weight(node.name, role, _rows_times(program.weights[node.weights[0]], product)),)
        rewrite.replace(node.name, node.replace(weights=names))


def _copy_source(program: Program, rewrite: Rewrite, stream: Stream, product: np.ndarray) -> None:
    """A second source, named like the first with ".stream", beside it and in the stream's basis."""
    for index, node in enumerate(stream.source):
        name, role = f"{node.name}.stream", "table" if node.op == "embedding" else "w"
        weight = rewrite.own_weight(name, role, _rows_times(program.weights[node.weights[0]], product))
        inputs = node.inputs if index == 0 else (f"{stream.source[index - 1].name}.stream",)
        rewrite.replace(node.name, node, node.replace(name=name, inputs=inputs, weights=(weight,)))


def _rows_times(w: np.ndarray, product: np.ndarray) -> np.ndarray:
    """w product, where w is a table, or a bias of any of its shapes."""
    return np.broadcast_to(w, len(product)) @ product if w.ndim == 0 else w @ product


def _read_stream_copy(rewrite: Rewrite, stream: Stream, old: str, new: str) -> None:
    """Whoever reads the source, other than the first segment's leaves, reads its copy in the stream's basis."""
    first = {leaf.name for leaf in stream.segments[0].leaves}
    for node in list(rewrite.nodes):
        if old in node.inputs and node.name not in first:
            rewrite.replace(node.name, node.replace(inputs=tuple(new if i == old else i for i in node.inputs)))
