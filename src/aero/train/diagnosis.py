"""Why a run broke down: which layer went first, from what was measured before and from the last batch itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from aero.files.atomic import write_text
from aero.models import AeroForCausalLM
from aero.models.modeling_aero import AeroBlock

FILE = "divergence.json"


class TrainingDivergedError(ArithmeticError):
    """The loss, a gradient or a weight is no longer a finite number, or the loss climbs without end."""


@dataclass(frozen=True)
class Diagnosis:
    """step: the optimizer step that broke down. what: the number that gave it away.

    first_layer: the one that collapsed first, None where no layer can be named. collapsed_at: the step at which its
    entropies were first seen near zero, or not finite. broken_output: the first part of the model, from input to
    output, whose output is not finite. broken_gradient: the first, from output to input, whose gradient is not finite.
    """

    step: int
    what: str
    first_layer: int | None
    collapsed_at: int | None
    broken_output: str | None
    broken_gradient: str | None

    def write(self, folder: Path) -> None:
        write_text(folder / FILE, json.dumps(asdict(self), indent=2) + "\n")

    def __str__(self) -> str:
        parts = [f"{self.what} at step {self.step}"]
        if self.collapsed_at is not None:
            parts.append(f"layer {self.first_layer} collapsed first (seen in its heads at step {self.collapsed_at})")
        elif self.first_layer is not None:
            parts.append(f"layer {self.first_layer} broke first")
        if self.broken_output is not None:
            parts.append(f"the output of {self.broken_output} is not finite")
        elif self.broken_gradient is not None:
            parts.append(f"the gradient of {self.broken_gradient} is not finite")
        return "; ".join(parts)


def diagnose(
    model: AeroForCausalLM,
    batches: Sequence[dict[str, Tensor]],
    loss: Callable[[dict[str, Tensor]], Tensor],
    step: int,
    what: str,
    first_collapsed: tuple[int, int] | None,
) -> Diagnosis:
    """Run the batches of the step again and look where it breaks. The model's weights are those before the step.

    loss: of one batch, computed with `model`. first_collapsed: layer and step, from the live measures.
    """
    output, gradient = None, None
    for batch in batches:
        with _watching(model) as broken:
            value = loss(batch)
        if broken:
            output = broken[0]
            break
        gradient = _broken_gradient(model, value)
        if gradient is not None:
            break
    layer, collapsed_at = first_collapsed or (_layer_of(output or gradient), None)
    return Diagnosis(step, what, layer, collapsed_at, output, gradient)


def _parts(model: AeroForCausalLM) -> Iterator[tuple[str, nn.Module]]:
    """The model's parts in the order in which they compute."""
    yield "the embedding", model.transformer.token_embedding
    for layer, block in enumerate(cast(list[AeroBlock], list(model.transformer.blocks))):
        yield f"layer {layer}'s attention", block.attention
        if block.ffn is not None:
            yield f"layer {layer}'s FFN", block.ffn
        yield f"layer {layer}", block
    yield "the final norm", model.transformer.final_norm


@contextmanager
def _watching(model: AeroForCausalLM) -> Iterator[list[str]]:
    """Names of the parts whose output is not finite, in the order in which they come."""
    broken: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            if not torch.isfinite(first).all():
                broken.append(name)

        return look

    hooks = [part.register_forward_hook(watch(name)) for name, part in _parts(model)]
    try:
        yield broken
    finally:
        for hook in hooks:
            hook.remove()


def _broken_gradient(model: AeroForCausalLM, loss: Tensor) -> str | None:
    """The part nearest to the output whose parameters' gradient is not finite."""
    model.zero_grad()
    loss.backward()
    for name, part in reversed(list(_parts(model))):
        if isinstance(part, AeroBlock):
            continue  # its parts come by themselves
        own = [p.grad for p in part.parameters() if p.grad is not None]
        if not all(torch.isfinite(gradient).all() for gradient in own):
            return name
    return None


def _layer_of(part: str | None) -> int | None:
    """The layer that the name of a part begins with, if it begins with a layer."""
    words = (part or "").removesuffix("'s attention").removesuffix("'s FFN").split()
    return int(words[1]) if len(words) == 2 and words[0] == "layer" else None


class LossTrend:
    """Tells a loss that climbs without end: its mean over about 20 steps is twice what the run began with.

    A single step counts for at most four times that, however large.
    """

    def __init__(self) -> None:
        self._mean: float | None = None

    def climbs(self, loss: float, first: float) -> bool:
        first = max(first, 1.0)
        loss = min(loss, 4 * first)
        self._mean = loss if self._mean is None else self._mean + 0.05 * (loss - self._mean)
        return self._mean > 2 * first
