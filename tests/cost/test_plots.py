"""Bars hold every byte, and the Pareto front is one."""

from hypothesis import given
from hypothesis import strategies as st

from aero.cost import estimate, load_profile
from aero.cost.compare import Subject, pareto_front
from aero.cost.plots import draw_costs, stacks
from aero.models.notation import parse
from aero.models.presets import SIZES
from aero.structure import lowered

PROFILE = load_profile("aero-published")


def results(perplexities=(None, None)):
    found = []
    for name, perplexity in zip(("SM+LN+G", "SM+ScFuFFN"), perplexities, strict=True):
        graph = lowered(parse(name), SIZES["demo"])
        found.append((Subject(name, graph, name, perplexity), estimate(graph, PROFILE)))
    return found


def test_stacks_add_up_to_the_totals():
    parts = stacks(results())
    for index, (_, e) in enumerate(results()):
        total = sum(values[index] for values in parts.values())
        assert abs(total - e.total.bytes_both_ways) < 1e-6 * total
    assert parts["gelu"][1] == 0


def test_pictures_are_written_whole(tmp_path):
    for name, perplexities in (("bars.png", (None, None)), ("both.png", (3.0, 4.0))):
        path = tmp_path / name
        draw_costs(results(perplexities), path)
        assert path.read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bars.png", "both.png"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_the_front_holds_what_nothing_dominates(points):
    front = pareto_front(points)

    def dominated(i):
        return any(
            q != points[i] and q[0] <= points[i][0] and q[1] <= points[i][1] for j, q in enumerate(points) if j != i
        )

    assert {points[i] for i in front} == {points[i] for i in range(len(points)) if not dominated(i)}
    assert [points[i][0] for i in front] == sorted({points[i][0] for i in front})
