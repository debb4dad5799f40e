"""A linear attention layer: every operation that the two-party engine runs, on a shared matrix."""

import numpy as np

from aero.graph import Graph, Node, Program
from aero.graph.heads import causal_mask, merge_heads, split_heads
from aero.graph.interpret import apply
from aero.graph.ring_plan import Format, RingPlan, state_name, state_source
from aero.graph.rotary import turns

INPUT = state_name("x")
PRODUCTS = ("linear", "gain", "scale", "rotary", "scores", "attend")


def linear_program(rows: int = 6, width: int = 8, heads: int = 2, outputs: int = 20, seed: int = 0) -> Program:
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}

    def linear(name: str, x: str, inner: int, columns: int, *, bias: bool = True) -> Node:
        weights[f"{name}.w"] = rng.normal(0, inner**-0.5, (inner, columns))
        if bias:
            weights[f"{name}.b"] = rng.normal(0, 0.1, columns)
        return Node(name, "linear", (x,), (f"{name}.w", f"{name}.b") if bias else (f"{name}.w",))

    weights["gain.w"], weights["shift.w"] = rng.uniform(0.5, 1.5, width), rng.normal(0, 0.1, width)
    nodes = [
        linear("q", INPUT, width, width),
        linear("k", INPUT, width, width, bias=False),
        linear("v", INPUT, width, width),
        Node("scores", "scores", ("q", "k"), (), {"heads": heads}),
        Node("attend", "attend", ("scores", "v")),
        Node("gain", "gain", (INPUT,), ("gain.w",)),
        Node("scale", "scale", ("gain",), (), {"factor": 0.75}),
        Node("shift", "bias", ("scale",), ("shift.w",)),
        Node("turned", "rotary", ("shift",), (), {"heads": heads, "rotated": 2, "base": 100.0, "start": 3}),
        Node("sum", "add", ("attend", "turned")),
        Node("first", "rows", ("sum",), (), {"start": 0, "stop": 1}),
        Node("last", "rows", ("sum",), (), {"start": rows - 1, "stop": rows}),
        Node("both", "concat_rows", ("first", "last")),
        linear("out", "both", width, outputs),
    ]
    return Program.of(rows, nodes, weights, "out", state_in={INPUT: (rows, width)})


def plan_without_extensions(graph: Graph, fraction_bits: int, integer_bits: int) -> RingPlan:
    """Rings large enough at the start for all bits that are dropped on the way to the output."""
    bits = {graph.output: integer_bits + fraction_bits}
    for node in reversed(graph.nodes):
        needed = bits[node.name] + (fraction_bits if node.op in PRODUCTS else 0)
        for name in node.inputs:
            bits[name] = max(bits.get(name, 0), needed)
    return RingPlan(
        {state_source(name): Format(b, fraction_bits) for name, b in bits.items()},
        {name: Format(fraction_bits + 8, fraction_bits) for name in graph.weight_shapes},
        {},
    )


def source_program(program: Program, x: np.ndarray) -> Program:
    """A program that reads ids 0, 1, ... and leaves the rows of x as the state that `program` reads."""
    nodes = [Node("x", "embedding", ("ids",), ("table",)), Node("one", "rows", ("x",), (), {"start": 0, "stop": 1})]
    return Program.of(len(x), nodes, {"table": x}, "one", state_out={INPUT: "x"})


def error_bound(program: Program, plan: RingPlan, x: np.ndarray, product_error: dict[str, float]) -> np.ndarray:
    """How far an engine may be from the plain engine, element by element, to first order and doubled.

    product_error: steps by which a product itself may be off, by node. The difference of the two engines at each input
    is carried through: products add |a| e_b + e_a |b|.
    """
    values = {INPUT: x}
    errors = {INPUT: np.zeros_like(x)}
    for node in program.graph.nodes:
        w = [program.weights[name] for name in node.weights]
        a, e = [values[name] for name in node.inputs], [errors[name] for name in node.inputs]
        own = product_error.get(node.name, 0.0) * plan.of_value(program.graph, node.name).step
        match node.op:
            case "linear":
                error = e[0] @ np.abs(w[0]) + own
            case "scale":
                error = e[0] * abs(node.attrs["factor"]) + own
            case "rotary":
                by = turns(*a[0].shape, **node.attrs)
                error = e[0] * np.abs(by.cosine) + e[0][:, by.partner] * np.abs(by.sine) + own
            case "gain":
                error = e[0] * np.abs(w[0]) + own
            case "bias":
                error = e[0]
            case "add":
                error = e[0] + e[1]
            case "rows" | "concat_rows":
                error = apply(node, e, [])
            case "scores":
                (q, k), (eq, ek) = ((split_heads(m, node.attrs["heads"]) for m in pair) for pair in (a, e))
                error = np.abs(q) @ ek.transpose(0, 2, 1) + eq @ np.abs(k).transpose(0, 2, 1) + own
                error = np.where(causal_mask(*error.shape[1:]), error, 0)
            case "attend":
                (p, ep), (v, ev) = (a[0], e[0]), (split_heads(m, a[0].shape[0]) for m in (a[1], e[1]))
                error = merge_heads(np.abs(p) @ ev + ep @ np.abs(v) + own)
        values[node.name], errors[node.name] = apply(node, a, w), error
    return 2 * errors[program.graph.output]
