"""Which softmax a step takes: in a window where every head of the layer has one, and where that is cheaper. What is
extended of keys and values that are kept."""

import dataclasses
import math

from aero.compiler.positions import decode, prefill
from aero.compiler.quantize import quantize
from aero.engines.planning.step_plans import checked_schedule, function_plan
from aero.engines.planning.steps import state_format
from aero.graph import Graph
from aero.graph.ring_plan import RingPlan, ScoreWindow
from aero.mpc.functions.softmax import SoftmaxPlan, window_of
from programs import random_ids, random_program

PROGRAM = random_program(length=20, every_position=True)
QUANTIZED = quantize(PROGRAM, [random_ids(PROGRAM, seed) for seed in range(4)]).plan
NARROW = [dataclasses.replace(w, row_maximum=(w.head, 5.0), outside=(-1.0, 8.0)) for w in QUANTIZED.windows]
PLAN = dataclasses.replace(QUANTIZED, windows=tuple(NARROW))


def softmax_plans(graph: Graph, plan: RingPlan) -> list[SoftmaxPlan]:
    states = {name: "scores" for name in graph.state_in}
    return [function_plan(s) for s in checked_schedule([graph], plan, [states]).steps[0] if s.node.op == "softmax"]


def with_windows(*windows: ScoreWindow) -> RingPlan:
    return dataclasses.replace(PLAN, windows=windows)


def test_a_next_token_takes_the_windows_of_the_plan():
    graph = decode(PROGRAM, 19).graph
    found = softmax_plans(graph, PLAN)
    assert len(found) == 2
    for plan in found:
        assert plan.window is not None
        assert plan.window == window_of([(-1.0, 8.0)] * 2, math.e)


def test_without_windows_of_all_heads_maxima_are_taken():
    graph = decode(PROGRAM, 19).graph
    wide = [dataclasses.replace(w, outside=(w.outside[0] - 40.0, w.outside[1])) for w in PLAN.windows]
    for windows in ((), PLAN.windows[1::2], (*PLAN.windows[:1], *wide[1:])):
        assert [plan.window for plan in softmax_plans(graph, with_windows(*windows))] == [None, None]


def test_the_order_of_windows_does_not_matter():
    graph = decode(PROGRAM, 19).graph
    assert softmax_plans(graph, with_windows(*PLAN.windows[::-1])) == softmax_plans(graph, PLAN)


def test_keys_and_values_are_extended_once():
    """What a run leaves is in a ring that the next run's products read as it is; only the new row is extended."""
    for graph in (decode(PROGRAM, 7).graph, decode(PROGRAM, 19).graph, prefill(PROGRAM, 7, leave_state=True).graph):
        states = dict.fromkeys(graph.state_in, "scores")
        planned = checked_schedule([graph], PLAN, [states])
        [steps] = planned.steps
        extended = {e.name: e for stage in planned.stages for e in stage.wider[0]}
        assert not set(extended) & set(graph.state_in)
        for name, value in graph.state_out.items():
            kept = state_format(graph, PLAN, name).bits
            made = next(step for step in steps if step.node.name == value)
            assert made.output.bits == kept or extended[value].bits == kept
            assert value in extended or {*made.node.inputs} & {*extended}
        for step in steps:
            if step.node.op in ("scores", "attend"):
                assert step.ring_bits <= state_format(graph, PLAN, _state_of(graph, step.node.inputs[1])).bits


def _state_of(graph: Graph, value: str) -> str:
    return next(name for name, kept in graph.state_out.items() if kept == value)
