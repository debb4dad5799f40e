"""When the norms of an FLN or FRMS model become constant: a schedule over the steps of a run.

All together, a goes from 0 to 1 linearly between two fractions of the run; one after another, each norm does so in its
own share of that time, in the order of `aero.models.norm.frozen_norms`. The rest of the run trains the affine model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from aero.models.norm import MOMENTUM, frozen_norms

FreezeOrder = Literal["together", "one_by_one"]

# A running mean remembers a tenth of a run at most: what norms were at its beginning is far from what they become.
_MEMORIES = 10


@dataclass(frozen=True)
class FreezeSchedule:
    """start, stop: fractions of the run in which norms become constant; order: all together, or one after another."""

    start: float = 0.5
    stop: float = 0.8
    order: FreezeOrder = "together"

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop <= 1:
            raise ValueError(
                f"freeze_start is {self.start} and freeze_stop {self.stop}; give fractions of the run, the first not "
                "above the second"
            )
        if self.order not in get_args(FreezeOrder):
            raise ValueError(f"freeze_order is {self.order!r}; choose one of {', '.join(get_args(FreezeOrder))}")

    def blends(self, fraction: float, norms: int) -> list[float]:
        """a of each of so many norms at a fraction of the run."""
        parts = 1 if self.order == "together" else norms
        width = (self.stop - self.start) / max(parts, 1)
        found = []
        for norm in range(norms):
            begin = self.start + (0 if parts == 1 else norm) * width
            done = (fraction - begin) / width if width else float(fraction >= begin)
            found.append(min(max(done, 0.0), 1.0))
        return found


class FreezeNorms(TrainerCallback):
    """Sets a of every norm before each step, and to one at the end; at the beginning, how long norms remember."""

    def __init__(self, schedule: FreezeSchedule) -> None:
        self._schedule = schedule

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        assert model is not None
        for norm in frozen_norms(model):
            norm.momentum = min(1.0, max(MOMENTUM, _MEMORIES / max(state.max_steps, 1)))

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        assert model is not None
        self._set(model, state.global_step / max(state.max_steps, 1))

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        if model is not None and state.global_step >= state.max_steps:
            for norm in frozen_norms(model):
                norm.blend.fill_(1)

    def _set(self, model: torch.nn.Module, fraction: float) -> None:
        norms = frozen_norms(model)
        for norm, blend in zip(norms, self._schedule.blends(fraction, len(norms)), strict=True):
            norm.blend.fill_(blend)
