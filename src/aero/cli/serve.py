"""`aero serve`: this process holds the weights, and computes with clients without seeing their text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from aero.bench.record import Record, write_records
from aero.cli.options import Keys, NoTls, Threads, json_option
from aero.cli.security import IDLE_SECONDS, security_of
from aero.engines.engine import Party
from aero.engines.reveal import Reveal
from aero.engines.weight_store import MAX_BYTES
from aero.kernels import native
from aero.serve.server import DEFAULT_MAX_PROMPTS, Computed, Server
from aero.serve.session import MAX_PROMPTS
from aero.wire import PeerAbsentError
from aero.wire.tcp import Listener

if TYPE_CHECKING:
    from aero.compiler.run import CompiledRun


def serve(
    run: Annotated[Path, typer.Argument(help="Run folder, or folder of a compiled model.")],
    keys: Keys = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 picks a free one.", min=0, max=65535)] = 7700,
    once: Annotated[bool, typer.Option("--once", help="Serve one client, then exit.")] = False,
    wait: Annotated[float | None, typer.Option(help="Exit after so many seconds without a client.")] = None,
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
            help="Memory for encoded weights, in GB (10^9 bytes), beyond which the longest unused go; what a run needs "
            f"is kept. {MAX_BYTES / 1e9:g} if not given.",
            min=0.0,
        ),
    ] = None,
    insecure_plaintext: NoTls = False,
    threads: Threads = None,
    json: Annotated[Path | None, json_option("Write a record of each prompt and token, after each client.")] = None,
) -> None:
    """Serve a run privately. The server sees how many tokens a prompt and its answer have, and nothing of them."""
    from aero.data import chat_template, tokenizer
    from aero.engines.connect import ENGINES, TWO_PARTY, connect_engine
    from aero.engines.room import check_room

    if threads is not None:
        native.set_threads(threads)
    console = Console(highlight=False)
    security, revealed = security_of(keys, Party.SERVER, insecure_plaintext), Reveal.parse(reveal)
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
    if engine == TWO_PARTY and plan is not None:
        check_room(model.compiled, plan, at_once, revealed)
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
            weights_bytes=MAX_BYTES if weights_gb is None else round(weights_gb * 1e9),
        ),
        reveal=revealed,
        max_prompts=at_once,
        end_tokens=model.compiled.end_tokens,
        chat_template=chat_template.load(run),
    )
    records: list[Record] = []

    def on_step(done: Computed) -> None:
        each = [f"{s.length} tokens" if s.work == "prefill" else f"token after {s.past}" for s in done.steps]
        console.print(f"  {done.work}: {', '.join(each)}  {done.cost.seconds:.2f} s", soft_wrap=True)
        record = Record.of_cost(done.cost, done.work, engine, model.notation, done.context)
        records.append(replace(record, extra={**record.extra, "prompts": len(done.steps)}))

    def on_declined(reason: str) -> None:
        console.print(f"  declined: {reason}", soft_wrap=True, markup=False)

    with Listener(host, port, security, timeout=IDLE_SECONDS) as listener:
        console.print(f"serving {model.notation} from {run} at {host}:{listener.port}", soft_wrap=True)
        for note in notes:
            console.print(note, style="dim", soft_wrap=True)
        while True:
            failure = _serve_one(server, listener, wait, on_step, on_declined)
            if json is not None:
                write_records(json, records)
            if once and failure is not None:
                raise failure
            console.print(f"session ended: {failure}" if failure else "session finished", soft_wrap=True, markup=False)
            if once:
                return


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


def _serve_one(
    server: Server,
    listener: Listener,
    wait: float | None,
    on_step: Callable[[Computed], None],
    on_declined: Callable[[str], None],
) -> Exception | None:
    """One session. A client that is not trusted, misbehaves, goes away, or asks for what the engine refuses, ends its
    session, not the server."""
    try:
        with listener.accept(wait) as channel:
            server.handle(channel, on_step, on_declined)
    except PeerAbsentError:
        raise  # nobody came within the time that the user set
    except (ConnectionError, ValueError) as error:
        return error
    return None
