"""`aero cost`: what a model costs privately, before it is trained or run."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from aero.cli.computer import computer
from aero.cli.console import wide_console
from aero.cli.options import MachineOption, json_option
from aero.serve.drafts import MAX_GUESSES
from aero.serve.session import MAX_PROMPTS
from aero.wire.network import PROFILES, Network

if TYPE_CHECKING:
    from aero.cli.capacity import ServerCapacity
    from aero.cost import Estimate
    from aero.cost.compare import Subject
    from aero.cost.machine import Computer
    from aero.cost.memory import Memory
    from aero.cost.session import Guessing, SessionEstimate
    from aero.engines.reveal import Reveal


FORMATS_OF = {True: "of its validation text", False: "of random tokens"}


class WhichGraph(StrEnum):
    """compiled: what engines run; lowered: every operation of the model as trained."""

    compiled = "compiled"
    lowered = "lowered"


def cost(
    target: Annotated[Path | None, typer.Argument(help="Run folder, or folder of a compiled graph.")] = None,
    preset: Annotated[str | None, typer.Option(help="Size, when there is no run: gpt2-small, ...")] = None,
    notation: Annotated[str | None, typer.Option(help="Architecture, in the papers' names: SM+ScFuFFN, ...")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens of the prompt; by default all that fit.", min=1)] = None,
    stage: Annotated[
        WhichGraph, typer.Option(help="The compiled graph, or the model as trained.")
    ] = WhichGraph.compiled,
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
    machine: MachineOption = None,
    threads: Annotated[int, typer.Option(help="Of each party of our own engine, on cores of its own.", min=1)] = 1,
    bandwidth: Annotated[
        str | None, typer.Option(help="Of each direction, in bits per second: 300mbit. Needs --rtt.")
    ] = None,
    rtt: Annotated[str | None, typer.Option(help="Round trip: 40ms. Needs --bandwidth.")] = None,
    compare: Annotated[
        list[str] | None, typer.Option(help="Another notation (at --preset), run or graph. Repeatable.")
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(
            help="Also price a session in which so many prompts are continued together, by our own engine. Repeatable.",
            min=1,
            max=MAX_PROMPTS,
        ),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "-n", help="Tokens that a prompt of these sessions gets.", min=1)
    ] = 8,
    draft_length: Annotated[
        int | None,
        typer.Option(
            help="Also price a session with so many guesses a run (--guess of `aero generate`). Needs --acceptance.",
            min=1,
            max=MAX_GUESSES,
        ),
    ] = None,
    acceptance: Annotated[
        float | None,
        typer.Option(help="Of these guesses, how many hold where those before them do: 0 to 1.", min=0.0, max=1.0),
    ] = None,
    steady: Annotated[
        bool, typer.Option("--steady", help="As with --steady of `aero generate`, which hides how many held.")
    ] = False,
    clients: Annotated[
        int | None,
        typer.Option(help="Also say what a server of our own engine holds: so many clients at once.", min=1),
    ] = None,
    cores: Annotated[int | None, typer.Option(help="Of that server. Needs --clients.", min=1)] = None,
    measured: Annotated[
        Path | None,
        typer.Option(help="Processor seconds on such a machine: --json of `aero bench generate`. Needs --cores."),
    ] = None,
    json: Annotated[Path | None, json_option("Write every line of every estimate as JSON.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw bytes for each operation as PNG; with runs, perplexity against bytes, too."),
    ] = None,
) -> None:
    """Estimate bytes, rounds, multiplications and seconds, for each operation and in total.

    Of a run, a compiled graph, or a preset and a notation, for which nothing needs to be trained. A megabyte (MB) is
    10^6 bytes, a megabit (mbit) 10^6 bits, an eighth of it. Set-up is counted apart. --json: a list with, for each
    model, name, notation, context, perplexity, graph_digest, and estimates: for each profile its name, length (tokens),
    set_up, total, and lines, each with label, op, its cost and counts. With --batch also sessions: for each, prompts,
    length (tokens of each), new_tokens, with --draft-length also guesses, acceptance, steady and tokens_a_run, and
    works: set-up, prefill, next-token and session, each with its runs and tokens, and what it costs together,
    per_prompt and per_token.

    With --clients also capacity: clients, cores, length and new_tokens (of each), machine and processor_seconds (of
    each work and party, null without --measured), and works: prefill, next-token and answer (a prompt and its tokens)
    on each network, with tokens, alone (seconds of a client with the server to itself, at least, nothing overlapping),
    bounds (tokens a second of all clients), limit (the least), tokens_per_second, seconds_per_token (of each client)
    and sessions (at once, before they slow each other).
    """
    from aero.cost import estimate
    from aero.cost.pricing import TWO_PARTY, pricing
    from aero.cost.session import Guessing
    from aero.engines.reveal import Reveal
    from aero.report.record import write_json

    console = wide_console()
    networks = _networks(network, bandwidth, rtt)
    revealed = Reveal.parse(reveal)
    on = computer(machine, threads)
    pricings = [pricing(name, revealed, on) for name in profile or [TWO_PARTY]]
    if (draft_length is None) != (acceptance is None):
        raise ValueError("--draft-length says how many tokens are guessed, --acceptance how many hold; give both")
    guessing = None if draft_length is None or acceptance is None else Guessing(draft_length, acceptance, steady)
    if steady and guessing is None:
        raise ValueError("--steady is a way to guess; give --draft-length and --acceptance with it")
    batches: list[tuple[int, Guessing | None]] = [(n, None) for n in batch or ([1] if guessing else [])]
    batches += [(1, guessing)] if guessing else []
    in_session = bool(batches) or clients is not None
    if in_session and (TWO_PARTY not in (profile or [TWO_PARTY]) or stage is not WhichGraph.compiled):
        asked = "--batch" if batch else "--draft-length" if guessing else "--clients"
        raise ValueError(f"{asked} prices sessions of the engine {TWO_PARTY!r}; leave --profile and --stage out")
    if clients is None and (cores is not None or measured is not None):
        raise ValueError("--cores and --measured describe a server; say for how many clients with --clients")
    if measured is not None and cores is None:
        raise ValueError("--measured says what one core does; say how many the server has with --cores")
    if measured is not None and compare:
        raise ValueError("--measured is of one model; leave --compare out")
    room = max_new_tokens - 1 if in_session else None  # the last token is never read
    if room and guessing and steady:
        room += guessing.guesses  # which are read whether they can be used or not
    with console.status("compiling"):
        subjects = [_subject(target, preset, notation, context, stage, room)]
        subjects += [_compared(text, preset, context, stage, room) for text in compare or []]
    priced = [(subject, [of(subject.graph, subject.plan) for of in pricings]) for subject in subjects]
    results: list[tuple[Subject, list[Estimate]]] = [
        (subject, [estimate(subject.graph, prices) for prices in several]) for subject, several in priced
    ]
    for (subject, estimates), (_, several) in zip(results, priced, strict=True):
        for prices, found in zip(several, estimates, strict=True):
            console.print(_table(subject.name, found, networks))
            console.print(f"{prices.title}; {prices.source}", style="dim", soft_wrap=True)
            for note in (*prices.notes, *(_formats(subject, revealed) if prices.name == TWO_PARTY else ())):
                console.print(f"- {note}", style="dim", soft_wrap=True)
    sessions = [
        [_session(subject, n, context, max_new_tokens, revealed, on, guesses) for n, guesses in batches]
        for subject in subjects
    ]
    for subject, several_sessions in zip(subjects, sessions, strict=True):
        if several_sessions:
            console.print(_session_table(subject.name, several_sessions, networks))
    capacities: list[ServerCapacity] = []
    if clients is not None:
        from aero.cli.capacity import server_capacity

        for subject in subjects:
            session = _session(subject, 1, context, max_new_tokens, revealed, on)
            capacities.append(server_capacity(subject, session, networks, clients, cores, measured, preset))
            console.print(capacities[-1].table(subject.name))
            console.print(capacities[-1].note, style="dim", soft_wrap=True)
    if len(subjects) > 1:
        for index, prices in enumerate(priced[0][1]):
            console.print(_comparison(prices.name, [(s, e[index]) for s, e in results], networks))
    if json is not None:
        write_json(
            json,
            [
                {
                    **subject.to_json(),
                    "memory": held.to_json() if (held := _memory(subject)) else None,
                    "estimates": [found.to_json(networks) for found in estimates],
                    **({"sessions": [found.to_json(networks) for found in mine]} if mine else {}),
                    **({"capacity": capacities[index].to_json()} if capacities else {}),
                }
                for index, ((subject, estimates), mine) in enumerate(zip(results, sessions, strict=True))
            ],
        )
    if plot is not None:
        from aero.cost.plots import draw_costs

        draw_costs([(subject, estimates[0]) for subject, estimates in results], plot)


# --- what is priced -------------------------------------------------------------------------------------------------


def _subject(
    target: Path | None,
    preset: str | None,
    notation: str | None,
    context: int | None,
    stage: WhichGraph,
    room: int | None,
) -> Subject:
    """room: for a session, by how many tokens the context has to be longer than the prompt, at least."""
    if target is not None:
        if preset is not None or notation is not None:
            raise ValueError("give a folder, or --preset with --notation; not both")
        return _folder(target, context, stage)
    if preset is None:
        raise ValueError("give a run folder, a graph folder, or --preset with --notation")
    return _architecture(notation or _notation_of(preset), preset, context, stage, room)


def _notation_of(preset: str) -> str:
    """Of an encoder, which has one. ValueError for a decoder's size."""
    from aero.models import presets

    if presets.size(preset).family in presets.TRAITS:
        raise ValueError(f"{preset} is the size of a decoder, of any architecture: give both --preset and --notation")
    return "SM+LN+G"


