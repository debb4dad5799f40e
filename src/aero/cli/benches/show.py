"""How the sub-verbs of `aero bench` show their records, and write them where `--json` asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from aero.report.record import Record


def peaks(record: Record) -> list[str]:
    """The most memory that client and server held, in GB."""
    held = record.extra.get("peak_bytes", {})
    return [f"{held[party] / 1e9:.2f}" if party in held else "?" for party in ("client", "server")]


def show_records(
    console: Console,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    records: list[Record],
    json: Path | None,
    *,
    words: int = 1,
    title: str | None = None,
) -> None:
    """Show rows as a table, its first columns being `words` and the others numbers; write the records to `json`."""
    from aero.report.record import write_records

    table = Table(title=title, title_justify="left", box=None)
    for index, heading in enumerate(header):
        table.add_column(heading, justify="left" if index < words else "right", no_wrap=index < words)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if json is not None:
        write_records(json, records)
