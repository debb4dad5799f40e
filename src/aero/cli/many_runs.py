"""What verbs that train many runs have in common: where they are trained, and how far each of them is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

if TYPE_CHECKING:
    from aero.train.callbacks import TrainingProgress
    from aero.train.many import OnProgress, TrainMany


class Cluster(StrEnum):
    ray = "ray"


On = Annotated[
    Cluster | None,
    typer.Option(
        "--on",
        help="ray: train runs at the same time, on the cluster of RAY_ADDRESS or else on this machine; by default one "
        "after another in this process.",
    ),
]
CpusPerRun = Annotated[
    int | None, typer.Option(help="With --on ray: CPUs of each run, and its threads; 1 if not given.", min=1)
]
GpusPerRun = Annotated[
    float | None,
    typer.Option(help="With --on ray: GPUs of each run, 1 or a part of one; none if not given.", min=0.0, max=1.0),
]


@contextmanager
def trainer(on: Cluster | None, cpus: int | None, gpus: float | None) -> Iterator[TrainMany]:
    """The way to train many runs that the three options name; an interruption within the block ends the verb.

    ValueError for the latter two without the first.
    """
    try:
        with _way(on, cpus, gpus) as train:
            yield train
    except KeyboardInterrupt:
        Console(stderr=True, highlight=False).print("interrupted; the same command goes on")
        raise typer.Exit(130) from None


def _way(on: Cluster | None, cpus: int | None, gpus: float | None) -> AbstractContextManager[TrainMany]:
    if on is Cluster.ray:
        from aero.train.on_ray import on_ray

        return on_ray(cpus or 1, gpus or 0.0)
    if cpus is not None or gpus is not None:
        raise ValueError("--cpus-per-run and --gpus-per-run say what a run gets of a cluster; give --on ray with them")
    from aero.train.many import one_after_another

    return nullcontext(one_after_another)


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
