"""Write the table of the demo's figures into the README.

    make demo && python benchmarks/demo_table.py runs/demo/results.json --out README.md

Replaces what stands between the two marks in that file, and nothing else.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean

from sections import table, write_section

from aero.report.record import Record, read_records

HEADER = (
    "model",
    "perplexity",
    "of {tokens} tokens, in plaintext",
    "the same, privately",
    "seconds a token",
    "MB, both directions",
    "rounds",
    "runs with the plaintext model's tokens",
)


def row(notation: str, records: list[Record]) -> list[str]:
    """The figures of one model; of a next token of a single prompt, the means."""
    (whole,) = (record for record in records if record.work == "eval")
    runs = [record for record in records if "same_token" in record.extra]
    alone = [record for record in records if record.work == "next-token" and "same_token" not in record.extra]
    nexts = [record.to_json() for record in alone]
    both_ways = [one["bytes_client_to_server"] + one["bytes_server_to_client"] for one in nexts]
    return [
        notation,
        f"{runs[0].extra['perplexity']:.1f}",
        f"{whole.extra['model_perplexity']:.2f}",
        f"{whole.extra['perplexity']:.2f}",
        f"{mean(one['seconds'] for one in nexts):.2f}",
        f"{mean(both_ways) / 1e6:.2f}",
        f"{mean(one['rounds'] for one in nexts):.0f}",
        f"{sum(record.extra['same_token'] for record in runs)} of {len(runs)}",
    ]


def section(records: list[Record]) -> str:
    """One row for each model that our own engine ran."""
    records = [record for record in records if record.engine == "two-party"]
    predicted = next(record.extra["tokens"] for record in records if record.work == "eval")
    rows = [
        row(str(notation), [record for record in records if record.notation == notation])
        for notation in dict.fromkeys(record.notation for record in records)
    ]
    lines = table([name.format(tokens=predicted) for name in HEADER], rows)
    return "\n".join([*lines, "", f"On {records[0].machine}; aero {records[0].version}."])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    write_section(arguments.out, "demo", section(read_records(arguments.records)))
