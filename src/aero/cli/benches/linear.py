"""`aero bench linear`: products of matrices between two parties, ours and SPU's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aero.cli.benches.show import show_records, wide_console

_ALL = "all"


def linear(
    engine: Annotated[str, typer.Option(help="two-party, spu, or all.")] = _ALL,
    work: Annotated[
        list[str] | None, typer.Option(help="A piece of work; may be repeated. By default all.", show_default=False)
    ] = None,
    repetitions: Annotated[int, typer.Option(help="Repetitions of ours; SPU gets at most 3.", min=1)] = 5,
    network: Annotated[
        str, typer.Option(help="loopback, lan, wan, or like 300mbit,40ms: emulated, for our engine alone.")
    ] = "loopback",
    json: Annotated[Path | None, typer.Option(help="Write the records here.", show_default=False)] = None,
) -> None:
    """Time matrix products between two processes on this machine, one thread each, against SPU on the same shapes.

    --json adds to a record's usual keys: error_bound (ours: derived, null for SPU), all_seconds, cpu_seconds (of the
    party that needs more), set_up_seconds, set_up_bytes (keys, once a session), threads, network.
    """
    from aero.bench.linear import ENGINES, WORKS, bench_linear, table
    from aero.wire.network import Network

    engines = ENGINES if engine == _ALL else (engine,)
    works = tuple(work) if work else tuple(WORKS)
    if not set(engines) <= set(ENGINES):
        raise ValueError(f"no engine {engine!r}: give {', '.join(ENGINES)}, or {_ALL}")
    if unknown := set(works) - set(WORKS):
        raise ValueError(f"no work {', '.join(sorted(unknown))}: there are {', '.join(WORKS)}")
    console = wide_console()
    with console.status("measuring") as status:
        show = lambda label: status.update(f"measuring {label}")  # noqa: E731
        records = bench_linear(engines, works, repetitions, show, Network.parse(network))
    show_records(console, *table(records), records, json, words=2)
