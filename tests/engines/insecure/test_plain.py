"""The plain engine against float64, within a bound carried through the graph."""

import dataclasses
import functools

import numpy as np
import pytest

from aero.engines.insecure.plain import Arithmetic, InsecurePlainEngine
from aero.graph import OPS, Node, Program, interpret
from aero.graph.heads import merge_heads, split_heads
from aero.graph.ring_plan import Format, RingPlan
from aero.graph.rotary import turns
from programs import RUNGS, random_ids, random_program


def error_bound(program: Program, ids: np.ndarray, fixed: Format) -> float:
    """Largest possible error of the output: first-order propagation of every rounding, entry by entry, doubled.

    With e the bound on a value's error and u the step: a product adds |a| e_b + e_a |b| + u; a nonlinear function adds
    u/2 and multiplies by its Lipschitz constant (softmax: p_i (|dz_i| + sum_j p_j |dz_j|); GELU: 1.13;
    LayerNorm: |J| <= (1 + 1/d + |y_i y_j| / d) / sigma, entry by entry). The factor 2 covers second-order terms.
    """
    u = fixed.step
    values: dict[str, np.ndarray] = {}
    interpret(program, ids, keep=lambda name, value: values.update({name: value}))
    e: dict[str, np.ndarray] = {}
    for node in program.graph.nodes:
        w = [program.weights[name] for name in node.weights]
        x = [values.get(name, ids) for name in node.inputs]
        ex = [e.get(name, np.zeros(())) for name in node.inputs]
        match node.op:
            case "embedding":
                bound = np.full(values[node.name].shape, u / 2)
            case "linear":
                bound = ex[0] @ np.abs(w[0]) + np.abs(x[0]).sum(-1, keepdims=True) * u / 2 + 1.5 * u
            case "gain":
                bound = ex[0] * np.abs(w[0]) + np.abs(x[0]) * u / 2 + u
            case "scale":
                bound = ex[0] * abs(node.attrs["factor"]) + np.abs(x[0]) * u / 2 + u
            case "rotary":
                by = turns(*x[0].shape, **node.attrs)
                bound = ex[0] * np.abs(by.cosine) + ex[0][:, by.partner] * np.abs(by.sine)
                bound = bound + (np.abs(x[0]) + np.abs(x[0])[:, by.partner]) * u / 2 + u
            case "bias":
                bound = ex[0] + u / 2
            case "add":
                bound = ex[0] + ex[1]
            case "rows":
                bound = ex[0][node.attrs["start"] : node.attrs["stop"]]
            case "scores":
                (q, k), (eq, ek) = ((split_heads(a, node.attrs["heads"]) for a in pair) for pair in (x, ex))
                bound = np.abs(q) @ ek.transpose(0, 2, 1) + eq @ np.abs(k).transpose(0, 2, 1) + u
            case "attend":
                (p, ep), (v, ev) = (x[0], ex[0]), (split_heads(a, x[0].shape[0]) for a in (x[1], ex[1]))
                bound = merge_heads(p @ ev + ep @ np.abs(v) + u)
            case "softmax":
                p = values[node.name]
                bound = p * (ex[0] + (p * ex[0]).sum(-1, keepdims=True)) + u / 2
            case "relu":
                bound = ex[0] + u / 2
            case "gelu":
                bound = 1.13 * ex[0] + u / 2
            case "layer_norm":
                y, d = np.abs(values[node.name]), x[0].shape[1]
                sigma = np.sqrt(x[0].var(-1, keepdims=True) + node.attrs["eps"])
                total = ex[0].sum(-1, keepdims=True)
                bound = (ex[0] + total / d + y * (y * ex[0]).sum(-1, keepdims=True) / d) / sigma + u / 2
        e[node.name] = bound
    return float(2 * e[program.graph.output].max())


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("bits", [22, 26])
def test_error_stays_within_the_bound(rung, bits):
    """One layer: through more, the worst case grows far beyond what happens and would show nothing."""
    program, fixed = random_program(layers=1, **RUNGS[rung]), Format(64, bits)
    ids = random_ids(program)
    bound = error_bound(program, ids, fixed)
    assert bound < 1
    found = InsecurePlainEngine(fixed).run(program.graph, weights=program.weights, ids=ids)
    assert 0 < np.abs(found - interpret(program, ids)).max() < bound


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("bits", [14, 18, 24])
def test_each_operation_alone_is_right_to_half_a_step(rung, bits, monkeypatch):
    """Against float64 on the very numbers that the engine read, so nothing accumulates: at most half a step for a
    product or a rounding, none for sums and moves."""
    program = random_program(**RUNGS[rung])
    check_each_operation(program, Format(64, bits), random_ids(program), monkeypatch)


