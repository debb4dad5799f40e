"""`aero generate`: continue a prompt, privately with a server or in plaintext from a run."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aero.bench.record import Record, write_json
from aero.cli.live_text import LiveText
from aero.cli.private import cost_line, parse_address, private_session
from aero.cli.security import KEYS_HELP, PLAINTEXT_HELP, security_of
from aero.cli.step_table import by_op, step_table
from aero.engines.engine import Party
from aero.serve.client import Client, PrivateToken, check_length, check_sampling
from aero.serve.sampling import Sampler, Sampling
from aero.serve.text import TextStream

TEMPERATURE_HELP = "0 takes the most likely token; above, tokens are drawn, more evenly the higher it is."
TOP_K_HELP = "Draw among so many of the most likely tokens."
TOP_P_HELP = "Draw among the fewest tokens that have this probability together."
SEED_HELP = "The same seed draws the same tokens."
STOP_HELP = "End before this text. Repeatable."


def generate(
    run: Annotated[
        Path | None, typer.Argument(help="Run folder, to generate in plaintext.", show_default=False)
    ] = None,
    private: Annotated[
        str | None,
        typer.Option("--private", "--server", metavar="HOST:PORT", help="Server to generate with, privately."),
    ] = None,
    prompt: Annotated[str, typer.Option(help="Text to continue; - reads standard input.")] = "def main():\n",
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", "-n", help="Tokens to generate.", min=1)] = 8,
    temperature: Annotated[float, typer.Option(help=TEMPERATURE_HELP, min=0.0)] = 0.0,
    top_k: Annotated[int | None, typer.Option(help=TOP_K_HELP, min=1, show_default=False)] = None,
    top_p: Annotated[float | None, typer.Option(help=TOP_P_HELP, show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help=SEED_HELP, min=0, show_default=False)] = None,
    stop: Annotated[list[str] | None, typer.Option(help=STOP_HELP, show_default=False)] = None,
    keys: Annotated[Path | None, typer.Option(help=KEYS_HELP, show_default=False)] = None,
    insecure_plaintext: Annotated[bool, typer.Option("--insecure-plaintext", help=PLAINTEXT_HELP)] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Show what each operation of the last private token cost.")
    ] = False,
    json: Annotated[
        Path | None, typer.Option(help="Write prompt, ids, text and a record of each token.", show_default=False)
    ] = None,
) -> None:
    """Continue a prompt, from a run in plaintext, or with --private without showing the server any text."""
    if (run is None) == (private is None):
        raise ValueError("give either a run folder, or --private HOST:PORT")
    sampling = Sampling(temperature, top_k, top_p, seed)
    text = sys.stdin.read() if prompt == "-" else prompt
    if private is not None:
        parse_address(private)
        security = security_of(keys, Party.CLIENT, insecure_plaintext)
        with LiveText() as live, private_session(private, security, live.progress) as client:
            ids = client.tokenizer.encode(text)
            check_length(len(ids), max_new_tokens, client.offer.context)
            check_sampling(sampling, client.offer)
            offer = client.offer
            live.note(
                f"{len(ids)} prompt tokens; {offer.notation} by {offer.engine}; "
                f"you will learn {offer.revealed.described} of each output"
            )
            live.write(text)
            tokens = []
            for token in client.generate(ids, max_new_tokens, sampling=sampling, stop=stop or ()):
                tokens.append(token)
                live.write(token.text)
            live.end_line()
            records = records_of(client, tokens)
            for record in records:
                live.note(cost_line(record))
            if report:
                title = "the last token, by operation (MB = 10^6 bytes)"
                table = step_table(title, by_op(vars(step) for step in client.engine.report))
                Console(stderr=True, highlight=False).print(table)
            result = result_of(client, text, ids, tokens, records)
    else:
        assert run is not None
        result = _plaintext(run, text, max_new_tokens, sampling, stop or [])
    if json is not None:
        write_json(json, result)


def records_of(client: Client, tokens: list[PrivateToken]) -> list[Record]:
    """The set-up, then each token's step: the first is the prompt's."""
    engine, notation = client.offer.engine, client.offer.notation
    records = [Record.of_cost(client.engine.set_up_cost, "set-up", engine, notation, None)]
    for token in tokens:
        records.append(Record.of_cost(token.cost, token.step.work, engine, notation, token.step.context))
    return records


def result_of(
    client: Client, prompt: str, ids: list[int], tokens: list[PrivateToken], records: list[Record]
) -> dict[str, object]:
    """What `--json` writes: logits for each new token where all are revealed, else the ids and logits that are."""
    result: dict[str, object] = {
        "prompt": prompt,
        "prompt_ids": ids,
        "new_ids": [token.id for token in tokens],
        "text": "".join(token.text for token in tokens),
        "reveal": client.offer.reveal,
    }
    reveal = client.offer.revealed
    if reveal.k is None:
        result["logits"] = [token.logits.round(6).tolist() for token in tokens]
    elif reveal.values:
        result["revealed"] = [[[int(i), round(float(token.logits[i]), 6)] for i in token.revealed] for token in tokens]
    return {**result, "records": [record.to_json() for record in records]}


def _plaintext(run: Path, text: str, max_new_tokens: int, sampling: Sampling, stop: list[str]) -> dict[str, object]:
    import torch

    from aero.compiler.run import load_model
    from aero.data import tokenizer as tokenizers

    model, tokenizer = load_model(run), tokenizers.load(run)
    ids = tokenizer.encode(text)
    check_length(len(ids), max_new_tokens, model.config.context)
    typer.echo(text, nl=False)
    sampler, stream = Sampler(sampling), TextStream(tokenizer.decode, stop)
    new: list[int] = []
    records: list[Record] = []
    notation = str(model.config.notation)
    while len(new) < max_new_tokens and not stream.stopped and tokenizer.end_of_text not in new:
        start = time.perf_counter()
        with torch.inference_mode():
            logits = model(torch.tensor([ids + new])).logits[0, -1, : tokenizer.vocab_size]
        token = sampler.choose(logits.double().numpy())
        seconds = time.perf_counter() - start
        records.append(Record("next-token", "insecure-plaintext", notation, len(ids) + len(new), seconds))
        new.append(token)
        if token != tokenizer.end_of_text:
            typer.echo(stream.push(token), nl=False)
    typer.echo(stream.finish())
    return {
        "prompt": text,
        "prompt_ids": ids,
        "new_ids": new,
        "text": stream.text,
        "records": [record.to_json() for record in records],
    }
