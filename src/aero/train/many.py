"""Many runs on one data folder: what is to be trained, and the way to do it one after the other in this process.

Whoever trains several models takes a `TrainMany`, and leaves to it where and in which order they are trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aero.data.folder import DataFolder
from aero.models import AeroConfig
from aero.train.callbacks import TrainingProgress
from aero.train.run import ensure
from aero.train.run_folder import RunInfo
from aero.train.settings import TrainSettings

OnProgress = Callable[[str, TrainingProgress], None]
"""Called with a run's name and where it is."""


@dataclass(frozen=True)
class Wanted:
    """A run that is to be there. name: what progress calls it; out: its folder; config, settings: as `train` takes."""

    name: str
    out: Path
    config: AeroConfig
    settings: TrainSettings


class TrainMany(Protocol):
    """A way to train runs that do not depend on each other.

    Returns what each one's run.json says at the end, in their order: finished or diverged. Runs that are there already
    are kept, and stopped ones go on, as `aero.train.run.ensure` does, with its errors.
    """

    def __call__(
        self, runs: Sequence[Wanted], data: DataFolder, on_progress: OnProgress | None = None
    ) -> list[RunInfo]: ...


def one_after_another(runs: Sequence[Wanted], data: DataFolder, on_progress: OnProgress | None = None) -> list[RunInfo]:
    """In this process, in their order."""
    return [_one(run, data, on_progress) for run in runs]


def _one(run: Wanted, data: DataFolder, on_progress: OnProgress | None) -> RunInfo:
    def show(now: TrainingProgress) -> None:
        if on_progress is not None:
            on_progress(run.name, now)

    return ensure(run.out, data, run.config, run.settings, on_progress=show)
