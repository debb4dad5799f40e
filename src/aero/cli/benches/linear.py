"""`aero bench linear`: products of matrices between two parties, ours and SPU's."""

from __future__ import annotations

from typing import Annotated

import typer

from aero.cli.benches.show import show_records
from aero.cli.console import wide_console
from aero.cli.options import Records


def linear(
    engine: Annotated[
        list[str] | None, typer.Option(help="two-party or spu-cheetah, by default both. Repeatable.")
    ] = None,
    work: Annotated[list[str] | None, typer.Option(help="A piece of work, by default all. Repeatable.")] = None,
    repetitions: Annotated[int, typer.Option(help="Repetitions of ours; SPU gets at most 3.", min=1)] = 5,
    network: Annotated[
        str, typer.Option(help="loopback, lan, wan, or like 300mbit,40ms: emulated, for two-party alone.")
    ] = "loopback",
    json: Records = None,
) -> None:
    """Time matrix products between two processes on this machine, one thread each, against SPU on the same shapes.

    --json adds to a record's usual keys: error_bound (ours: derived, null for SPU), all_seconds, cpu_seconds (of the
    party that needs more), set_up_seconds, set_up_bytes (keys, once a session), threads, network.
    """
    from aero.bench.linear import ENGINES, WORKS, bench_linear, table
    from aero.wire.network import Network

    engines, works = tuple(engine or ENGINES), tuple(work or WORKS)
    if unknown := set(engines) - set(ENGINES):
        raise ValueError(f"no engine {', '.join(sorted(unknown))}: there are {', '.join(ENGINES)}")
    if unknown := set(works) - set(WORKS):
        raise ValueError(f"no work {', '.join(sorted(unknown))}: there are {', '.join(WORKS)}")
    console = wide_console()
    with console.status("measuring") as status:
        show = lambda label: status.update(f"measuring {label}")  # noqa: E731
        records = bench_linear(engines, works, repetitions, show, Network.parse(network))
    show_records(console, *table(records), records, json, words=2)
