"""`aero bench ot`: oblivious transfers, by extension and instruction set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def ot(
    json: Annotated[Path | None, typer.Option(help="Write the records here.", show_default=False)] = None,
) -> None:
    """Time oblivious transfers at every level that this processor runs: millions a second and core, bits each, set-up.

    --json adds to a record's usual keys: level; of OTs also unit (how many one message makes; the bytes are its), bits,
    sender_seconds and receiver_seconds (of processor time, for one OT).
    """
    from aero.bench.ot import bench_ot, table
    from aero.bench.record import write_records

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140  # a file has room
    with console.status("measuring") as status:
        records = bench_ot(progress=lambda label: status.update(f"measuring {label}"))
    header, rows = table(records)
    shown = Table(*header, box=None)
    for row in rows:
        shown.add_row(*row)
    console.print(shown)
    if json is not None:
        write_records(json, records)
