"""Pareto fronts of perplexity against what a private token or prompt costs, as PNG files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from aero.files.atomic import replacing
from aero.ladder.adapt import Adapted
from aero.ladder.climb import Ladder
from aero.ladder.search import WORKS, Found


def draw_front(ladder: Ladder, path: Path) -> None:
    """Every rung as a point, the front as a line. ValueError where no rung was trained."""
    front = ladder.front
    if not front:
        raise ValueError("no rung has both a perplexity and a price; see the status of each")
    figure = Figure(figsize=(7, 4.5), dpi=130)
    figure.set_layout_engine("constrained")
    axis = figure.subplots()
    for rung in ladder.rungs:
        if rung.perplexity is not None and rung.bytes is not None:
            axis.plot(rung.bytes / 1e6, rung.perplexity, "o", color=f"C{rung.step}")
            axis.annotate(
                rung.name, (rung.bytes / 1e6, rung.perplexity), fontsize=7, xytext=(4, 4), textcoords="offset points"
            )
    axis.plot([r.bytes / 1e6 for r in front if r.bytes is not None], [r.perplexity for r in front], "-", color="grey")  # type: ignore[arg-type]
    axis.set_xlabel(f"MB for one token from a full context ({ladder.rungs[0].profile})")
    axis.set_ylabel("perplexity")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def draw_adapted(found: Adapted, path: Path) -> None:
    """The steps as a line from the original, and the limit of perplexity. ValueError where there is no price."""
    steps = [
        (s.bytes / 1e6, s.perplexity, s.name) for s in found.steps if s.bytes is not None and s.perplexity is not None
    ]
    if not steps:
        raise ValueError("no step has both a perplexity and a price; choose another profile")
    figure = Figure(figsize=(7, 4.5), dpi=130)
    figure.set_layout_engine("constrained")
    axis = figure.subplots()
    axis.plot([x for x, _, _ in steps], [y for _, y, _ in steps], "o-")
    for x, y, name in steps:
        axis.annotate(name, (x, y), fontsize=7, xytext=(4, 4), textcoords="offset points")
    axis.axhline(found.limit, color="grey", linestyle="--")
    axis.set_xlabel(f"MB for one token from a full context ({found.profile})")
    axis.set_ylabel("perplexity")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def front_figure(found: Found) -> Figure:
    """Perplexity against the cost of a token, and of a prompt: every model that was trained to the end, the fronts as
    lines, and the budgets. ValueError where none can be served."""
    panels = {work: found.points(work) for work in WORKS}
    if not panels["token"]:
        raise ValueError("no model that was trained to the end can be served; see the problem of each")
    figure = Figure(figsize=(11, 4.8), dpi=130)
    figure.set_layout_engine("constrained")
    factor, name = (1e6, "MB") if found.plan.unit == "bytes" else (1.0, f"s on {found.plan.deployment.network}")
    for axis, (work, points) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        front = sorted((p.cost / factor, p.perplexity) for p in points if p.front)
        axis.plot(*zip(*front, strict=True), "-", color="grey", label="front")
        for point in points:
            at = (point.cost / factor, point.perplexity)
            axis.plot(
                *at, "s" if point.name == found.baseline.priced.candidate.name else "o", color=f"C{point.front:d}"
            )
            axis.annotate(point.name, at, fontsize=6, xytext=(4, 4), textcoords="offset points")
        for budget in found.plan.budgets:
            if (budget.work, budget.unit) == (work, found.plan.unit):
                axis.axvline(budget.amount / factor, color="grey", linestyle="--")
        axis.set_xlabel(f"{name} for a {work}, in private")
        axis.set_ylabel("perplexity")
        axis.margins(x=0.3, y=0.1)  # names stand beside their points
    return figure


def draw_search(found: Found, path: Path) -> None:
    """`front_figure` as a PNG file."""
    figure = front_figure(found)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
