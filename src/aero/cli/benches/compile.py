"""`aero bench compile`: what the compiler saves, measured on SPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def compile_(
    run: Annotated[Path, typer.Argument(help="Run folder of a trained model.", show_default=False)],
    length: Annotated[int, typer.Option(help="Tokens of validation text to run on.", min=2)] = 32,
    json: Annotated[Path | None, typer.Option(help="Write the records here.", show_default=False)] = None,
) -> None:
    """Run a model on SPU as it was lowered, as it was compiled, and by its key/value cache: same weights, same prompt.

    Two SPU processes on this machine. --json writes records with the usual keys and messages.
    """
    import numpy as np

    from aero.bench.compiled import bench_compiled
    from aero.bench.record import write_records
    from aero.data.folder import DataFolder
    from aero.train.run_folder import RunInfo

    data = DataFolder(RunInfo.read(run).data_path())
    ids = np.asarray(data.valid.block(0, length)).astype(np.int64)
    console = Console(highlight=False)
    with console.status("compiling") as status:
        records = bench_compiled(run, ids, lambda label: status.update(f"SPU: {label}"))
    table = Table(title=f"{records[0].notation}, {length} tokens, {records[0].engine}", title_justify="left")
    table.add_column("work")
    for heading in ("seconds", "MB up", "MB down", "messages", "largest error"):
        table.add_column(heading, justify="right")
    for record in records:
        table.add_row(
            record.work,
            f"{record.seconds or 0:.2f}",
            f"{(record.bytes_client_to_server or 0) / 1e6:.2f}",
            f"{(record.bytes_server_to_client or 0) / 1e6:.2f}",
            f"{record.extra['messages']}",
            f"{record.max_abs_error or 0:.1e}",
        )
    console.print(table)
    if json is not None:
        write_records(json, records)
