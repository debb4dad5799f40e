"""`aero cost`: what a model costs privately, before it is trained or run."""

from __future__ import annotations

import json as json_
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from aero.cli.console import wide_console
from aero.wire.network import PROFILES, Network

if TYPE_CHECKING:
    from aero.cost import Estimate
    from aero.cost.compare import Subject


class Stage(StrEnum):
    """compiled: what engines run; lowered: every operation of the model as trained."""

    compiled = "compiled"
    lowered = "lowered"


def cost(
    target: Annotated[Path | None, typer.Argument(help="Run folder, or folder of a compiled graph.")] = None,
    preset: Annotated[str | None, typer.Option(help="Size, when there is no run: gpt2-small, ...")] = None,
    notation: Annotated[str | None, typer.Option(help="Architecture, in the papers' names: SM+ScFuFFN, ...")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens of the prompt; by default all that fit.", min=1)] = None,
    stage: Annotated[Stage, typer.Option(help="The compiled graph, or the model as trained.")] = Stage.compiled,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            "--profile",
            "--engine",
            help="Prices: two-party (by default), spu-cheetah, aero-published, bumblebee-published, or a JSON file. "
            "Repeatable.",
        ),
    ] = None,
    reveal: Annotated[
        str,
        typer.Option(help="What the client learns of the output, by our own engine.", metavar="logits|top-k:K|token"),
    ] = "logits",
    network: Annotated[
        list[str] | None, typer.Option(help="loopback, lan, wan (all by default), or 300mbit,40ms. Repeatable.")
    ] = None,
    bandwidth: Annotated[
        str | None, typer.Option(help="Of each direction, in bits per second: 300mbit. Needs --rtt.")
    ] = None,
    rtt: Annotated[str | None, typer.Option(help="Round trip: 40ms. Needs --bandwidth.")] = None,
    compare: Annotated[
        list[str] | None, typer.Option(help="Another notation (at --preset), run or graph. Repeatable.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write every line of every estimate as JSON.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw bytes for each operation as PNG; with runs, perplexity against bytes, too."),
    ] = None,
) -> None:
    """Estimate bytes, rounds, multiplications and seconds, for each operation and in total.

    Of a run, a compiled graph, or a preset and a notation, for which nothing needs to be trained. A megabyte (MB) is
    10^6 bytes, a megabit (mbit) 10^6 bits, an eighth of it. Set-up is counted apart. --json: a list with, for each
    model, name, notation, context, perplexity, graph_digest, and estimates: for each profile its name, length (tokens),
    set_up, total, and lines, each with label, op, its cost and counts.
    """
    from aero.bench.record import write_json
    from aero.cost import estimate
    from aero.cost.pricing import TWO_PARTY, pricing
    from aero.engines.reveal import Reveal

    console = wide_console()
    networks = _networks(network, bandwidth, rtt)
    revealed = Reveal.parse(reveal)
    pricings = [pricing(name, revealed) for name in profile or [TWO_PARTY]]
    with console.status("compiling"):
        subjects = [_subject(target, preset, notation, context, stage)]
        subjects += [_compared(text, preset, context, stage) for text in compare or []]
    priced = [(subject, [of(subject.graph, subject.plan) for of in pricings]) for subject in subjects]
    results: list[tuple[Subject, list[Estimate]]] = [
        (subject, [estimate(subject.graph, prices) for prices in several]) for subject, several in priced
    ]
    for (subject, estimates), (_, several) in zip(results, priced, strict=True):
        for prices, found in zip(several, estimates, strict=True):
            console.print(_table(subject.name, found, networks))
            console.print(f"{prices.title}; {prices.source}", style="dim", soft_wrap=True)
            for note in prices.notes:
                console.print(f"- {note}", style="dim", soft_wrap=True)
    if len(subjects) > 1:
        for index, prices in enumerate(priced[0][1]):
            console.print(_comparison(prices.name, [(s, e[index]) for s, e in results], networks))
    if json is not None:
        write_json(
            json,
            [
                {**subject.to_json(), "estimates": [found.to_json(networks) for found in estimates]}
                for subject, estimates in results
            ],
        )
    if plot is not None:
        from aero.cost.plots import draw_costs

        draw_costs([(subject, estimates[0]) for subject, estimates in results], plot)


# --- what is priced -------------------------------------------------------------------------------------------------


def _subject(
    target: Path | None, preset: str | None, notation: str | None, context: int | None, stage: Stage
) -> Subject:
    if target is not None:
        if preset is not None or notation is not None:
            raise ValueError("give a folder, or --preset with --notation; not both")
        return _folder(target, context, stage)
    if preset is None or notation is None:
        raise ValueError("give a run folder, a graph folder, or both --preset and --notation")
    return _architecture(notation, preset, context, stage)


def _compared(text: str, preset: str | None, context: int | None, stage: Stage) -> Subject:
    if Path(text).is_dir():
        return _folder(Path(text), context, stage)
    if preset is None:
        raise ValueError(f"{text!r} is no folder; to compare with a notation, give --preset")
    return _architecture(text, preset, context, stage)


