"""The Pareto front of perplexity against bytes, as a PNG file."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from aero.files.atomic import replacing
from aero.ladder.adapt import Adapted
from aero.ladder.climb import Ladder


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
