"""`aero bench training`: tokens per second of training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aero.cli.benches.show import show_records
from aero.cli.console import wide_console
from aero.cli.options import BatchSize, Records, Size


def training(
    data: Annotated[Path, typer.Argument(help="Data folder, from `aero data`.")],
    size: Size = "nano",
    steps: Annotated[int, typer.Option(help="Steps of each turn.", min=5)] = 23,
    turns: Annotated[int, typer.Option(help="Turns of each variant.", min=1)] = 3,
    batch_size: BatchSize = 16,
    json: Records = None,
) -> None:
    """SM+LN+G against Hugging Face's GPT-2 of the same size under the same Trainer, and what watching entropies costs.

    --json writes records with the usual keys (seconds: of one step), tokens_per_second, precision, batch_size.
    """
    from aero.bench.training import bench_training
    from aero.data.folder import DataFolder
    from aero.train.settings import TrainSettings

    console = wide_console()
    settings = TrainSettings(steps=steps, batch_size=batch_size)
    with console.status("training") as status:
        records = bench_training(DataFolder(data), size, settings, turns, status.update)
    rows = [
        (r.work, r.engine, r.notation or "", f"{r.seconds:.4f}", f"{r.extra['tokens_per_second']:,.0f}")
        for r in records
    ]
    header = ("work", "engine", "model", "seconds of a step", "tokens/s")
    show_records(console, header, rows, records, json, words=3)
