"""How a run's report by step is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.table import Table

from aero.engines.engine import StepReport
from aero.report.session import by_op


def step_table(title: str, steps: Sequence[StepReport]) -> Table:
    """For each operation, the longest first: bytes, rounds and seconds, of them local work and waiting for the other
    party; with a sum.
    """
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("operation", no_wrap=True)
    for heading in ("steps", "MB up", "MB down", "rounds", "seconds", "local", "waiting"):
        table.add_column(heading, justify="right")
    total = by_op([replace(step, op="all") for step in steps])
    for line in (*by_op(steps), *total):
        table.add_row(
            line.op,
            line.label,
            f"{line.bytes_client_to_server / 1e6:,.2f}",
            f"{line.bytes_server_to_client / 1e6:,.2f}",
            str(line.rounds),
            f"{line.seconds:.2f}",
            f"{line.seconds - line.waiting_seconds:.2f}",
            f"{line.waiting_seconds:.2f}",
            style="bold" if line in total else None,
        )
    return table
