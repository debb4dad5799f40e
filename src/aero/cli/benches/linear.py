"""`aero bench linear`: products of matrices between two parties, ours and SPU's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

_ALL = "all"


def linear(
    engine: Annotated[str, typer.Option(help="two-party, spu, or all.")] = _ALL,
    work: Annotated[
        list[str] | None, typer.Option(help="A piece of work; may be repeated. By default all.", show_default=False)
    ] = None,
    repetitions: Annotated[int, typer.Option(help="Repetitions of ours; SPU gets at most 3.", min=1)] = 5,
    json: Annotated[Path | None, typer.Option(help="Write the records here.", show_default=False)] = None,
) -> None:
    """Time matrix products between two processes on this machine, one thread each, against SPU on the same shapes.

    --json adds to a record's usual keys: error_bound (ours: derived, null for SPU), all_seconds, cpu_seconds (of the
    party that needs more), set_up_seconds, set_up_bytes (keys, once a session), threads.
    """
    from aero.bench.linear import ENGINES, WORKS, bench_linear, table
    from aero.bench.record import write_records

    engines = ENGINES if engine == _ALL else (engine,)
    works = tuple(work) if work else tuple(WORKS)
    if not set(engines) <= set(ENGINES):
        raise ValueError(f"no engine {engine!r}: give {', '.join(ENGINES)}, or {_ALL}")
    if unknown := set(works) - set(WORKS):
        raise ValueError(f"no work {', '.join(sorted(unknown))}: there are {', '.join(WORKS)}")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140  # a file has room
    with console.status("measuring") as status:
        records = bench_linear(engines, works, repetitions, lambda label: status.update(f"measuring {label}"))
    header, rows = table(records)
    shown = Table(*header, box=None)
    for row in rows:
        shown.add_row(*row)
    console.print(shown)
    if json is not None:
        write_records(json, records)
