"""`aero serve`: this process holds the weights, and computes with clients without seeing their text."""

from __future__ import annotations

import os
import signal
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from aero.cli.logs import EventLog, LogFormat, events, start_log
from aero.cli.options import Keys, NoTls, WeightsGb, json_option
from aero.cli.security import security_of
from aero.engines.reveal import Reveal
from aero.engines.two_party.engine import TwoPartyEngine
from aero.engines.two_party.weight_store import default_bytes
from aero.kernels import native
from aero.mpc.party import Role
from aero.report.record import Record, write_records
from aero.serve.limits import ACCOUNTS_FILE, ClientLimits
from aero.serve.metrics import ServerMetrics
from aero.serve.server import DEFAULT_MAX_PROMPTS, IDLE_SECONDS, Computed
from aero.serve.session import MAX_PROMPTS, Span
from aero.serve.supervisor import Event, Limits, Supervisor, Tell
from aero.wire import Channel
from aero.wire.keys import Identity
from aero.wire.tcp import Listener

STEP_SECONDS = 60.0


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
    accounts: Annotated[
        str | None,
        typer.Option(
            help="Where what each client has used is counted: a file, or postgresql://USER@HOST/NAME for replicas; "
            f"{ACCOUNTS_FILE} beside the keys if not given. Limits, unless limits.toml there says otherwise: "
            f"{ClientLimits().described}.",
            metavar="FILE|URL",
            envvar="AERO_ACCOUNTS",
            show_envvar=True,
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
    draft: Annotated[
        Path | None,
        typer.Option(
            help="Run folder, or folder of a compiled model: a small one with the same tokenizer, by which clients "
            "guess tokens (--guess). It is public then: every client gets its weights.",
            metavar="FOLDER",
        ),
    ] = None,
    weights_gb: WeightsGb = None,
    insecure_plaintext: NoTls = False,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads of our own kernels for each session; AERO_THREADS if not given, else the processor's cores "
            "divided by --sessions, and 1 with --once.",
            min=1,
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Show metrics for Prometheus, /healthz and /readyz over HTTP; 127.0.0.1 where no HOST is given.",
            metavar="[HOST:]PORT",
        ),
    ] = None,
    log_format: Annotated[LogFormat, typer.Option(help="How events are written.")] = LogFormat.TEXT,
    json: Annotated[Path | None, json_option("Write a record of each prompt and token, after each session.")] = None,
) -> None:
    """Serve a run privately. The server sees how many tokens a prompt and its answer have, and nothing of them.

    SIGTERM, or Ctrl-C: no new sessions; those that there are end after the answer at hand, and their clients are told.
    SIGHUP: the model is read again, and new sessions are served by it; one that cannot be read changes nothing.
    """
    from aero.cli.serving import Serving, load
    from aero.compiler.folder import is_compiled
    from aero.serve.door import Doorkeeper

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to be read again
    start_log(log_format)
    if threads is None and not once and native.THREADS_VARIABLE not in os.environ:
        threads = threads_of(sessions)
    if threads is not None:
        native.set_threads(threads)
    limits = Limits(1 if once else sessions, 0 if once else queue, longest=longest, drain=drain)
    security = security_of(keys, Role.SERVER, insecure_plaintext, client_ca)
    ours = engine == TwoPartyEngine.name
    weights_bytes = (default_bytes() if ours else None) if weights_gb is None else round(weights_gb * 1e9)
    how = Serving(
        engine,
        Reveal.parse(reveal),
        max_prompts or (DEFAULT_MAX_PROMPTS if ours else 1),
        weights_bytes,
        insecure_plaintext,
        idle,
        draft,
    )
    door: Doorkeeper | None = None
    if isinstance(security, Identity):
        door = Doorkeeper(security, accounts)
        door.check()
    elif accounts is not None:
        raise ValueError("--accounts counts what each client uses, and with --insecure-plaintext nobody is known")
    with ExitStack() as scope:
        shown = None if metrics is None else metrics_at(metrics)
        if shown is not None:
            scope.callback(shown.close)
        model = load(run, how)
        records: list[Record] = []

        def reload() -> None:
            nonlocal model
            if door is not None:
                door.reload()
            if is_compiled(run):  # to compile one takes what is better not loaded beside sessions
                model = load(run, how)

        def serve_one(channel: Channel, tell: Tell) -> None:
            def on_step(done: Computed) -> None:
                record = Record.of_cost(done.cost, done.work, engine, model.notation, done.context)
                record = replace(record, extra={**record.extra, "prompts": len(done.steps)})
                tell({**_told(done), **({} if json is None else {"record": record.to_json()})})

            def on_declined(reason: str) -> None:
                tell({"declined": reason})

            if door is None or channel.peer is None:
                model.server.handle(channel, on_step, on_declined)
            else:
                model.server.handle(channel, on_step, on_declined, door.admit(channel.peer))

        def on_event(event: Event) -> None:
            log_event(event)
            if event.kind == "told" and "record" in event.what:
                records.append(Record.from_json(event.what["record"]))
            elif event.kind == "ended" and json is not None:
                try:
                    write_records(json, records)
                except (OSError, ValueError) as error:
                    events.error("%s cannot be written: %s", json, error)

        listener = scope.enter_context(Listener(host, port, security, timeout=stall))
        where = f"{host}:{listener.port}"
        about = {"event": "serving", "model": model.notation, "folder": str(run), "address": where}
        events.info("serving %s from %s at %s", model.notation, run, where, extra={"about": about})
        for note in model.notes:
            events.info("%s", note)
        if shown is not None:
            events.info("metrics at port %d", shown.port, extra={"about": {"event": "metrics", "port": shown.port}})
        log_event = EventLog()
        supervisor = Supervisor(
            listener,
            serve_one,
            stop=lambda how: model.server.stop(how),
            limits=limits,
            on_event=on_event,
            reload=reload,
            metrics=shown,
            doorkeeper=door,
        )
        supervisor.run(once=once, wait=wait)
        if not once:
            events.info("stopped", extra={"about": {"event": "stopped"}})


