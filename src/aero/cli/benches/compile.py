"""`aero bench compile`: what the compiler saves, measured on SPU."""

from __future__ import annotations

from typing import Annotated

import typer

from aero.cli.benches.show import show_records
from aero.cli.console import wide_console
from aero.cli.options import Records, RunFolder


def compile_(
    run: RunFolder,
    context: Annotated[int, typer.Option(help="Tokens of validation text to run on.", min=2)] = 32,
    json: Records = None,
) -> None:
    """Run a model on SPU as it was lowered, as it was compiled, and by its key/value cache: same weights, same prompt.

    Two SPU processes on this machine. --json writes records with the usual keys and messages.
    """
    import numpy as np

    from aero.bench.compiled import bench_compiled
    from aero.data.folder import DataFolder
    from aero.train.run_folder import RunInfo

    data = DataFolder(RunInfo.read(run).data_path())
    ids = np.asarray(data.valid.block(0, context)).astype(np.int64)
    console = wide_console()
    with console.status("compiling") as status:
        records = bench_compiled(run, ids, lambda label: status.update(f"SPU: {label}"))
    rows = [
        (
            record.work,
            f"{record.seconds or 0:.2f}",
            f"{(record.bytes_client_to_server or 0) / 1e6:.2f}",
            f"{(record.bytes_server_to_client or 0) / 1e6:.2f}",
            f"{record.extra['messages']}",
            f"{record.max_abs_error or 0:.1e}",
        )
        for record in records
    ]
    header = ("work", "seconds", "MB up", "MB down", "messages", "largest error")
    title = f"{records[0].notation}, {context} tokens, {records[0].engine}"
    show_records(console, header, rows, records, json, title=title)
