"""`aero bench ot`: oblivious transfers, by extension and instruction set."""

from __future__ import annotations

from aero.cli.benches.show import show_records
from aero.cli.console import wide_console
from aero.cli.options import Records


def ot(
    json: Records = None,
) -> None:
    """Time oblivious transfers at every level that this processor runs: millions a second and core, bits each, set-up.

    --json adds to a record's usual keys: level; of OTs also unit (how many one message makes; the bytes are its), bits,
    sender_seconds and receiver_seconds (of processor time, for one OT).
    """
    from aero.bench.ot import bench_ot, table

    console = wide_console()
    with console.status("measuring") as status:
        records = bench_ot(progress=lambda label: status.update(f"measuring {label}"))
    show_records(console, *table(records), records, json, words=3)
