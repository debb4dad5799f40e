"""`aero generate`: continue a prompt, privately with a server or in plaintext from a run."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from aero.bench.record import Record, write_json
from aero.cli.security import IDLE_SECONDS, KEYS_HELP, PLAINTEXT_HELP, security_of
from aero.engines.engine import Party
from aero.serve.client import Client, check_length
from aero.wire.tcp import InsecurePlaintext, Security, connect


def generate(
    run: Annotated[
        Path | None, typer.Argument(help="Run folder, to generate in plaintext.", show_default=False)
    ] = None,
    private: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Server to generate with, privately.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="Text to continue; - reads standard input.")] = "def main():\n",
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", "-n", help="Tokens to generate.", min=1)] = 8,
    keys: Annotated[Path | None, typer.Option(help=KEYS_HELP, show_default=False)] = None,
    insecure_plaintext: Annotated[bool, typer.Option("--insecure-plaintext", help=PLAINTEXT_HELP)] = False,
    json: Annotated[Path | None, typer.Option(help="Write prompt, ids, text and a record of each token.")] = None,
) -> None:
    """Continue a prompt greedily, from a run in plaintext, or with --private without showing the server any text."""
    if (run is None) == (private is None):
        raise ValueError("give either a run folder, or --private HOST:PORT")
    text = sys.stdin.read() if prompt == "-" else prompt
    if private is not None:
        result = _private(private, text, max_new_tokens, security_of(keys, Party.CLIENT, insecure_plaintext))
    else:
        assert run is not None
        result = _plaintext(run, text, max_new_tokens)
    if json is not None:
        write_json(json, result)


def _private(address: str, text: str, max_new_tokens: int, security: Security) -> dict[str, object]:
    from aero.engines.connect import connect_engine

    host, port = parse_address(address)
    console, new = Console(stderr=True, highlight=False), []
    with connect(host, port, security, timeout=IDLE_SECONDS) as channel:
        plaintext = isinstance(security, InsecurePlaintext)
        with Client(
            channel, lambda name, c: connect_engine(name, Party.CLIENT, c, insecure_plaintext=plaintext)
        ) as client:
            ids = client.tokenizer.encode(text)
            check_length(len(ids), max_new_tokens, client.offer.context)
            console.print(f"{client.offer.notation} by {client.offer.engine}; {len(ids)} prompt tokens", style="dim")
            records = [Record.of_cost(client.set_up_cost, "set-up", client.offer.engine, client.offer.notation, None)]
            typer.echo(text, nl=False)
            for token in client.generate(ids, max_new_tokens):
                new.append(token)
                typer.echo(client.tokenizer.decode([token.id]), nl=False)
                sys.stdout.flush()
                length = len(ids) + len(new) - 1
                records.append(
                    Record.of_cost(token.cost, "next-token", client.offer.engine, client.offer.notation, length)
                )
            typer.echo()
            for record in records:
                console.print(_cost_line(record), style="dim")
            decoded = client.tokenizer.decode([token.id for token in new])
    return {
        "prompt": text,
        "prompt_ids": ids,
        "new_ids": [token.id for token in new],
        "text": decoded,
        "logits": [np.round(token.logits, 6).tolist() for token in new],
        "records": [record.to_json() for record in records],
    }


def _plaintext(run: Path, text: str, max_new_tokens: int) -> dict[str, object]:
    import torch

    from aero.compiler.run import load_model
    from aero.data import tokenizer as tokenizers

    model, tokenizer = load_model(run), tokenizers.load(run)
    ids = tokenizer.encode(text)
    check_length(len(ids), max_new_tokens, model.config.context)
    typer.echo(text, nl=False)
    new: list[int] = []
    records: list[Record] = []
    notation = str(model.config.notation)
    while len(new) < max_new_tokens and tokenizer.end_of_text not in new:
        start = time.perf_counter()
        with torch.inference_mode():
            logits = model(torch.tensor([ids + new])).logits[0, -1, : tokenizer.vocab_size]
        token = int(logits.argmax())
        seconds = time.perf_counter() - start
        records.append(Record("next-token", "insecure-plaintext", notation, len(ids) + len(new), seconds))
        new.append(token)
        typer.echo(tokenizer.decode([token]), nl=False)
    typer.echo()
    return {
        "prompt": text,
        "prompt_ids": ids,
        "new_ids": new,
        "text": tokenizer.decode(new),
        "records": [record.to_json() for record in records],
    }


def _cost_line(record: Record) -> str:
    up, down = record.bytes_client_to_server, record.bytes_server_to_client
    traffic = "" if up is None or down is None else f"  {up / 1e6:.2f} MB up  {down / 1e6:.2f} MB down"
    what = f"{record.context} tokens" if record.context else record.work
    return f"{what}  {record.seconds:.2f} s{traffic}"


def parse_address(address: str) -> tuple[str, int]:
    """HOST:PORT, with brackets around an IPv6 host. ValueError otherwise."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not HOST:PORT, for example 127.0.0.1:7700")
    return host.strip("[]"), int(port)
