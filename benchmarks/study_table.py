"""Write the ordering study as a table of docs/results.md.

    aero bench study data/stdlib --json study.json
    python benchmarks/study_table.py study.json --command "aero bench study data/stdlib" --out docs/results.md

Replaces what stands between the section's two marks in that file, and nothing else; adds the section where it is not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sections import table, write_section

from aero.bench.study import STUDY_HEADER, study_rows
from aero.report.record import Record, read_records


def section(records: list[Record], command: str) -> str:
    """The section's Markdown, with what a reader must know to read it."""
    first = records[0]
    seeds = len({record.extra["seed"] for record in records})
    tokens = max((record.extra["tokens"] or 0) for record in records)
    lines = ["## What each nonlinearity is worth, at small scale", ""]
    lines += [f"Made by `{command}` on {first.machine}; aero {first.version}. {tokens:,} tokens for each run, {seeds}"]
    lines[-1] += " seeds: mean ± standard deviation. Differences within the deviations are no ordering."
    return "\n".join([*lines, "", *table(STUDY_HEADER, study_rows(records))])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path)
    parser.add_argument("--command", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    write_section(arguments.out, "ordering", section(read_records(arguments.records), arguments.command))
