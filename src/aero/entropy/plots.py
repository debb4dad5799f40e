"""Heat maps of head entropies: layers by heads, several models side by side on one colour scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from aero.entropy.record import EntropyRecord
from aero.files.atomic import replacing

_VALUES_UP_TO = 200  # heads of one model; with more, numbers in the cells cannot be read


def draw_heat_maps(records: Sequence[EntropyRecord], path: Path) -> None:
    """Draw one map for each record into a PNG file, which appears in one step.

    The colours run from 0 to log T (the largest T among them), in nats; a mark on the scale shows what heads come to
    that attend to everything alike. Raises ValueError where there is nothing to draw.
    """
    if not records:
        raise ValueError("no entropies to draw; give at least one record")
    top = max(record.log_context for record in records) or 1.0
    layers = max(len(record.head_entropy) for record in records)
    heads = [len(record.head_entropy[0]) for record in records]
    figure = Figure(figsize=(1.5 + sum(max(3.0, 0.62 * n) for n in heads), 1.7 + max(1.6, 0.42 * layers)), dpi=150)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, len(records), squeeze=False, width_ratios=[max(3.0, 0.62 * n) for n in heads])[0]
    image = None
    for axis, record in zip(axes, records, strict=True):
        image = axis.imshow(record.head_entropy, vmin=0, vmax=top, cmap="viridis", aspect="auto")
        low, _, _, high = record.shares
        axis.set_title(f"{record.name}\n{low:.0%} in the lowest quarter, {high:.0%} in the highest", fontsize=9)
        axis.set_xlabel("head")
        axis.set_xticks(range(len(record.head_entropy[0])))
        axis.set_yticks(range(len(record.head_entropy)))
        if len(record.head_entropy) * len(record.head_entropy[0]) <= _VALUES_UP_TO:
            for layer, row in enumerate(record.head_entropy):
                for head, value in enumerate(row):
                    colour = "black" if value > 0.55 * top else "white"
                    axis.text(head, layer, f"{value:.2f}", ha="center", va="center", fontsize=6, color=colour)
    axes[0].set_ylabel("layer")
    assert image is not None
    bar = figure.colorbar(image, ax=list(axes), label="head entropy (nats); red: uniform attention")
    bar.ax.axhline(max(record.uniform for record in records), color="red", linewidth=1.5)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