def threads_of(sessions: int) -> int:
    """For each session's kernels, where all places may be taken: what the cores that this process may use allow."""
    affinity = getattr(os, "sched_getaffinity", None)  # not everywhere
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(max(1, cores // sessions), native.MAX_THREADS)


def metrics_at(where: str) -> ServerMetrics:
    """[HOST:]PORT. Before the model is read, so that the process that shows them is small."""
    host, _, port = where.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"--metrics {where}: give PORT, or HOST:PORT")
    if find_spec("prometheus_client") is None:
        raise ValueError("--metrics needs a package: pip install 'aero-private-inference[server]'")
    return ServerMetrics(host.strip("[]") or "127.0.0.1", int(port))


def _read(step: Span) -> str:
    tokens = "token" if step.length == 1 else f"{step.length} tokens"
    return f"{tokens} after {step.past}" if step.work == "next-token" else tokens


def _told(done: Computed) -> dict[str, Any]:
    """Of a step, for the log and for metrics: counts and times."""
    each = [_read(step) for step in done.steps]
    operations: dict[str, Counter[str]] = {
        f"operation_{what}": Counter() for what in ("seconds", "waiting_seconds", "bytes_received", "bytes_sent")
    }
    for row in done.report:
        counts = row.seconds, row.waiting_seconds, row.bytes_client_to_server, row.bytes_server_to_client
        for counter, count in zip(operations.values(), counts, strict=True):
            counter[row.op] += count  # type: ignore[assignment]
    return {
        "line": f"{done.work}: {', '.join(each)}  {done.cost.seconds:.2f} s",
        "work": done.work,
        "seconds": done.cost.seconds,
        "tokens": sum(step.length for step in done.steps),
        "operations": operations,
        "totals": {"set_up_seconds": done.set_up_seconds, **done.tallies},
    }
