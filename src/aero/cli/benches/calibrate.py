"""`aero bench calibrate`: measure what each operation costs on SPU, for `aero cost`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from aero.cli.options import json_option


def calibrate(
    json: Annotated[Path | None, json_option("Write the profile, for `aero cost --profile FILE`.")] = None,
) -> None:
    """Measure SPU's cost of each operation between two processes on this machine, and fit formulas to it.

    Bytes, messages, rounds and processor time of every operation at several shapes: some minutes on a quiet machine.
    """
    from aero.bench.calibrate import calibrate as measure
    from aero.report.record import write_json

    console = Console(highlight=False)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        profile = measure(lambda label, share: bar.update(task, description=label, completed=share))
    table = Table(title="What one call costs; quantities as in docs/understand/cost.md", title_justify="left")
    for heading in ("operation", "bytes client to server", "bytes server to client", "rounds", "compute seconds"):
        table.add_column(heading)
    for op, declaration in profile.ops.items():
        names = ("bytes_client_to_server", "bytes_server_to_client", "rounds", "compute_seconds")
        table.add_row(op, *(str(declaration.formulas[name]) for name in names))
    console.print(table)
    if json is not None:
        write_json(json, profile.to_json())
