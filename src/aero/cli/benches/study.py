"""`aero bench study`: what each nonlinearity is worth, over several seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aero.cli.benches.show import show_records
from aero.cli.console import wide_console
from aero.cli.many_runs import CpusPerRun, GpusPerRun, On, run_bars, trainer
from aero.cli.options import BatchSize, LearningRate, Records, Size


def study(
    data: Annotated[Path, typer.Argument(help="Data folder, from `aero data`.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs/study"),
    size: Size = "nano",
    seeds: Annotated[int, typer.Option(help="How many seeds.", min=1)] = 3,
    steps: Annotated[int, typer.Option(help="Optimizer steps of each run.")] = 1000,
    lr: LearningRate = 2e-3,
    batch_size: BatchSize = 16,
    notation: Annotated[list[str] | None, typer.Option(help="Only this architecture. Repeatable.")] = None,
    on: On = None,
    cpus_per_run: CpusPerRun = None,
    gpus_per_run: GpusPerRun = None,
    json: Records = None,
) -> None:
    """Train every architecture with several seeds, at GPT-2's scale and at the recommended one.

    Sixty runs by default. Stopped, the same command goes on. --json writes records with the usual keys, seed, status,
    perplexity, shares, tokens, precision; benchmarks/study_table.py makes the table of docs/results.md of them.
    """
    from aero.bench.study import NOTATIONS, STUDY_HEADER, run_study, study_rows
    from aero.data.folder import DataFolder
    from aero.train.settings import TrainSettings

    console = wide_console()
    settings = TrainSettings(steps=steps, learning_rate=lr, batch_size=batch_size, entropy_weight=0.1)
    folder, chosen = DataFolder(data), notation or NOTATIONS
    with trainer(on, cpus_per_run, gpus_per_run) as train, run_bars(console) as show:
        records = run_study(out, folder, size, settings, range(seeds), chosen, train, show)
    show_records(console, STUDY_HEADER, study_rows(records), records, json)
