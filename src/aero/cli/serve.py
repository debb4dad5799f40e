"""`aero serve`: this process holds the weights, and computes with clients without seeing their text."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from aero.cli.options import Keys, NoTls, Threads, json_option
from aero.cli.security import security_of
from aero.engines.engine import Party
from aero.engines.reveal import Reveal
from aero.engines.two_party.weight_store import MAX_BYTES, WeightStore
from aero.kernels import native
from aero.report.record import Record, write_records
from aero.serve.server import DEFAULT_MAX_PROMPTS, IDLE_SECONDS, Computed, Server
from aero.serve.session import MAX_PROMPTS
from aero.serve.supervisor import Event, Limits, Supervisor, Tell
from aero.wire import Channel, safe_text
from aero.wire.tcp import Listener

if TYPE_CHECKING:
    from aero.compiler.run import CompiledRun

STEP_SECONDS = 60.0
_REFUSALS, _MINUTE = 10, 60.0  # lines about connections that came to nothing


def serve(
    run: Annotated[Path, typer.Argument(help="Run folder, or folder of a compiled model.")],
    keys: Keys = None,
    client_ca: Annotated[
        Path | None,
        typer.Option(
            "--client-ca",
            help="Certificates of an authority (PEM): whom it has signed for clients may come in, by the common name, "
            "instead of those whose certificates are among the keys.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 picks a free one.", min=0, max=65535)] = 7700,
    once: Annotated[bool, typer.Option("--once", help="Serve one session, then exit.")] = False,
    wait: Annotated[float | None, typer.Option(help="Exit after so many seconds without a session.")] = None,
    sessions: Annotated[
        int, typer.Option(help="Sessions at the same time, each in a process of its own; more wait for a place.")
    ] = Limits.sessions,
    queue: Annotated[
        int, typer.Option(help="Clients that may wait for a place; more are told to come again.")
    ] = Limits.queue,
    longest: Annotated[
        float, typer.Option(help="Seconds that a session may last; it ends after the step at hand.")
    ] = Limits.longest,
    idle: Annotated[
        float, typer.Option(help="Seconds that a client may be silent between two steps.", min=1)
    ] = IDLE_SECONDS,
    stall: Annotated[
        float, typer.Option(help="Seconds that a client may be silent within a step.", min=1)
    ] = STEP_SECONDS,
    drain: Annotated[
        float, typer.Option(help="Seconds that sessions have to finish their answers when the server is stopped.")
    ] = Limits.drain,
    engine: Annotated[str, typer.Option(help="two-party, or spu-cheetah: SPU, of the extra `spu`.")] = "two-party",
    reveal: Annotated[
        str,
        typer.Option(
            help="What clients learn of each output: logits, top-k:K (the K largest, and their tokens) or token.",
            metavar="logits|top-k:K|token",
        ),
    ] = "logits",
    max_prompts: Annotated[
        int | None,
        typer.Option(
            help=f"Prompts that a client may have computed together; {DEFAULT_MAX_PROMPTS} if not given, 1 by SPU.",
            min=1,
            max=MAX_PROMPTS,
        ),
    ] = None,
    weights_gb: Annotated[
        float | None,
        typer.Option(
            "--weights-gb",
            help="Memory for transforms of weights, in GB (10^9 bytes), which all sessions read for single tokens; "
            f"what finds no place is transformed anew for each. {MAX_BYTES / 1e9:g} if not given.",
            min=0.0,
        ),
    ] = None,
    insecure_plaintext: NoTls = False,
    threads: Threads = None,
    json: Annotated[Path | None, json_option("Write a record of each prompt and token, after each session.")] = None,
) -> None:
    """Serve a run privately. The server sees how many tokens a prompt and its answer have, and nothing of them.

    SIGTERM, or Ctrl-C: no new sessions; those that there are end after the answer at hand, and their clients are told.
    """
    from aero.data import chat_template, tokenizer
    from aero.engines.connect import ENGINES, TWO_PARTY, connect_engine
    from aero.engines.two_party.room import check_room

    if threads is not None:
        native.set_threads(threads)
    console = Console(highlight=False)
    limits = Limits(1 if once else sessions, 0 if once else queue, longest=longest, drain=drain)
    security, revealed = security_of(keys, Party.SERVER, insecure_plaintext, client_ca), Reveal.parse(reveal)
    if engine not in ENGINES:
        raise ValueError(f"no engine {engine!r}; there are {', '.join(ENGINES)}")
    if revealed.k is not None and engine != TWO_PARTY:
        raise ValueError(f"the engine {engine!r} reveals all logits; serve with --reveal logits, or --engine two-party")
    if engine != TWO_PARTY and (max_prompts or 1) > 1:
        raise ValueError(f"the engine {engine!r} computes one prompt at a time; leave --max-prompts out")
    if engine != TWO_PARTY and weights_gb is not None:
        raise ValueError(f"the engine {engine!r} encodes no weights ahead; leave --weights-gb out")
    model, by_text = _compiled(run, with_plan=engine == TWO_PARTY)
    tokenizer.load(run)  # refuse a damaged one before a client meets it
    plan, notes = model.plan, [f"clients will learn {revealed.described} of each output"]
    if not by_text:
        notes.append(f"{run} has no validation text: number formats come from random tokens")
    at_once = max_prompts or (DEFAULT_MAX_PROMPTS if engine == TWO_PARTY else 1)
    store: WeightStore | None = None
    if engine == TWO_PARTY and plan is not None:
        most = MAX_BYTES if weights_gb is None else round(weights_gb * 1e9)
        store = check_room(model.compiled, plan, at_once, revealed, most)
    server = Server(
        notation=model.notation,
        context=model.context,
        vocab_size=model.vocab_size,
        tokenizer=(run / tokenizer.FILE).read_bytes(),
        programs=model.compiled,
        engine=engine,
        engine_for=lambda channel: connect_engine(
            engine,
            Party.SERVER,
            channel,
            plan=plan,
            insecure_plaintext=insecure_plaintext,
            store=store,
        ),
        reveal=revealed,
        max_prompts=at_once,
        end_tokens=model.compiled.end_tokens,
        chat_template=chat_template.load(run),
        idle=idle,
    )
    records: list[Record] = []

    def say(text: str, style: str | None = None) -> None:
        with suppress(OSError):  # a full disk, or a reader that has gone, stops no session
            console.print(safe_text(text), style=style, soft_wrap=True, markup=False)

    def serve_one(channel: Channel, tell: Tell) -> None:
        def on_step(done: Computed) -> None:
            each = [f"{s.length} tokens" if s.work == "prefill" else f"token after {s.past}" for s in done.steps]
            record = Record.of_cost(done.cost, done.work, engine, model.notation, done.context)
            record = replace(record, extra={**record.extra, "prompts": len(done.steps)})
            line = f"{done.work}: {', '.join(each)}  {done.cost.seconds:.2f} s"
            tell({"line": line, **({} if json is None else {"record": record.to_json()})})

        server.handle(channel, on_step, lambda reason: tell({"line": f"declined: {reason}"}))

    def on_told(session: int, what: Mapping[str, Any]) -> None:
        say(f"  session {session}: {what['line']}")
        if "record" in what:
            records.append(Record.from_json(what["record"]))

    def on_ended(session: int, failure: str | None) -> None:
        say(f"session {session} ended: {failure}" if failure else f"session {session} finished")
        if json is None:
            return
        try:
            write_records(json, records)
        except (OSError, ValueError) as error:
            say(f"{json} cannot be written: {error}")

    refused = _Refusals(say)

    def on_event(event: Event) -> None:
        if event.kind == "begun":
            say(f"session {event.session} begins, with {event.who}")
        elif event.kind == "told":
            on_told(event.session, event.what)
        elif event.kind == "ended":
            on_ended(event.session, event.what["failure"])
        elif event.kind == "waits":
            say(f"{event.who} waits, place {event.what['place']}")
        elif event.kind == "refused":
            refused(event.who, event.what["why"])

    with Listener(host, port, security, timeout=stall) as listener:
        say(f"serving {model.notation} from {run} at {host}:{listener.port}")
        for note in notes:
            say(note, style="dim")
        supervisor = Supervisor(
            listener,
            serve_one,
            stop=server.stop,
            limits=limits,
            on_event=on_event,
        )
        supervisor.run(once=once, wait=wait)
        if not once:
            say("stopped")


class _Refusals:
    """Says of connections that came to nothing why; of many in a minute how many more there were, so that nobody can
    fill a log."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._since, self._count = say, 0.0, 0

    def __call__(self, where: str, why: str) -> None:
        now = time.monotonic()
        if now > self._since + _MINUTE:
            if self._count > _REFUSALS:
                self._say(f"{self._count - _REFUSALS} more connections came to nothing")
            self._since, self._count = now, 0
        self._count += 1
        if self._count <= _REFUSALS:
            self._say(f"no session with {where}: {why}")


def _compiled(run: Path, *, with_plan: bool) -> tuple[CompiledRun, bool]:
    """A run, which is compiled now, or what was compiled before; and False where number formats had to come from random
    tokens."""
    from aero.compiler.folder import is_compiled
    from aero.compiler.run import CompiledRun, load_model

    if is_compiled(run) or not with_plan:
        found = CompiledRun.load(run)
        if not with_plan or found.plan is not None:
            return found, True  # without torch, which takes seconds to load
    from aero.cli.served import plan_of, serve_run

    if not is_compiled(run):
        model = load_model(run)
        served, by_text = serve_run(run, model)
        return CompiledRun(str(model.config.notation), served.compiled, served.quantized.plan), by_text
    plan, by_text = plan_of(run, found.compiled)
    return CompiledRun(found.notation, found.compiled, plan), by_text
