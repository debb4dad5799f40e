"""What happens beside the training loop: metrics, progress, a clean stop, and no checkpoint of broken weights."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from aero.files.atomic import write_text
from aero.train.diagnosis import TrainingDivergedError
from aero.train.jsonl import read_rows
from aero.train.processes import any_of_all
from aero.train.scalars import Scalars


class TrainingInterrupted(KeyboardInterrupt):
    """Stopped by a signal, after the state was saved."""


@dataclass(frozen=True)
class TrainingProgress:
    """Where training is. loss: of the last step, nats per token; tokens_per_second: since the last line of metrics;
    warnings: of what was seen in this step, such as a layer that collapses."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float | None
    warnings: tuple[str, ...] = ()


class MetricsCallback(TrainerCallback):
    """One line of metrics.jsonl every few steps, the same numbers to be drawn, and progress at every step.

    Keys of a line: step, loss (nats per token, any entropy penalty included, mean since the line before), grad_norm
    (before clipping), learning_rate, tokens (read so far), seconds (of training so far), tokens_per_second (since the
    line before).
    """

    def __init__(
        self,
        path: Path,
        scalars: Callable[[int], Scalars],
        tokens_per_step: int,
        on_progress: Callable[[TrainingProgress], None] | None,
    ) -> None:
        """scalars: makes the place to draw in, given the first step that will be drawn."""
        self.last: dict[str, Any] = {}
        self.first_loss: float | None = None  # of the run, also where it was resumed
        self.step_loss = float("nan")  # set by the trainer, as are the warnings
        self.warnings: list[str] = []
        self.scalars: Scalars | None = None
        self._path = path
        self._make_scalars = scalars
        self._tokens_per_step = tokens_per_step
        self._on_progress = on_progress
        self._mark = (0, 0.0)  # step and time of the last line

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        kept = [row for row in state.log_history if "tokens" in row]  # see on_log
        self.last = kept[-1] if kept else {}
        self.first_loss = kept[0]["loss"] if kept else None
        self._mark = (state.global_step, time.perf_counter())
        if state.is_world_process_zero:
            read_rows(self._path)  # for its warnings: what is damaged there is not used
            write_text(self._path, "".join(json.dumps(row) + "\n" for row in kept))
            self.scalars = self._make_scalars(state.global_step + 1)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_log = True  # the last steps may be fewer than make a line
        if self._on_progress and state.is_world_process_zero:
            speed = self.last.get("tokens_per_second")
            now = TrainingProgress(state.global_step, state.max_steps, self.step_loss, speed, tuple(self.warnings))
            self.warnings.clear()
            self._on_progress(now)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return  # the summary at the end of training
        now, (step_before, time_before) = time.perf_counter(), self._mark
        tokens = (state.global_step - step_before) * self._tokens_per_step
        row = {
            "step": state.global_step,
            "loss": logs["loss"],
            "learning_rate": logs["learning_rate"],
            "grad_norm": logs["grad_norm"],
            "tokens": state.global_step * self._tokens_per_step,
            "seconds": self.last.get("seconds", 0.0) + now - time_before,
            "tokens_per_second": tokens / (now - time_before),
        }
        self.last, self._mark = row, (state.global_step, now)
        state.log_history[-1] = row  # part of every checkpoint: the file is written anew from it
        if self.scalars is None:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.scalars.add({f"train/{key}": value for key, value in row.items() if key != "step"}, state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.close()

    def close(self) -> None:
        if self.scalars is not None:
            self.scalars.close()
            self.scalars = None


class FiniteWeights(TrainerCallback):
    """Refuses to save weights that are not finite, so that the last checkpoint is always a good one."""

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        last = state.global_step >= state.max_steps
        if (control.should_save or last) and model is not None:
            for name, parameter in model.named_parameters():
                if not torch.isfinite(parameter).all():
                    raise TrainingDivergedError(f"the weights of {name} are not finite after step {state.global_step}")


class StopOnSave(TrainerCallback):
    """Stops when a checkpoint has been saved."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        control.should_training_stop = True


class StopOnSignal(TrainerCallback):
    """After the first SIGINT or SIGTERM, finish the step, save and stop; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.received = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.received = any_of_all(self.received, args.device)  # all of them stop after the same step
        if self.received and state.global_step < state.max_steps:
            control.should_log = control.should_save = control.should_training_stop = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals within this block; outside the main thread, which gets none, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            self.received = True
            signal.signal(signal.SIGINT, signal.default_int_handler)

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
