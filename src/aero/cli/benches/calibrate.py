"""`aero bench calibrate`: measure what each operation costs on SPU, for `aero cost`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from aero.cli.options import json_option
from aero.engines.connect import ENGINES, SPU, TWO_PARTY


def calibrate(
    engine: Annotated[str, typer.Option(help="spu-cheetah, or two-party: our own kernels.")] = SPU,
    json: Annotated[
        Path | None, json_option("Write the profile, for `aero cost --profile FILE`; of two-party, for --machine FILE.")
    ] = None,
) -> None:
    """Measure SPU's cost of each operation between two processes on this machine, and fit formulas to it.

    Bytes, messages, rounds and processor time of every operation at several shapes: some minutes on a quiet machine. Of
    two-party, processor time of each of our own kernels, on one thread: about a minute; AERO_KERNELS picks the level.
    """
    if engine not in ENGINES:
        raise ValueError(f"no engine {engine!r}; there are {', '.join(ENGINES)}")
    if engine == TWO_PARTY:
        _kernels(json)
        return
    from aero.bench.calibrate import calibrate as measure
    from aero.report.record import write_json

    console = Console(highlight=False)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        profile = measure(lambda label, share: bar.update(task, description=label, completed=share))
    table = Table(title="What one call costs; quantities as in docs/understand/cost.md", title_justify="left")
    for heading in ("operation", "bytes client to server", "bytes server to client", "rounds", "compute seconds"):
        table.add_column(heading)
    for op, declaration in profile.ops.items():
        names = ("bytes_client_to_server", "bytes_server_to_client", "rounds", "compute_seconds")
        table.add_row(op, *(str(declaration.formulas[name]) for name in names))
    console.print(table)
    if json is not None:
        write_json(json, profile.to_json())


def _kernels(json: Path | None) -> None:
    from aero.bench.calibrate_kernels import calibrate_two_party
    from aero.kernels import native
    from aero.report.record import write_json

    console = Console(highlight=False)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        machine = calibrate_two_party(
            native.level(), lambda label, share: bar.update(task, description=label, completed=share)
        )
    table = Table(title=f"Seconds of each unit, kernels {machine.level}; units as in docs/understand/cost.md")
    table.add_column("unit")
    table.add_column("seconds", justify="right")
    for name, seconds in machine.units.items():
        table.add_row(name, f"{seconds:.3g}")
    console.print(table)
    if json is not None:
        write_json(json, machine.to_json())
