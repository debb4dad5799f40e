"""Number formats: what they hold, and their files."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.graph.ring_plan import Format, RingPlan, ScoreWindow, load_plan
from programs import random_program


def test_a_plan_survives_the_disk(tmp_path):
    plan = RingPlan(
        {"x": Format(25, 12)},
        {"w": Format(18, 16)},
        {"x": 41},
        (ScoreWindow("p", 1, (-2.0, 3.5), (-1.0, 4.0), -9.0),),
        {"x": 70},
    )
    (tmp_path / "plan.json").write_text(json.dumps(plan.to_json()))
    again = load_plan(tmp_path / "plan.json")
    window = again.windows[0]
    assert again == plan and (window.reference, window.spread, window.margin) == (4.0, 6.0, 0.5)
    assert Format(25, 12).limit == 4096 and Format(25, 12).step == 2**-12


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 3},
        {"values": {"x": [65, 12]}},
        {"values": {"x": [25]}},
        {"values": {"x": [25, float("inf")]}},
        {"weights": None},
        {"products": {"x": 99}},
        {"windows": [{"layer": "p"}]},
        {"moduli": {"x": 0}},
        {"moduli": {"x": 151}},
        {"moduli": None},
    ],
)
def test_an_unsound_plan_is_refused(change):
    good = RingPlan({"x": Format(25, 12)}, {}, {}).to_json()
    with pytest.raises(ValueError, match=r"."):
        RingPlan.from_json({**good, **change})
    with pytest.raises(ValueError, match="not a ring plan"):
        RingPlan.from_json([])


def test_score_windows_are_published_on_a_coarse_grid():
    window = ScoreWindow("p", 0, (-1.9, 3.1), (-1.3000001, 4.0), -8.01)
    assert (window.row_maximum, window.outside, window.lowest) == ((-2.0, 3.25), (-1.5, 4.0), -8.25)
    assert ScoreWindow(**vars(window)) == window
    plan = RingPlan({}, {}, {}, (window,)).to_json()
    plan["windows"][0]["lowest"] = -8.01  # whoever made the plan
    assert RingPlan.from_json(plan).windows == (window,)
    for ends in ((1.0, 0.0), (0.0, float("inf"))):
        with pytest.raises(ValueError, match=r"p, head 0: .*calibrate again"):
            ScoreWindow("p", 0, ends, (0.0, 1.0), 0.0)


def test_what_moves_rows_has_the_format_of_what_it_moves():
    graph = random_program().graph
    plan = RingPlan.uniform(graph, 16)
    values = {**{n: f for n, f in plan.values.items() if n != "last"}, "blocks.1.ffn": Format(30, 9)}
    assert RingPlan(values, plan.weights, {}).of_value(graph, "last") == Format(30, 9)
    assert plan.of_weight("positions.w[2:3]") == plan.of_weight("positions.w")
    with pytest.raises(ValueError, match="no format for"):
        RingPlan({}, {}, {}).of_value(graph, "embedding")


@given(st.integers(0, 30), st.floats(-1000, 1000))
def test_a_number_is_rounded_to_the_nearest_step(bits, x):
    held = Format(64, bits)
    assert abs(held.decode(held.encode(np.array([x]), "x"))[0] - x) <= held.step / 2


@pytest.mark.parametrize("x", [2.0**45, np.nan])
def test_a_number_that_does_not_fit_is_refused_by_name(x):
    with pytest.raises(OverflowError, match=r"scores: .* does not fit"):
        Format(64, 18).encode(np.array([x]), "scores")
