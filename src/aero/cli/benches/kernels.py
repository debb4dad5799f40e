"""`aero bench kernels`: the native kernels at every instruction-set level."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def kernels(
    threads: Annotated[int, typer.Option(help="Threads that a kernel may use.", min=1)] = 1,
    json: Annotated[Path | None, typer.Option(help="Write the records here.", show_default=False)] = None,
) -> None:
    """Time every kernel at every level that this processor runs, the portable one included.

    Processor time with one thread, time on the clock with more. --json adds to a record's usual keys: unit (what
    `seconds` is the time of), level and threads.
    """
    from aero.bench.kernels import bench_kernels, table
    from aero.bench.record import write_records

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140  # a file has room
    with console.status("measuring") as status:
        records = bench_kernels(progress=lambda level: status.update(f"measuring {level}"), threads=threads)
    header, rows = table(records)
    shown = Table(*header, box=None)
    for row in rows:
        shown.add_row(*row)
    console.print(shown)
    if json is not None:
        write_records(json, records)
