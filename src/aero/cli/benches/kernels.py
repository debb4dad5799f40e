"""`aero bench kernels`: the native kernels at every instruction-set level."""

from __future__ import annotations

from typing import Annotated

import typer

from aero.cli.benches.show import show_records
from aero.cli.console import wide_console
from aero.cli.options import Records


def kernels(
    threads: Annotated[int, typer.Option(help="Threads that a kernel may use.", min=1)] = 1,
    json: Records = None,
) -> None:
    """Time every kernel at every level that this processor runs, the portable one included.

    Processor time with one thread, time on the clock with more. --json adds to a record's usual keys: unit (what
    `seconds` is the time of), level and threads.
    """
    from aero.bench.kernels import bench_kernels, table

    console = wide_console()
    with console.status("measuring") as status:
        records = bench_kernels(progress=lambda level: status.update(f"measuring {level}"), threads=threads)
    show_records(console, *table(records), records, json, words=2)
