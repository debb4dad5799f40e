"""Write result files as tables of docs/results.md, one section for each: what was measured, and by which command.

    aero bench linear --json linear.json
    python benchmarks/record_table.py linear.json --section linear --title "..." --command "aero bench linear" \\
        --out docs/results.md

Replaces what stands between the section's two marks in that file, and nothing else; adds the section where it is not.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from aero.bench.record import Record, read_records

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
        number(record.max_abs_error, ".1e"),
        ratio,
    ]


def section(records: list[Record], title: str, command: str) -> str:
    """The section's Markdown."""
    firsts: dict[tuple[str, str | None], Record] = {}
    header = [*COLUMNS, "largest error", "times the seconds of the first"]
    lines = [f"## {title}", "", f"Made by `{command}` on {records[0].machine}; aero {records[0].version}.", ""]
    lines += ["| " + " | ".join(header) + " |", "|" + " --- |" * 4 + " ---: |" * (len(header) - 4)]
    for record in records:
        first = firsts.setdefault((record.work, record.notation), record)
        lines.append("| " + " | ".join(cells(record, first)) + " |")
    notes = {f"{record.engine}: {record.extra['note']}." for record in records if "note" in record.extra}
    return "\n".join([*lines, *(f"\n{note[0].upper()}{note[1:]}" for note in sorted(notes))])


def write(path: Path, name: str, text: str) -> None:
    """Replace the section of this name, atomically; append it where there is none."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    whole = path.read_text(encoding="utf-8")
    block = f"{begin}\n{text}\n{end}"
    if begin in whole:
        before, rest = whole.split(begin, 1)
        whole = before + block + rest.split(end, 1)[1]
    else:
        whole = whole.rstrip() + "\n\n" + block + "\n"
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(whole, encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path, nargs="+")
    for option in ("--section", "--title", "--command"):
        parser.add_argument(option, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    found = [record for path in arguments.records for record in read_records(path)]
    write(arguments.out, arguments.section, section(found, arguments.title, arguments.command))