def _compared(text: str, preset: str | None, context: int | None, stage: WhichGraph, room: int | None) -> Subject:
    if Path(text).is_dir():
        return _folder(Path(text), context, stage)
    if preset is None:
        raise ValueError(f"{text!r} is no folder; to compare with a notation, give --preset")
    return _architecture(text, preset, context, stage, room)


def _architecture(name: str, preset: str, context: int | None, stage: WhichGraph, room: int | None) -> Subject:
    from dataclasses import replace

    from aero.cost.compare import TRAINED_LIKE, Subject
    from aero.models import notation, presets
    from aero.structure import lowered

    size, parsed = presets.size(preset), notation.parse(name)
    name, length = f"{preset} {parsed}", context or size.context
    if stage is WhichGraph.lowered:
        return Subject(name, lowered(parsed, replace(size, context=length)), str(parsed))
    from aero.compiler.architecture import outline

    # An untrained model may have any context.
    found = outline(parsed, replace(size, context=max(size.context, length + (room or 0) if context else 0)))
    graph = found.programs.prefill(length).graph
    return Subject(name, graph, str(parsed), plan=found.plan, programs=found.programs, formats=TRAINED_LIKE)


def _folder(folder: Path, context: int | None, stage: WhichGraph) -> Subject:
    from aero.cost.compare import Subject
    from aero.files.reading import present
    from aero.graph.serialize import GRAPH_FILE, load_graph

    if present(folder / "compiled.json"):
        from aero.compiler.folder import read

        if stage is WhichGraph.lowered:
            raise ValueError(f"{folder} holds a compiled model; for the model as trained, give its run folder")
        info, compiled, plan = read(folder)
        graph, formats = compiled.prefill(context or compiled.context).graph, "as compiled"
        if plan is None:
            from aero.cli.served import plan_of

            plan, by_text = plan_of(folder, compiled)
            formats = FORMATS_OF[by_text]
        return Subject(str(folder), graph, info.notation, plan=plan, programs=compiled, formats=formats)
    if present(folder / GRAPH_FILE):
        graph = load_graph(folder)
        if context not in (None, graph.length):
            raise ValueError(f"the graph in {folder} reads {graph.length} tokens; leave --context out")
        return Subject(str(folder), graph)
    from aero.cli.served import serve_run
    from aero.compiler.lower import lower
    from aero.compiler.run import load_model
    from aero.train.run_folder import RunInfo

    model, run = load_model(folder), RunInfo.read(folder)
    length, perplexity = context or model.config.context, (run.result or {}).get("perplexity")
    if stage is WhichGraph.lowered:
        return Subject(str(folder), lower(model, length).graph, run.notation, perplexity)
    served, by_text = serve_run(folder, model)
    return Subject(
        str(folder),
        served.compiled.prefill(length).graph,
        run.notation,
        perplexity,
        plan=served.quantized.plan,
        programs=served.compiled,
        formats=FORMATS_OF[by_text],
    )


