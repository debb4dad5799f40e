"""What each engine states about its errors, and how far an output may move if every operation errs that much."""

from collections.abc import Callable

import numpy as np

from aero.engines.planning.stages import joined
from aero.engines.planning.step_plans import checked_schedule, group_plan
from aero.engines.two_party.weight_store import WeightStore
from aero.graph import OPS, Node, Program, interpret_step
from aero.graph.graph import INPUT
from aero.graph.interpret import apply
from aero.graph.ring_plan import RingPlan
from aero.mpc.functions.element_product import ElementProductPlan
from aero.mpc.protocols.embedding import EmbeddingPlan
from aero.mpc.protocols.known_factor import KnownFactorPlan
from aero.mpc.protocols.linear import LinearPlan
from aero.mpc.protocols.stacked import StackedPlan

Errors = Callable[[Node, np.ndarray, list[np.ndarray]], np.ndarray | float]
"""Of a node with its exact value and inputs: the largest error that it adds."""

SPU_STEP = 2.0**-18
# docs/understand/spu.md says where each comes from.
SPU_STATED = {"softmax": 1.5e-3, "tanh": 1.5e-3, "gelu": 1e-3, "silu": 1.5e-3, "layer_norm": 2e-3, "rms_norm": 2e-3}
TRIALS = 20


def rounded(program: Program, plan: RingPlan, steps: float) -> Errors:
    """Every value is off by so many steps of its format, and every weight and public factor by half a step."""

    def errors(node: Node, value: np.ndarray, inputs: list[np.ndarray]) -> np.ndarray | float:
        if node.op in ("rows", "concat_rows", "concat_columns"):
            return 0.0
        return steps * plan.of_value(program.graph, node.name).step + factors(program, plan, node, inputs)

    return errors


def factors(program: Program, plan: RingPlan, node: Node, inputs: list[np.ndarray]) -> np.ndarray | float:
    """What half a step of the second factor of a product does."""
    match node.op:
        case "linear":
            return plan.of_weight(node.weights[0]).step / 2 * np.abs(inputs[0]).sum(axis=-1, keepdims=True)
        case "gain":
            return plan.of_weight(node.weights[0]).step / 2 * np.abs(inputs[0])
        case "scale" | "rotary":
            step = plan.of_value(program.graph, node.inputs[0]).step
            return step / 2 * np.abs(inputs[0]) * (1 if node.op == "scale" else 2)
        case "mean_rows":
            finer = OPS["mean_rows"].arithmetic.finer
            step = plan.of_value(program.graph, node.inputs[0]).step * 2.0**-finer
            return step / 2 * np.abs(inputs[0].sum(axis=0))
    return 0.0


def protocols(program: Program, plan: RingPlan, states: dict[str, str] | None = None) -> Errors:
    """What the two-party protocols state, from these very weights."""
    graph = program.graph
    [groups] = joined([checked_schedule([graph], plan, [states or {}]).steps[0]])
    store = WeightStore(plan)
    store.load([(g,) for g in groups if g[0].node.op in ("linear", "gain", "embedding")], program.weights)
    of = {step.node.name: group for group in groups for step in group}

    def errors(node: Node, value: np.ndarray, inputs: list[np.ndarray]) -> np.ndarray | float:
        group = of[node.name]
        step, found = plan.of_value(graph, node.name).step, group_plan(group)
        if isinstance(found, LinearPlan | EmbeddingPlan):
            own = step * (store.of([group]).noise.total + 0.5)
        elif isinstance(found, StackedPlan):
            own = step * found.error
        elif node.op == "softmax":
            own = found.max_error + found.missed
        elif node.op in ("layer_norm", "rms_norm"):
            apart = inputs[0].reshape(len(inputs[0]) * int(node.attrs.get("heads", 1)), -1)
            rows = apart - apart.mean(axis=-1, keepdims=True) * (node.op == "layer_norm")
            deviation = np.sqrt((rows**2).mean(axis=-1, keepdims=True) + node.attrs["eps"])
            own = found.error(np.abs(value).max(), deviation.min())
        elif isinstance(found, ElementProductPlan):
            own = found.error(*(float(np.abs(x).max()) for x in inputs))
        elif isinstance(found, KnownFactorPlan):
            own = step
        elif found is not None:
            own = found.max_error
        else:
            own = 0.0 if node.op in ("rows", "concat_rows", "concat_columns") else step
        return own + factors(program, plan, node, inputs)

    return errors


def spu(node: Node, value: np.ndarray, inputs: list[np.ndarray]) -> np.ndarray | float:
    sizes = 0.0 if node.op == "embedding" else sum(np.abs(x).max() * x.shape[-1] for x in inputs)
    return SPU_STATED.get(node.op, SPU_STEP * (2.0 + 0.5 * sizes + 0.5 * np.abs(value).max()))


def tolerance(program: Program, ids: np.ndarray, errors: Errors, state: dict[str, np.ndarray] | None = None) -> float:
    """Twice the worst of some runs in which every operation errs as much as stated, in random directions."""
    rng = np.random.default_rng(0)
    exact, _ = interpret_step(program, ids, state or {})
    worst = 0.0
    for _ in range(TRIALS):
        values: dict[str, np.ndarray] = {INPUT: ids, **(state or {})}
        for node in program.graph.nodes:
            inputs, weights = [values[i] for i in node.inputs], [program.weights[w] for w in node.weights]
            value = apply(node, inputs, weights)
            signs = rng.choice([-1.0, 1.0], value.shape)
            if node.op in ("scores", "softmax"):
                signs[value == 0] = 0.0  # above the diagonal
            values[node.name] = value + signs * errors(node, value, inputs)
        worst = max(worst, float(np.abs(values[program.graph.output] - exact).max()))
    return 2.0 * worst
