"""Live measures: what the attention heads and the learnable scales do while a model trains.

Taken from a forward pass over a few texts of the current batch, without gradients, every so many steps. Head entropies
near zero through a whole layer are the first sign of a run that will diverge (Jha & Reagen 2024, §3).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aero.entropy.measure import head_entropy, range_shares
from aero.files.atomic import sync, write_text
from aero.models import AeroForCausalLM
from aero.train.jsonl import read_rows
from aero.train.processes import whole

logger = logging.getLogger(__name__)

FILE = "measures.jsonl"
TEXTS = 4  # of the batch; enough for a curve, and a small part of a step
_KEYS = ("context", "head_entropy", "nan_counts")
COLLAPSED = 0.05  # of log T: below it a layer's mean entropy is taken for collapse


@dataclass(frozen=True)
class Measures:
    """The heads and scales of a model at one step. Keys of measures.jsonl are these names.

    context: T. head_entropy: nats, L rows of H, null where not finite. nan_counts: for each layer, attention rows whose
    entropy is not a finite number. layer_means: of the finite ones. shares, shares_of_log_context: of heads in the
    quarters of the largest entropy, and of log T; null where an entropy is not finite. scales: what the model has of
    thresholds [L, H], temperatures [L, H] (mean over positions), slopes [L], alpha [L], beta [L]; null in a layer
    without.
    """

    step: int
    context: int
    head_entropy: tuple[tuple[float | None, ...], ...]
    nan_counts: tuple[int, ...]
    scales: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def layer_means(self) -> tuple[float | None, ...]:
        rows = ([value for value in row if value is not None] for row in self.head_entropy)
        return tuple(sum(row) / len(row) if row else None for row in rows)

    @property
    def finite(self) -> bool:
        return not any(self.nan_counts)

    @property
    def collapsed_layers(self) -> tuple[int, ...]:
        """Layers that attend to next to nothing, or whose attention is not finite."""
        limit = COLLAPSED * math.log(self.context)
        return tuple(
            layer
            for layer, (mean, broken) in enumerate(zip(self.layer_means, self.nan_counts, strict=True))
            if broken or mean is None or mean < limit
        )

    def to_json(self) -> dict[str, Any]:
        shares = of_log = None
        if self.finite:
            entropies = torch.tensor(self.head_entropy)
            shares, of_log = range_shares(entropies), range_shares(entropies, math.log(self.context))
        return {
            "step": self.step,
            "context": self.context,
            "head_entropy": [list(row) for row in self.head_entropy],
            "layer_means": list(self.layer_means),
            "shares": shares,
            "shares_of_log_context": of_log,
            "nan_counts": list(self.nan_counts),
            **self.scales,
        }

    def scalars(self) -> dict[str, float]:
        """The same as named numbers, for drawing."""
        data = self.to_json()
        found = {f"entropy/layer {i}": mean for i, mean in enumerate(self.layer_means) if mean is not None}
        found |= {f"nan rows/layer {i}": float(count) for i, count in enumerate(self.nan_counts)}
        for i, share in enumerate(data["shares"] or ()):
            found[f"share of heads/quarter {i + 1}"] = share
        for name, layers in self.scales.items():
            for i, value in enumerate(layers):
                if value is not None:
                    found[f"{name}/layer {i}"] = sum(value) / len(value) if isinstance(value, list) else value
        return found


@torch.no_grad()
def measure(model: nn.Module, inner: AeroForCausalLM, ids: Tensor, step: int) -> Measures:
    """Measure on texts [B, T]. model: what to call; inner: the same model, unwrapped, whose parameters are read."""
    entropies = model(input_ids=ids, skip_logits=True, output_entropies=True).entropies  # of each layer [B, H, T]
    broken = [int((~rows.isfinite()).sum()) for rows in entropies]
    heads = head_entropy(entropies).tolist()
    return Measures(
        step=step,
        context=ids.shape[1],
        head_entropy=tuple(tuple(v if math.isfinite(v) else None for v in row) for row in heads),
        nan_counts=tuple(broken),
        scales=_scales(inner),
    )


def _scales(model: AeroForCausalLM) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    if model.reg_threshold_weights is not None:
        found["thresholds"] = _values(model.reg_threshold_weights)
    blocks = list(model.transformer.blocks)
    of_layer: dict[str, Callable[[Any], Any]] = {
        "temperatures": lambda b: _mean_per_head(b.attention.log_temperature),
        "slopes": lambda b: _single(_slope(model, b.ffn)),
        "alpha": lambda b: _single(b.ffn_alpha),
        "beta": lambda b: _single(b.ffn_beta),
    }
    for name, read in of_layer.items():
        values = [read(block) for block in blocks]
        if any(value is not None for value in values):
            found[name] = values
    return found


def _slope(model: AeroForCausalLM, ffn: Any) -> Any:
    """Of leaky ReLU: the layer's own, or the one that all layers share."""
    if not hasattr(ffn, "negative_slope"):
        return None
    shared = model.transformer.negative_slope
    return ffn.negative_slope if shared is None else shared


def _values(parameter: Tensor) -> Any:
    return whole(parameter).detach().float().cpu().tolist()


def _single(parameter: Any) -> float | None:
    return None if not isinstance(parameter, Tensor) else float(torch.tensor(_values(parameter)).mean())


def _mean_per_head(log_temperature: Tensor | None) -> list[float] | None:
    return None if log_temperature is None else torch.tensor(_values(log_temperature)).exp().mean(-1).tolist()


class MeasureLog:
    """measures.jsonl, what it said, and the warnings that follow from it.

    first_collapsed: the layer that collapsed first and the step when it was seen, or None.
    """

    def __init__(self, path: Path) -> None:
        self.first_collapsed: tuple[int, int] | None = None
        self._path = path
        self._warned: set[int] = set()
        self._writes = False

    def go_on_from(self, step: int, writes: bool) -> None:
        """Forget what is said of `step` and later; it will be measured again. writes: in this process."""
        kept = [row for row in read_rows(self._path, _KEYS) if row["step"] < step]
        self._writes = writes
        if writes:
            write_text(self._path, "".join(json.dumps(row) + "\n" for row in kept))
        for row in kept:
            self._notice(_of_row(row))

    def sync(self) -> None:
        """Bring the lines to the disk."""
        if self._path.exists():
            sync(self._path)

    def add(self, measures: Measures) -> list[str]:
        """Write a line; returns a warning for each layer that is seen collapsed for the first time."""
        if self._writes:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(measures.to_json(), allow_nan=False) + "\n")
        warnings = []
        for layer in self._notice(measures):
            mean, rows = measures.layer_means[layer], measures.nan_counts[layer]
            what = f"{rows} attention rows are not finite" if rows else f"its heads' mean entropy is {mean:.3f} nats"
            warnings.append(f"layer {layer} is collapsing at step {measures.step}: {what}")
            logger.info(warnings[-1])
        return warnings

    def _notice(self, measures: Measures) -> list[int]:
        new = [layer for layer in measures.collapsed_layers if layer not in self._warned]
        self._warned.update(new)
        if new and self.first_collapsed is None:
            # Of several at once, the one with the lowest entropy; one that is not finite before all.
            lowest = min(new, key=lambda layer: -1.0 if (m := measures.layer_means[layer]) is None else m)
            self.first_collapsed = (lowest, measures.step)
        return new


def _of_row(row: dict[str, Any]) -> Measures:
    heads = tuple(tuple(r) for r in row["head_entropy"])
    return Measures(row["step"], row["context"], heads, tuple(row["nan_counts"]))
