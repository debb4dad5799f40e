"""`aero bench kernels`: the native kernels at every instruction-set level."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def kernels(
    json: Annotated[Path | None, typer.Option(help="Write the records here.", show_default=False)] = None,
) -> None:
    """Time every kernel at every level that this processor runs, the portable one included; one thread.

    --json adds to a record's usual keys: unit (what `seconds` is the time of) and level.
    """
    from aero.bench.kernels import bench_kernels, table
    from aero.bench.record import write_records

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140  # a file has room
    with console.status("measuring") as status:
        records = bench_kernels(progress=lambda level: status.update(f"measuring {level}"))
    header, rows = table(records)
    shown = Table(*header, box=None)
    for row in rows:
        shown.add_row(*row)
    console.print(shown)
    if json is not None:
        write_records(json, records)
