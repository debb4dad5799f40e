"""Figures that compare training runs, after those of the papers (Jha & Reagen 2024, §3; 2025, §5), as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aero.entropy.plots import draw_heat_maps
from aero.files.atomic import replacing
from aero.report.runs import RunSummary

_QUARTERS = ("0 to 1/4", "1/4 to 1/2", "1/2 to 3/4", "3/4 to 1")
_LINE: dict[str, Any] = {"linewidth": 1.2, "marker": ".", "markersize": 3}
_SCALES = {
    "temperatures": "softmax temperature",
    "slopes": "negative slope",
    "alpha": "alpha (FFN divided by it)",
    "beta": "beta (residual times it)",
}


def draw_all(runs: Sequence[RunSummary], folder: Path) -> list[tuple[str, Path]]:
    """Draw each figure for which the runs have numbers; returns titles and files. ValueError without runs."""
    if not runs:
        raise ValueError("no runs to draw; name at least one run folder")
    folder.mkdir(parents=True, exist_ok=True)
    measured = [run for run in runs if run.measures]
    found = [("Loss", _save(_losses(runs), folder / "loss.png"))]
    records = [run.entropy for run in runs if run.entropy is not None]
    if records:
        path = folder / "entropy.png"
        draw_heat_maps(records, path)
        found.append(("Entropy of every head", path))
        found.append(("Heads by range of entropy", _save(_ranges(runs), folder / "ranges.png")))
    if measured:
        found.append(("Mean entropy of each layer, during training", _save(_layers(measured), folder / "layers.png")))
    if any(any(row["nan_counts"]) for run in measured for row in run.measures):
        found.append(("Attention rows that are not finite", _save(_broken(measured), folder / "nan.png")))
    with_thresholds = [run for run in measured if "thresholds" in run.measures[-1]]
    if with_thresholds:
        found.append(("Learned thresholds", _save(_thresholds(with_thresholds), folder / "thresholds.png")))
    for key, title in _SCALES.items():
        scaled = [run for run in measured if key in run.measures[-1]]
        if scaled:
            found.append((f"Learned {title}", _save(_scale(scaled, key, title), folder / f"{key}.png")))
    return found


def _losses(runs: Sequence[RunSummary]) -> Figure:
    figure, (axis,) = _panels(1, width=7)
    for run in runs:
        axis.plot(_of(run.metrics, "step"), _of(run.metrics, "loss"), label=run.name, **_LINE)
    axis.set_xlabel("step")
    axis.set_ylabel("training loss (nats per token)")
    axis.legend(fontsize=8)
    return figure


def _ranges(runs: Sequence[RunSummary]) -> Figure:
    figure, (axis,) = _panels(1, width=7)
    shown = [(run.name, run.entropy) for run in runs if run.entropy is not None]
    width = 0.8 / len(shown)
    for index, (name, entropy) in enumerate(shown):
        places = np.arange(4) - 0.4 + width * (index + 0.5)
        axis.bar(places, [100 * share for share in entropy.shares], width, label=name)
    axis.set_xticks(range(4), _QUARTERS)
    axis.set_xlabel("head entropy, of the largest: collapse to the left, overload to the right")
    axis.set_ylabel("heads (%)")
    axis.legend(fontsize=8)
    return figure


def _layers(runs: Sequence[RunSummary]) -> Figure:
    figure, axes = _panels(len(runs))
    for run, axis in zip(runs, axes, strict=True):
        _by_layer(axis, run, "layer_means")
        axis.set_ylim(0, np.log(run.info.context))
    axes[0].set_ylabel("nats; the axis ends at log T")
    return figure


def _broken(runs: Sequence[RunSummary]) -> Figure:
    figure, axes = _panels(len(runs))
    for run, axis in zip(runs, axes, strict=True):
        _by_layer(axis, run, "nan_counts")
    axes[0].set_ylabel("rows")
    return figure


def _scale(runs: Sequence[RunSummary], key: str, title: str) -> Figure:
    figure, axes = _panels(len(runs))
    for run, axis in zip(runs, axes, strict=True):
        _by_layer(axis, run, key)
    axes[0].set_ylabel(title)
    return figure


def _thresholds(runs: Sequence[RunSummary]) -> Figure:
    """Above, each head's; below, each layer's mean and standard deviation."""
    figure = Figure(figsize=(1 + 3.6 * len(runs), 6), dpi=130)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(2, len(runs), squeeze=False)
    for run, above, below in zip(runs, *axes, strict=True):
        values = np.asarray(run.measures[-1]["thresholds"])
        image = above.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        above.set_title(run.name, fontsize=9)
        above.set_xticks(range(values.shape[1]))
        above.set_yticks(range(values.shape[0]))
        above.set_xlabel("head")
        above.set_ylabel("layer")
        figure.colorbar(image, ax=above)
        below.errorbar(range(len(values)), values.mean(1), yerr=values.std(1), fmt="o-", capsize=3)
        below.set_xticks(range(len(values)))
        below.set_xlabel("layer")
        below.set_ylabel("mean and standard deviation")
    return figure


def _by_layer(axis: Axes, run: RunSummary, key: str) -> None:
    """One line for each layer, from light to dark with depth; heads are averaged."""
    import matplotlib

    layers = len(run.measures[0]["layer_means"])
    colours = matplotlib.colormaps["viridis_r"]
    for layer in range(layers):
        values = [_mean(row[key][layer]) if key in row else None for row in run.measures]
        if any(value is not None for value in values):
            numbers = [np.nan if value is None else value for value in values]
            colour = colours(0.15 + 0.8 * layer / max(layers - 1, 1))
            axis.plot(
                _of(run.measures, "step"),
                numbers,
                color=colour,
                label=f"layer {layer}",
                linewidth=1.2,
                marker=".",
                markersize=3,
            )
    axis.set_title(run.name, fontsize=9)
    axis.set_xlabel("step")
    axis.legend(fontsize=6, ncols=2)


def _mean(value: Any) -> float | None:
    return float(np.mean(value)) if isinstance(value, list) else value


def _of(rows: list[dict[str, Any]], key: str) -> list[Any]:
    return [row[key] for row in rows]


def _panels(count: int, width: float = 3.8) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(0.6 + width * count, 3.6), dpi=130)
    figure.set_layout_engine("constrained")
    return figure, figure.subplots(1, count, squeeze=False)[0]


def _save(figure: Figure, path: Path) -> Path:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
    return path