def _session(
    subject: Subject,
    prompts: int,
    context: int | None,
    new_tokens: int,
    reveal: Reveal,
    on: Computer,
    guessing: Guessing | None = None,
) -> SessionEstimate:
    """context: tokens of each prompt, by default all that leave room for the new ones."""
    from aero.cost.session import estimate_session

    if subject.programs is None or subject.plan is None:
        raise ValueError(f"{subject.name} is a single graph; a session takes a run, a compiled folder or --preset")
    length = context or subject.programs.context - new_tokens + 1
    return estimate_session(subject.programs, prompts, length, new_tokens, subject.plan, reveal, on, guessing)


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


def _formats(subject: Subject, reveal: Reveal) -> list[str]:
    """What the prices depend on that a model may have otherwise, and memory."""
    from aero.cost.two_party import in_windows

    notes = [f"Number formats {subject.formats}."]
    if (held := _memory(subject)) is not None:
        notes.append(
            f"Memory at most, within 15 %: client {held.client / 1e9:.2f} GB, server {held.server / 1e9:.2f} GB, in it "
            f"weights {held.numbers / 1e9:.2f} and their transforms for next tokens {held.transforms / 1e9:.2f}."
        )
    if subject.assumed and subject.plan is not None and any(node.op == "softmax" for node in subject.graph.nodes):
        found = in_windows(subject.graph, subject.plan, reveal)
        megabytes = found.total(lambda cost: cost.total_bytes) / 1e6
        notes.append(
            "Every softmax takes maxima of rows. A model that is trained for narrow windows may do without: "
            f"{megabytes:,.2f} MB, {found.rounds:,} rounds, if all its heads have one."
        )
    return notes


