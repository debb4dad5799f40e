"""How far many runs are: a bar for each one that is at work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, TaskID

if TYPE_CHECKING:
    from aero.train.callbacks import TrainingProgress
    from aero.train.many import OnProgress


@contextmanager
def run_bars(console: Console) -> Iterator[OnProgress]:
    """Gives what runs tell their progress to, by their names; a bar goes when its run has taken its last step."""
    with Progress(console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, now: TrainingProgress) -> None:
            for warning in now.warnings:
                bars.console.print(f"warning: {name}: {warning}", style="yellow", soft_wrap=True, markup=False)
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=now.steps)
            bars.update(tasks[name], completed=now.step, total=now.steps, visible=now.step < now.steps)

        yield show