def _architecture(name: str, preset: str, context: int | None, stage: Stage) -> Subject:
    from dataclasses import replace

    from aero.cost.compare import Subject
    from aero.cost.shapes import lowered
    from aero.models import notation, presets

    size, parsed = presets.size(preset), notation.parse(name)
    size = replace(size, context=context or size.context)  # an untrained model may have any context
    if stage is Stage.lowered:
        graph = lowered(parsed, size)
    else:
        from aero.bench.architecture import compiled_stages

        graph = compiled_stages(parsed, size)[-1].graph
    return Subject(f"{preset} {parsed}", graph, str(parsed))


def _folder(folder: Path, context: int | None, stage: Stage) -> Subject:
    from aero.cost.compare import Subject
    from aero.graph.serialize import GRAPH_FILE, graph_from_json

    if (folder / "compiled.json").is_file():
        from aero.compiler.folder import read

        if stage is Stage.lowered:
            raise ValueError(f"{folder} holds a compiled model; for the model as trained, give its run folder")
        info, compiled, plan = read(folder)
        return Subject(str(folder), compiled.prefill(context or compiled.context).graph, info.notation, plan=plan)
    if (folder / GRAPH_FILE).is_file():
        graph = graph_from_json(json_.loads((folder / GRAPH_FILE).read_text()))
        if context not in (None, graph.length):
            raise ValueError(f"the graph in {folder} reads {graph.length} tokens; leave --context out")
        return Subject(str(folder), graph)
    from aero.compiler import compile, lower
    from aero.compiler.run import load_model
    from aero.train.run_folder import RunInfo

    model, run = load_model(folder), RunInfo.read(folder)
    length = context or model.config.context
    lowered = stage is Stage.lowered
    graph = lower(model, length).graph if lowered else compile(model, check=False).prefill(length).graph
    return Subject(str(folder), graph, run.notation, (run.result or {}).get("perplexity"))


def _networks(names: Sequence[str] | None, bandwidth: str | None, rtt: str | None) -> list[Network]:
    if (bandwidth is None) != (rtt is None):
        raise ValueError("--bandwidth and --rtt describe one network together; give both")
    networks = [Network.parse(name) for name in names or ()]
    if bandwidth is not None:
        networks.append(Network.parse(f"{bandwidth},{rtt}"))
    return networks or list(PROFILES.values())


# --- how it is shown ------------------------------------------------------------------------------------------------


def _table(name: str, found: Estimate, networks: Sequence[Network]) -> Table:
    table = Table(
        title=f"{name}, {found.length} tokens, profile {found.profile} (MB = 10^6 bytes)", title_justify="left"
    )
    table.add_column("operation", no_wrap=True)
    table.add_column("steps", justify="right")
    for heading in ("10^6 products", "nonlinear", "client sends MB", "server sends MB", "both MB", "rounds"):
        table.add_column(heading, justify="right")
    for network in networks:
        table.add_column(f"s on {network}", justify="right")
    for op, line in found.by_op().items():
        table.add_row(op, line.label, *_cells(line.multiplications, line.nonlinear_elements, line.cost, networks))
    table.add_section()
    total = _cells(found.multiplications, found.nonlinear_elements, found.total, networks)
    table.add_row("one run", str(len(found.lines)), *total, style="bold")
    table.add_row("set-up, once", "", "", "", *_cells(0, 0, found.set_up, networks)[2:])
    return table


def _comparison(profile: str, results: Sequence[tuple[Subject, Estimate]], networks: Sequence[Network]) -> Table:
    table = Table(title=f"One run each, profile {profile} (MB = 10^6 bytes)", title_justify="left")
    table.add_column("model", no_wrap=True)
    for heading in ("perplexity", "10^6 products", "nonlinear", "both MB", "less bytes", "rounds"):
        table.add_column(heading, justify="right")
    for network in networks:
        table.add_column(f"s on {network}", justify="right")
    first = results[0][1].total.bytes_both_ways
    for subject, found in results:
        cells = _cells(found.multiplications, found.nonlinear_elements, found.total, networks)
        own = found.total.bytes_both_ways
        ratio = "?" if not own or first is None else f"{first / own:.2f} x"
        perplexity = "" if subject.perplexity is None else f"{subject.perplexity:.2f}"
        table.add_row(subject.name, perplexity, *cells[:2], cells[4], ratio, *cells[5:])
    return table


def _cells(products: int, nonlinear: int, cost: Any, networks: Sequence[Network]) -> list[str]:
    from aero.cost.estimate import seconds_on

    def megabytes(value: float | None) -> str:
        return "?" if value is None else f"{value / 1e6:,.2f}"

    cells = [f"{products / 1e6:,.2f}", f"{nonlinear:,}"]
    cells += map(megabytes, (cost.bytes_client_to_server, cost.bytes_server_to_client, cost.bytes_both_ways))
    cells.append("?" if cost.rounds is None else f"{cost.rounds:,.0f}")
    for network in networks:
        seconds = seconds_on(network, cost)
        if seconds.total is not None:
            cells.append(f"{seconds.total:,.1f}")
        else:
            cells.append(f"> {seconds.at_least:,.1f}" if seconds.at_least else "?")
    return cells
