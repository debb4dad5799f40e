"""`aero proxy`: an OpenAI-compatible endpoint on this machine, which speaks privately with a server."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aero.cli.options import Guess, Keys, NoTls, PadTo, Reconnect, Records, Steady, Threads
from aero.cli.private import parse_address, private_session
from aero.cli.security import security_of
from aero.data.chat_template import MAX_BYTES, ChatTemplate
from aero.files.reading import read_text
from aero.kernels import native
from aero.mpc.party import Role
from aero.report.record import Record, write_records
from aero.report.session import record_of_run
from aero.serve.client import Client
from aero.serve.reconnecting import RECONNECTIONS
from aero.wire import safe_text

_WAIT = 30.0  # seconds in the queue of a busy server, before programs are told to come again


def proxy(
    server: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Private server to ask.")],
    keys: Keys = None,
    port: Annotated[int, typer.Option(help="Port for programs on this machine.", min=1, max=65535)] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen at. Whoever reaches another than this machine's own reads your text.")
    ] = "127.0.0.1",
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the model for programs; its notation if not given.")
    ] = None,
    queue: Annotated[
        int, typer.Option(help="Requests that may wait for a place; more are told to come again.", min=1)
    ] = 64,
    template: Annotated[
        Path | None,
        typer.Option(help="Jinja template for chats, in place of the model's own.", exists=True, dir_okay=False),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="AERO_API_KEY", help="What programs have to present; better given in the environment."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="Web pages of this origin may ask, https://example.org. Repeatable.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name by which programs reach this endpoint. Repeatable.")
    ] = None,
    pad_to: PadTo = None,
    guess: Guess = 0,
    steady: Steady = False,
    reconnect: Reconnect = RECONNECTIONS,
    insecure_plaintext: NoTls = False,
    threads: Threads = None,
    json: Records = None,
) -> None:
    """Answer programs that speak the OpenAI API, with a model that never sees their text.

    It listens on this machine alone. The page at http://127.0.0.1:8000/ is a chat in the browser. Requests that come at
    the same time share one private session and its rounds. --json writes, at the end, a record of each run.
    """
    import uvicorn

    from aero.proxy.app import Endpoint
    from aero.proxy.batcher import Batcher
    from aero.proxy.guard import LOOPBACK, Guard
    from aero.serve.chat import Template

    parse_address(server)
    security = security_of(keys, Role.CLIENT, insecure_plaintext)
    if threads is not None:
        native.set_threads(threads)
    logging.getLogger("aero.proxy").setLevel(logging.WARNING)
    console = Console(highlight=False)
    named = [*(allow_host or []), *([] if host in ("0.0.0.0", "::") else [host])]
    guard = Guard(named, allow_origin or [], api_key)
    batcher = Batcher(
        lambda: private_session(server, security, lambda *_: None, pad_to, _WAIT, guess, steady), queue, reconnect
    )
    client = batcher.start()
    try:
        chats = Template(client.tokenizer, client.chat_template if template is None else _read(template, client))
        offer = client.offer
        records: list[Record] = []
        if json is not None:  # an endpoint may run for months: nothing is gathered that nobody asked for
            batcher.on_run.append(lambda run: records.append(record_of_run(run, offer.engine, offer.notation)))
        endpoint = Endpoint(batcher, client.tokenizer, name or offer.notation, chats, guard)
        if host not in LOOPBACK:
            console.print(
                f"[yellow]warning:[/yellow] {host} is reached from other machines: the text of those who ask crosses "
                "that network in the clear, and whoever reaches it may ask"
                + ("" if api_key else "; give --api-key at least"),
                soft_wrap=True,
            )
        where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        console.print(
            f"{safe_text(offer.notation)} at {safe_text(server)}, {offer.context} tokens of context; "
            f"you will learn {offer.revealed.described} of each output",
            style="dim", soft_wrap=True,
        )  # fmt: skip
        console.print(f"programs: {where}/v1    page: {where}/    (Ctrl-C ends)", soft_wrap=True)
        config = uvicorn.Config(
            endpoint.app(), host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=5,
            server_header=False,
        )  # fmt: skip
        served = uvicorn.Server(config)
        with suppress(KeyboardInterrupt):  # how it is ended: uvicorn has closed everything by then
            served.run()
        if not served.started:
            raise ValueError(f"{host}:{port} cannot be listened at; choose another --port")
        if json is not None:
            write_records(json, records)
    finally:
        batcher.close()


def _read(path: Path, client: Client) -> ChatTemplate:
    """A template of the user's, which may name the tokens that the model's own may name."""
    tokens = {} if client.chat_template is None else client.chat_template.tokens
    return ChatTemplate(read_text(path, limit=MAX_BYTES), tokens)
