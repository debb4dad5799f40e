"""`aero bench generate`: private generation token by token, between two processes on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from aero.cli.benches.show import peaks, show_records
from aero.cli.computer import computer
from aero.cli.console import wide_console
from aero.cli.options import MachineOption, Networks, Records, WeightsGb


def generate(
    preset: Annotated[str, typer.Option(help="Size: gpt2-small, ...")] = "gpt2-small",
    notation: Annotated[str, typer.Option(help="Architecture, in the papers' names.")] = "SM+ScFuFFN",
    context: Annotated[int, typer.Option(help="Tokens of the prompt.", min=1)] = 128,
    tokens: Annotated[int, typer.Option(help="Tokens after it, or steps of --rows.", min=1)] = 3,
    batch: Annotated[int, typer.Option(help="Prompts that are continued together.", min=1)] = 1,
    rows: Annotated[
        int, typer.Option(help="Tokens that each step reads, with the logits after each, as where guesses hold.", min=1)
    ] = 1,
    network: Networks = None,
    weights_gb: WeightsGb = None,
    machine: MachineOption = None,
    json: Records = None,
) -> None:
    """Time a prompt, then each token after it, with random weights of trained-like scale, compiled.

    --json adds to a record's usual keys: messages, network, threads, cpu_seconds and peak_bytes (the most
    memory that it held so far) of each party, load_seconds (what had to be encoded and agreed before the run), set_up
    (of the whole session), same_token (as in float64), steps, predicted (as of aero bench forward); prompts of the run,
    rows of each, multiplications for each prompt, bytes_per_token and rounds_per_token, of a prompt. Seconds, bytes and
    rounds are of a run, for all prompts together.
    """
    from dataclasses import replace

    from aero.bench.generate import bench_generate
    from aero.models import notation as notations
    from aero.models import presets
    from aero.wire.network import Network

    size = replace(presets.size(preset), context=context)
    networks = tuple(Network.parse(name) for name in network or ["loopback"])
    console = wide_console()
    with console.status(f"{preset} {notation}"):
        records = bench_generate(
            notations.parse(notation),
            size,
            tokens,
            networks,
            batch=batch,
            rows=rows,
            on=computer(machine, 1),
            weights_bytes=None if weights_gb is None else round(weights_gb * 1e9),
        )
    lines = [
        (
            record.work,
            record.extra["network"],
            str(record.context),
            f"{record.seconds:,.2f}",
            f"{record.extra['predicted']['seconds']:,.2f}",
            f"{(record.bytes_client_to_server or 0) / 1e6:,.2f}",
            f"{(record.bytes_server_to_client or 0) / 1e6:,.2f}",
            f"{record.rounds:,}",
            f"{record.extra['bytes_per_token'] / 1e6:,.2f}",
            *peaks(record),
            f"{record.max_abs_error:.1e}",
        )
        for record in records
    ]
    header = (
        "work",
        "network",
        "context",
        "seconds",
        "predicted",
        "MB up",
        "MB down",
        "rounds",
        "MB a prompt",
        "GB client",
        "GB server",
        "max error",
    )
    title = f"{preset} {notation}, {batch} prompts at once" if batch > 1 else f"{preset} {notation}"
    title += f", {rows} tokens a step" if rows > 1 else ""
    title += " (MB = 10^6 bytes)"
    show_records(console, header, lines, records, json, words=2, title=title)
