"""`aero bench generate`: private generation token by token, between two processes on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aero.cli.benches.show import peaks, show_records
from aero.cli.computer import computer
from aero.cli.console import wide_console
from aero.cli.options import MachineOption, Networks, Records, WeightsGb
from aero.serve.drafts import MAX_GUESSES

if TYPE_CHECKING:
    from aero.report.record import Record

_RANDOM = "preset", "notation", "batch", "rows", "weights_gb", "machine"
_TRAINED = "data", "draft", "guess", "prompts"


def generate(
    ctx: typer.Context,
    run: Annotated[
        Path | None,
        typer.Argument(help="Compiled folder: its answers to texts of --data, without guessed tokens and with them."),
    ] = None,
    preset: Annotated[str, typer.Option(help="Size: gpt2-small, ...")] = "gpt2-small",
    notation: Annotated[str, typer.Option(help="Architecture, in the papers' names.")] = "SM+ScFuFFN",
    context: Annotated[
        int | None, typer.Option(help="Tokens of a prompt; 128, or 64 of a text, if not given.", min=1)
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Tokens after it, or steps of --rows; 3, or 12 after a text.", min=1)
    ] = None,
    batch: Annotated[int, typer.Option(help="Prompts that are continued together.", min=1)] = 1,
    rows: Annotated[
        int, typer.Option(help="Tokens that each step reads, with the logits after each, as where guesses hold.", min=1)
    ] = 1,
    data: Annotated[Path | None, typer.Option(help="Data folder with the tokenizer of RUN.")] = None,
    draft: Annotated[
        Path | None, typer.Option(help="Compiled folder that guesses, published as by aero serve --draft.")
    ] = None,
    guess: Annotated[
        int, typer.Option(help="Tokens guessed ahead in a step of RUN, at most.", min=1, max=MAX_GUESSES)
    ] = 4,
    prompts: Annotated[int, typer.Option(help="Pieces of the validation text, one after another.", min=1)] = 30,
    network: Networks = None,
    weights_gb: WeightsGb = None,
    machine: MachineOption = None,
    json: Records = None,
) -> None:
    """Time a prompt, then each token after it, with random weights of trained-like scale, compiled; or answers of a
    trained model, with tokens guessed ahead from phrases, by a draft model, and in steady steps.

    --json adds to a record's usual keys: messages, network, threads, cpu_seconds and peak_bytes (the most
    memory that it held so far) of each party, load_seconds (what had to be encoded and agreed before the run), set_up
    (of the whole session), same_token (as in float64), steps, predicted (as of aero bench forward); prompts of the run,
    rows of each, multiplications for each prompt, bytes_per_token and rounds_per_token, of a prompt. Seconds, bytes and
    rounds are of a run, for all prompts together. With RUN they are of a token after an answer's first, and --json adds
    network, threads, guesses (their kind), most (of a step), tokens_a_step, acceptance (the part that held, of guesses
    before which none failed), tokens, answers, other_answers (than without guesses).
    """
    from dataclasses import replace

    from aero.bench.generate import bench_generate
    from aero.models import notation as notations
    from aero.models import presets
    from aero.wire.network import Network

    networks = tuple(Network.parse(name) for name in network or ["loopback"])
    _check_given(ctx, run)
    if run is not None:
        if data is None:
            raise typer.BadParameter("give --data DIR, a data folder with the tokenizer of RUN")
        lengths = {"length": context or 64, "tokens": tokens or 12}
        _answers(run, data, json, draft=draft, guesses=guess, prompts=prompts, networks=networks, **lengths)
        return
    size, tokens = replace(presets.size(preset), context=context or 128), tokens or 3
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


def _check_given(ctx: typer.Context, run: Path | None) -> None:
    """BadParameter where an option says nothing: some are for random weights, some for a trained model."""
    for name in _TRAINED if run is None else _RANDOM:
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = "--" + name.replace("_", "-")
            raise typer.BadParameter(
                f"{option} " + ("needs RUN, a compiled folder" if run is None else "is for random weights, not for RUN")
            )


def _answers(run: Path, data: Path, json: Path | None, **how: Any) -> None:
    from aero.bench.guesses import bench_guesses, table

    console = wide_console()
    records: list[Record] = []
    try:
        with console.status(f"{run}") as status:
            for record in bench_guesses(run, data, **how):
                records.append(record)
                status.update(f"{run}: after {record.extra['network']}, guesses: {record.extra['guesses']}")
    finally:  # what was measured before a party failed, or before Control-C
        if records:
            title = f"{run}, {records[0].notation}, tokens of an answer after its first (MB = 10^6 bytes)"
            show_records(console, *table(records), records, json, words=2, title=title)