def mixed_plan(program: Program, seed: int) -> RingPlan:
    """Random fractional bits for every tensor."""
    rng = np.random.default_rng(seed)
    uniform = RingPlan.uniform(program.graph, 16)
    values, weights = (
        {name: Format(64, int(rng.integers(10, 20))) for name in of} for of in (uniform.values, uniform.weights)
    )
    for node in program.graph.nodes:
        if node.op == "rows":
            del values[node.name]  # has the format of what it moves
    return RingPlan(values, weights, {})


@pytest.mark.parametrize("rung", RUNGS)
def test_each_operation_is_right_where_every_tensor_has_its_own_format(rung, monkeypatch):
    program = random_program(**RUNGS[rung])
    for seed in range(3):
        check_each_operation(program, mixed_plan(program, seed), random_ids(program, seed), monkeypatch)


def turned(x, step, **attrs):
    """Rotary with public factors rounded to a step."""
    by = turns(*x.shape, **attrs)
    cosine, sine = (np.rint(table / step) * step for table in (by.cosine, by.sine))
    return x * cosine + x[:, by.partner] * sine


def check_each_operation(program, numbers, ids, monkeypatch):
    moves, checked = ("rows", "concat_rows", "concat_columns"), set()
    original = Arithmetic.apply

    def checking(self, inputs, weights):
        node, value = self.node, original(self, inputs, weights)
        reals = inputs if node.op == "embedding" else [f.decode(x) for x, f in zip(inputs, self.inputs, strict=True)]
        attrs = dict(node.attrs)
        if node.op == "scale":
            step = self.inputs[0].step
            attrs["factor"] = np.rint(attrs["factor"] / step) * step
        expected = OPS[node.op].meaning
        if node.op == "rotary":
            expected = functools.partial(turned, step=self.inputs[0].step)
        tensors = [self.weight_format(name).decode(w) for name, w in zip(node.weights, weights, strict=True)]
        error = np.abs(self.output.decode(value) - expected(*reals, *tensors, **attrs)).max()
        roundings = 0 if node.op in moves else 2 if node.op == "add" else 1  # each term of a sum may change its format
        assert error <= roundings * self.output.step / 2 * (1 + 1e-6), node
        checked.add(node.op)
        return value

    with monkeypatch.context() as patch:
        patch.setattr(Arithmetic, "apply", checking)
        InsecurePlainEngine(numbers).run(program.graph, weights=program.weights, ids=ids)
    assert checked == {node.op for node in program.graph.nodes}


def test_what_a_plan_does_not_hold_is_an_error_that_names_the_node():
    program = random_program()
    plan = RingPlan.uniform(program.graph, 16)
    ids = random_ids(program)
    for changes, message in (
        ({"values": {**plan.values, "blocks.1.attend": Format(12, 16)}}, r"blocks\.1\.attend"),
        ({"values": {**plan.values, "blocks.1.softmax": Format(14, 16)}}, r"blocks\.1\.softmax"),
        ({"products": {**plan.products, "blocks.0.q": 20}}, r"blocks\.0\.q: .* ring of 20 bits"),
        ({"weights": {**plan.weights, "logits.w": Format(8, 16)}}, r"logits\.w"),
    ):
        with pytest.raises(OverflowError, match=message):
            engine = InsecurePlainEngine(dataclasses.replace(plan, **changes))
            engine.run(program.graph, weights=program.weights, ids=ids)
    with pytest.raises(ValueError, match="no format for"):
        other = RingPlan({}, plan.weights, plan.products)
        InsecurePlainEngine(other).run(program.graph, weights=program.weights, ids=ids)


def test_a_product_that_leaves_the_ring_names_its_node():
    rng = np.random.default_rng(0)
    nodes = [Node("x", "embedding", ("ids",), ("t",)), Node("wide", "linear", ("x",), ("w",))]
    weights = {"t": rng.normal(0, 1e6, (5, 4)), "w": rng.normal(0, 1e6, (4, 4))}
    program = Program.of(2, nodes, weights, "wide")
    with pytest.raises(OverflowError, match="wide"):
        InsecurePlainEngine().run(program.graph, weights=program.weights, ids=np.array([1, 2]))


def test_it_says_that_it_is_insecure():
    assert InsecurePlainEngine.insecure and "insecure" in InsecurePlainEngine.name


def test_both_inputs_are_needed():
    program = random_program()
    with pytest.raises(ValueError, match="weights and the ids"):
        InsecurePlainEngine().run(program.graph, ids=random_ids(program))
