"""How a run's report by step is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

_COUNTS = ("bytes_client_to_server", "bytes_server_to_client", "rounds", "seconds", "waiting_seconds")


def by_op(steps: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Steps of one operation added up; each is `aero.engines.engine.StepReport` as plain data."""
    found: dict[str, dict[str, Any]] = {}
    for step in steps:
        line = found.setdefault(step["op"], {"label": step["op"], "steps": 0, **dict.fromkeys(_COUNTS, 0)})
        line["steps"] += 1
        for name in _COUNTS:
            line[name] += step[name]
    return list(found.values())


def step_table(title: str, lines: Iterable[Mapping[str, Any]]) -> Table:
    """Bytes, rounds and seconds, of them local work and waiting for the other party; with a sum."""
    lines = list(lines)
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("operation", no_wrap=True)
    for heading in ("steps", "MB up", "MB down", "rounds", "seconds", "local", "waiting"):
        table.add_column(heading, justify="right")
    total = {"label": "all", "steps": sum(line["steps"] for line in lines)}
    total |= {name: sum(line[name] for line in lines) for name in _COUNTS}
    for line in (*lines, total):
        up, down, rounds, seconds, waiting = (line[name] for name in _COUNTS)
        table.add_row(
            line["label"],
            str(line["steps"]),
            f"{up / 1e6:,.2f}",
            f"{down / 1e6:,.2f}",
            str(rounds),
            f"{seconds:.2f}",
            f"{seconds - waiting:.2f}",
            f"{waiting:.2f}",
            style="bold" if line is total else None,
        )
    return table
