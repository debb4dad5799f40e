"""Branches of a sum that are linear in one and the same value become one linear layer.

    beta x + (x W + b) / alpha = x (beta I + W / alpha) + b / alpha

An FFN without an activation, its skip connection included, is then one matrix on the residual stream: what FFN
elimination starts from. A sum of more terms is taken apart and put together again, so it does not matter in which order
attention, FFN and residual stream were added.
Precondition: nothing else reads what lies between the value and the sum, and the one matrix is no dearer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aero.compiler.passes.rewrite import Rewrite, factor_of, matrix_and_bias, sole_reader, until_done
from aero.graph import Graph, Node, Program


@dataclass(frozen=True)
class _Branch:
    """One term of a sum: term = source matrix + bias. products: multiplications for each row, as it stands."""

    term: str
    source: str
    matrix: np.ndarray
    bias: np.ndarray
    products: int


def merge_branches(program: Program) -> Program:
    return until_done(_merge_one, program)


def _merge_one(program: Program) -> Program:
    graph = program.graph
    for node in graph.nodes:
        above = sole_reader(graph, node.name)
        if node.op != "add" or (above is not None and above.op == "add"):
            continue
        terms = _terms(graph, node)
        groups: dict[str, list[_Branch]] = {}
        for term in terms:
            branch = _branch(program, term)
            groups.setdefault(branch.source, []).append(branch)
        for source, branches in groups.items():
            k, m = branches[0].matrix.shape
            if len(branches) > 1 and k * m <= sum(branch.products for branch in branches):
                return _merge(program, node, terms, source, branches)
    return program


def _terms(graph: Graph, node: Node) -> list[str]:
    """The terms of a sum of sums, leftmost first."""
    found = []
    for name in node.inputs:
        term = graph.by_name.get(name)
        nested = term is not None and term.op == "add" and sole_reader(graph, name) is node
        found += _terms(graph, term) if nested and term is not None else [name]
    return found


def _branch(program: Program, term: str) -> _Branch:
    """How far up a term is linear, through values that nothing else reads."""
    graph, source, products = program.graph, term, 0
    width = graph.shapes[term][1]
    matrix: np.ndarray | None = None  # the identity, which need not be multiplied with
    bias = np.zeros(width)
    while (node := graph.by_name.get(source)) is not None and sole_reader(graph, source) is not None:
        if node.op == "linear":
            w, b = matrix_and_bias(program, node)
            matrix, bias = (w, b + bias) if matrix is None else (w @ matrix, b @ matrix + bias)
            products += w.size
        elif node.op in ("gain", "scale") and (g := factor_of(program, node)).ndim < 2:
            rows = graph.shapes[source][1]
            matrix = np.broadcast_to(g, rows)[:, None] * (np.eye(rows) if matrix is None else matrix)
            products += rows if node.op == "gain" else 0
        elif node.op == "bias" and (c := program.weights[node.weights[0]]).ndim < 2:
            c = np.broadcast_to(c, graph.shapes[source][1])
            bias = (c if matrix is None else c @ matrix) + bias
        else:
            break
        source = node.inputs[0]
    return _Branch(term, source, np.eye(width) if matrix is None else matrix, bias, products)


def _merge(program: Program, node: Node, terms: list[str], source: str, branches: list[_Branch]) -> Program:
    rewrite, merged = Rewrite(program), {branch.term for branch in branches}
    matrix, bias = sum(b.matrix for b in branches), sum(b.bias for b in branches)
    rest = [term for term in terms if term not in merged]
    name = rewrite.new_name(f"{node.name}.merged") if rest else node.name
    nodes = [rewrite.linear(name, source, np.asarray(matrix), np.asarray(bias))]
    for index, term in enumerate(rest):
        last = node.name if index == len(rest) - 1 else rewrite.new_name(f"{node.name}.sum{index}")
        nodes.append(Node(last, "add", (nodes[-1].name, term)))
    rewrite.replace(node.name, *nodes)
    return rewrite.done()
