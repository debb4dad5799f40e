"""Write result files as tables of docs/results.md, one section for each: what was measured, and by which command.

    aero bench linear --json linear.json
    python benchmarks/record_table.py linear.json --section linear --title "..." --command "aero bench linear" \\
        --out docs/results.md

Records of `aero bench ot`, `aero bench kernels` and `aero bench generate RUN` get the columns that those verbs show.
Replaces what stands between the section's two marks in that file, and nothing else; adds the section where it is not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sections import table, write_section

from aero.bench import guesses, kernels, ot
from aero.report.record import Record, read_records

COLUMNS = (
    "work",
    "engine",
    "model",
    "network",
    "tokens",
    "seconds",
    "MB client to server",
    "MB server to client",
    "rounds",
    "GB held by client",
    "GB held by server",
    "largest error",
    "times the seconds of the first",
)


def cells(record: Record, first: Record) -> list[str]:
    """One row; `first`: the first record of the same work and model, which the last column compares with."""

    def number(value: float | None, form: str, unit: float = 1.0) -> str:
        return "" if value is None else format(value / unit, form)

    ratio = "" if record is first or not record.seconds else f"{(record.seconds / (first.seconds or 1)):.1f}x"
    return [
        record.work,
        record.engine,
        record.notation or "",
        str(record.extra.get("network", "")),
        number(record.context, ".0f"),
        number(record.seconds, ".3g"),
        number(record.bytes_client_to_server, ".2f", 1e6),
        number(record.bytes_server_to_client, ".2f", 1e6),
        number(record.rounds, ".0f"),
        *(number(record.extra.get("peak_bytes", {}).get(party), ".2f", 1e9) for party in ("client", "server")),
        number(record.max_abs_error, ".1e"),
        ratio,
    ]


def table_of(records: list[Record]) -> list[str]:
    """The table's Markdown, a row for each record; for kernels, for each kernel."""
    if all(record.work.startswith("ot/") for record in records):
        return table(*ot.table(records), words=3)
    if all(record.work.startswith("kernel/") for record in records):
        return table(*kernels.table(records), words=2)
    if all(record.work == "guess" for record in records):
        return table(*guesses.table(records), words=2)
    firsts: dict[tuple[str, str | None], Record] = {}
    rows = [cells(r, firsts.setdefault((r.work, r.notation), r)) for r in records]
    return table(COLUMNS, rows, words=4)


def section(records: list[Record], title: str, command: str) -> str:
    """The section's Markdown."""
    made = f"Made by `{command}` on {records[0].machine}; aero {records[0].version}."
    notes = {f"\n`{record.engine}`: {record.extra['note']}." for record in records if "note" in record.extra}
    return "\n".join([f"## {title}", "", made, "", *table_of(records), *sorted(notes)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path, nargs="+")
    for option in ("--section", "--title", "--command"):
        parser.add_argument(option, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    found = [record for path in arguments.records for record in read_records(path)]
    write_section(arguments.out, arguments.section, section(found, arguments.title, arguments.command))