def _memory(subject: Subject) -> Memory | None:
    """Of a prompt and a next token; None where nothing is known of number formats."""
    from aero.cost.memory import memory
    from aero.engines.planning.step_plans import checked_schedule

    graphs, programs, length = [subject.graph], subject.programs, subject.graph.length
    if subject.plan is None:
        return None
    if programs is not None and subject.graph.causal:
        graphs = [programs.prefill(length, leave_state=True).graph]
        graphs += [programs.decode(length).graph] if length < programs.context else []
    return memory([checked_schedule([graph], subject.plan) for graph in graphs])


def _session_table(name: str, sessions: Sequence[SessionEstimate], networks: Sequence[Network]) -> Table:
    first = sessions[0]
    title = f"{name}, {first.length} tokens, {first.new_tokens} new ones, prompts together (MB = 10^6 bytes)"
    table = Table(title=title, title_justify="left")
    table.add_column("prompts", justify="right")
    table.add_column("work", no_wrap=True)
    for heading in ("runs", "both MB", "a prompt", "a token", "rounds", "a prompt", "a token"):
        table.add_column(heading, justify="right")
    for network in networks:
        table.add_column(f"s on {network}", justify="right")
    for session in sessions:
        table.add_section()
        for work in (*session.works, session.whole):
            costs = work.cost, work.per_prompt, work.per_token
            each = [_cells(0, 0, cost, networks)[4:] if cost is not None else ["", ""] for cost in costs]
            figures = [cells[column] for column in (0, 1) for cells in each]
            style = "bold" if work.name == "session" else None
            guessing = session.guessing
            named = str(session.prompts)
            if guessing is not None:
                named = f"1, {guessing.guesses} {'steady' if guessing.steady else 'guesses'}"
            runs = f"{work.runs:.3g}" if guessing else str(round(work.runs))
            row = [named, work.name, runs if work.runs else "", *figures, *each[0][2:]]
            table.add_row(*row, style=style)
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
