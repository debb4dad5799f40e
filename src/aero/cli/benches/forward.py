"""`aero bench forward`: whole private forward passes, between two processes on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from aero.cli.benches.show import peaks, show_records
from aero.cli.computer import computer
from aero.cli.console import wide_console
from aero.cli.options import MachineOption, Networks, Records, WeightsGb

if TYPE_CHECKING:
    from aero.report.record import Record

_HEADER = (
    "model",
    "engine",
    "network",
    "seconds",
    "predicted",
    "MB up",
    "MB down",
    "MB",
    "rounds",
    "GB client",
    "GB server",
    "max logit error",
)
RUNGS = ("SM+ScFuFFN", "SM+R", "SM+LN+R", "SM+LN+G")


def forward(
    preset: Annotated[str, typer.Option(help="Size: gpt2-small, bert-base, ...")] = "gpt2-small",
    context: Annotated[int | None, typer.Option(help="Tokens of the prompt; by default all that fit.", min=2)] = None,
    notation: Annotated[
        list[str] | None,
        typer.Option(help="Architecture, by default four: SM+ScFuFFN to SM+LN+G, the last of an encoder. Repeatable."),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="two-party (by default), or spu-cheetah: one layer of it, multiplied. Repeatable."),
    ] = None,
    network: Networks = None,
    threads: Annotated[int, typer.Option(help="Threads of each party's kernels.", min=1)] = 1,
    weights_gb: WeightsGb = None,
    machine: MachineOption = None,
    operations: Annotated[bool, typer.Option("--operations", help="Show what each operation cost, too.")] = False,
    json: Records = None,
) -> None:
    """Time token ids to last-position logits, or an encoder's output, with random weights of trained-like scale,
    compiled.

    --json adds to a record's usual keys: messages, network, threads, logit_std, cpu_seconds, peak_bytes (the most
    memory that it held) and steps of each party, load_seconds (encoding of the weights, keys, base OTs), set_up (their
    traffic); predicted (seconds, cpu_seconds, bytes each way and rounds, as aero cost prices this very program on
    --machine); of SPU a note of what was measured.
    """
    from dataclasses import replace

    from aero.bench.forward import ENGINES, bench_spu_layer, bench_two_party, prepare
    from aero.models import notation as notations
    from aero.models import presets
    from aero.report.record import write_records
    from aero.wire.network import Network

    size = presets.size(preset)
    size = replace(size, context=context or size.context)
    engines = engine or [ENGINES[0]]
    if unknown := set(engines) - set(ENGINES):
        raise ValueError(f"no engine {', '.join(sorted(unknown))}: there are {', '.join(ENGINES)}")
    networks = [Network.parse(name) for name in network or ["loopback"]]
    rungs = [notations.parse(name) for name in notation or (RUNGS if size.family in presets.TRAITS else RUNGS[-1:])]
    console, on = wide_console(), computer(machine, threads)
    weights_bytes = None if weights_gb is None else round(weights_gb * 1e9)
    records: list[Record] = []
    with console.status("") as status:
        for rung in rungs:
            status.update(f"{rung}: drawing weights, compiling")
            if ENGINES[0] in engines:
                model = prepare(rung, size)
                for where in networks:
                    status.update(f"{rung}: running on {where}")
                    records.append(bench_two_party(model, where, on, weights_bytes))
                del model
            if ENGINES[1] in engines:
                status.update(f"{rung}: one layer on SPU")
                records.append(bench_spu_layer(rung, size))
            if json is not None:
                write_records(json, records)  # already: the run may be stopped
    title = f"{preset}, {size.context} tokens (MB = 10^6 bytes)"
    show_records(console, _HEADER, map(_row, records), records, json, words=3, title=title)
    for record in records:
        if "note" in record.extra:
            console.print(f"{record.engine}, {record.notation}: {record.extra['note']}", style="dim", soft_wrap=True)
        if operations and "steps" in record.extra:
            console.print(_steps(record))


def _row(record: Record) -> list[str]:
    up, down = record.bytes_client_to_server, record.bytes_server_to_client
    sizes = ["?"] * 3 if up is None or down is None else [f"{n / 1e6:,.1f}" for n in (up, down, up + down)]
    rounds = "?" if record.rounds is None else f"{record.rounds:,}"
    names = [record.notation or "", record.engine, record.extra["network"]]
    predicted = record.extra.get("predicted")
    seconds = f"{record.seconds:,.1f}", f"{predicted['seconds']:,.1f}" if predicted else ""
    return [*names, *seconds, *sizes, rounds, *peaks(record), f"{record.max_abs_error:.1e}"]


def _steps(record: Record) -> Table:
    from aero.cli.step_table import step_table
    from aero.engines.engine import StepReport

    steps = [StepReport(**step) for step in record.extra["steps"]]
    return step_table(f"{record.notation}, {record.extra['network']}: the client's steps", steps)
