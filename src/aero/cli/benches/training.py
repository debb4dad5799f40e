"""`aero bench training`: tokens per second of training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def training(
    data: Annotated[Path, typer.Argument(help="Data folder, from `aero data`.", show_default=False)],
    size: Annotated[str, typer.Option(help="Size of the models: demo, nano, gpt2-small, …")] = "nano",
    steps: Annotated[int, typer.Option(help="Steps of each turn.", min=5)] = 23,
    turns: Annotated[int, typer.Option(help="Turns of each variant.", min=1)] = 3,
    batch_size: Annotated[int, typer.Option(help="Blocks of the context length for one step.")] = 16,
    json: Annotated[Path | None, typer.Option(help="Write the records here.", show_default=False)] = None,
) -> None:
    """SM+LN+G against Hugging Face's GPT-2 of the same size under the same Trainer, and what watching entropies costs.

    --json writes records with the usual keys (seconds: of one step), tokens_per_second, precision, batch_size.
    """
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    from aero.bench.record import write_records
    from aero.bench.training import bench_training
    from aero.data.folder import DataFolder
    from aero.train.settings import TrainSettings

    disable_progress_bar()
    set_verbosity_error()
    console = Console(highlight=False)
    settings = TrainSettings(steps=steps, batch_size=batch_size)
    with console.status("training") as status:
        records = bench_training(DataFolder(data), size, settings, turns, status.update)
    table = Table()
    for heading in ("work", "engine", "network"):
        table.add_column(heading)
    for heading in ("seconds of a step", "tokens/s"):
        table.add_column(heading, justify="right")
    for record in records:
        speed = f"{record.extra['tokens_per_second']:,.0f}"
        table.add_row(record.work, record.engine, record.notation, f"{record.seconds:.4f}", speed)
    console.print(table)
    if json is not None:
        write_records(json, records)
