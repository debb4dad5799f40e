"""Bytes of several models as stacked bars, and perplexity against bytes with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from aero.cost.compare import Subject, pareto_front
from aero.cost.estimate import Estimate
from aero.files.atomic import replacing

_SMALLEST_SHARE = 0.002  # of the largest bar; smaller parts are drawn together


def draw_costs(results: Sequence[tuple[Subject, Estimate]], path: Path) -> None:
    """Write a PNG: a bar of bytes both ways for each model, split by operation; beside it, where at least two models
    have a perplexity, a scatter of perplexity against bytes. ValueError where there is nothing to draw.
    """
    if not results:
        raise ValueError("nothing to draw; give at least one model")
    trained = [(s, e) for s, e in results if s.perplexity is not None and e.total.bytes_both_ways is not None]
    panels = 2 if len(trained) > 1 else 1
    figure = Figure(figsize=(7.0 * panels, 2.2 + 0.5 * len(results) + (2.0 if panels > 1 else 0)), dpi=150)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _bars(axes[0], results)
    if panels > 1:
        _pareto(axes[1], trained)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def stacks(results: Sequence[tuple[Subject, Estimate]]) -> dict[str, list[float]]:
    """Bytes both ways by operation, one number for each model; small operations are one entry, "other"."""
    by_op = [{op: line.cost.bytes_both_ways or 0.0 for op, line in e.by_op().items()} for _, e in results]
    largest = max(sum(bytes_.values()) for bytes_ in by_op)
    names = sorted({op for bytes_ in by_op for op in bytes_}, key=lambda op: -max(b.get(op, 0.0) for b in by_op))
    found: dict[str, list[float]] = {}
    other = [0.0] * len(by_op)
    for op in names:
        values = [bytes_.get(op, 0.0) for bytes_ in by_op]
        if max(values) > _SMALLEST_SHARE * largest:
            found[op] = values
        else:
            other = [a + b for a, b in zip(other, values, strict=True)]
    return found | ({"other": other} if any(other) else {})


def _bars(axis, results: Sequence[tuple[Subject, Estimate]]) -> None:  # type: ignore[no-untyped-def]
    left = [0.0] * len(results)
    rows = range(len(results))
    for op, values in stacks(results).items():
        axis.barh(rows, [v / 1e6 for v in values], left=[v / 1e6 for v in left], label=op)
        left = [a + b for a, b in zip(left, values, strict=True)]
    axis.set_yticks(rows, [subject.name for subject, _ in results])
    axis.invert_yaxis()
    axis.set_xlabel("MB of one run, both directions (MB = 10^6 bytes)")
    axis.set_title(f"profile {results[0][1].profile}", fontsize=9)
    axis.legend(fontsize=8)


def _pareto(axis, trained: Sequence[tuple[Subject, Estimate]]) -> None:  # type: ignore[no-untyped-def]
    points = [((e.total.bytes_both_ways or 0.0) / 1e6, s.perplexity or 0.0) for s, e in trained]
    front = pareto_front(points)
    axis.plot(*zip(*(points[i] for i in front), strict=True), color="0.6", zorder=1)
    axis.scatter(*zip(*points, strict=True), zorder=2)
    for (subject, _), point in zip(trained, points, strict=True):
        axis.annotate(subject.notation or subject.name, point, fontsize=8, xytext=(4, 4), textcoords="offset points")
    axis.set_xlabel("MB of one run, both directions")
    axis.set_ylabel("perplexity")
    axis.margins(x=0.15, y=0.1)
    axis.set_title("Pareto front: nothing is better in both", fontsize=9)
