"""`aero demo`: the whole idea on real input, step by step, each step a command that you can run yourself."""

from __future__ import annotations

import json as json_format
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from aero.bench.record import Record, write_records
from aero.bench.report import Page
from aero.engines.connect import SPU, TWO_PARTY

BASELINE, AERO = "SM+LN+G", "SM+ScFuFFN"
PROMPT = "import os\n\n\ndef main():\n    "
_BATCH = 32
_PATIENCE = 120.0  # seconds for a server to load its model, and for a client to finish after its last token


@dataclass(frozen=True)
class Outcome:
    """What one model did, on one engine. records: one for each private token; perplexity: on the validation text."""

    notation: str
    perplexity: float
    plaintext_ids: list[int]
    private_ids: list[int]
    text: str
    set_up: Record
    records: list[Record]

    @property
    def same_tokens(self) -> bool:
        return self.plaintext_ids == self.private_ids

    def mean(self, field: str) -> float:
        """Mean of a record's field over the tokens."""
        return mean(record.to_json()[field] for record in self.records)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("runs/demo"),
    steps: Annotated[int, typer.Option(help="Training steps for each model.", min=1)] = 600,
    size: Annotated[str, typer.Option(help="Size of both models.")] = "demo",
    vocab: Annotated[int, typer.Option(help="Vocabulary of the tokenizer.")] = 2048,
    max_megabytes: Annotated[float, typer.Option(help="Use at most so much text (MB: 10^6 bytes).")] = 12.0,
    tokens: Annotated[int, typer.Option(help="Tokens to generate privately with each model.", min=1)] = 4,
    spu: Annotated[
        bool, typer.Option("--spu", help="Beside it, the same on SecretFlow SPU (the extra `spu`).")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Write the records here as well.")] = None,
) -> None:
    """Text, a tokenizer, two small models trained from scratch, and private tokens from two processes.

    Writes OUT/results.json (records: one for each private token and set-up), OUT/report.html, OUT/entropy.png, and the
    data and run folders. Beyond a record's usual keys: messages, perplexity, same_token (as the plaintext model's).
    """
    from aero.cli.data import data
    from aero.cli.entropy import entropy
    from aero.cli.train import train

    console, started = Console(highlight=False), time.perf_counter()
    _claim(out)
    runs = {notation: out / notation for notation in (BASELINE, AERO)}

    _announce(
        console,
        "A corpus from Python's own standard library",
        f"aero data {out}/data --vocab {vocab} --max-megabytes {max_megabytes:g}",
    )
    data(out / "data", vocab=vocab, max_megabytes=max_megabytes)
    for notation, run in runs.items():
        options = f"--notation {notation} --size {size} --steps {steps} --batch-size {_BATCH}"
        command = f"aero train {run} --data {out}/data {options}"
        _announce(console, f"Train {notation} from scratch, on the same tokens", command)
        train(run, out / "data", notation, size, steps=steps, batch_size=_BATCH)
    _announce(console, "Attention entropy of every head", f"aero entropy {' '.join(map(str, runs.values()))}")
    entropy(list(runs.values()), out=out / "entropy.png", json=out / "entropy.json")

    _announce(console, "Keys with which server and client know each other", f"aero keys {out}/keys")
    keys = out / "keys"
    _aero("keys", str(keys))
    engines = (TWO_PARTY, SPU) if spu else (TWO_PARTY,)
    by_engine = [[_generate(console, n, run, keys, tokens, engine) for n, run in runs.items()] for engine in engines]
    outcomes = [outcome for several in by_engine for outcome in several]

    seconds = time.perf_counter() - started
    for several in by_engine:
        console.print(_table(several))
    records = [record for outcome in outcomes for record in (outcome.set_up, *outcome.records)]
    write_records(out / "results.json", records)
    if json is not None:
        write_records(json, records)
    _report(by_engine, out, seconds)
    console.print(f"{seconds:.0f} s in all; wrote {out}/results.json, entropy.png, report.html", soft_wrap=True)
    if not all(outcome.same_tokens for outcome in outcomes):
        raise ValueError("a private token differs from the plaintext model's; see max_abs_error in results.json")


def _claim(out: Path) -> None:
    """An empty folder for the demo; an earlier demo's is replaced, anything else is left alone."""
    marker = out / ".aero-demo"
    if out.exists() and any(out.iterdir()) and not marker.exists():
        raise ValueError(f"{out} exists and is not a demo's folder; give another one with --out")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    marker.touch()


def _announce(console: Console, what: str, command: str) -> None:
    console.print(f"\n[bold]{what}[/bold]\n[dim]$ {command}[/dim]", soft_wrap=True)


def _generate(console: Console, notation: str, run: Path, keys: Path, tokens: int, engine: str) -> Outcome:
    """Start a server process and a client process, and compare what the client gets with the plaintext model."""
    from aero.compiler.run import load_model
    from aero.compiler.verify import model_logits
    from aero.train.run_folder import RunInfo

    result_file = run / "private.json"
    with _server(run, keys, engine) as address:
        options = f"--private {address} --keys {keys} --prompt {shlex.quote(PROMPT)} -n {tokens}"
        _announce(
            console,
            f"{notation}: a server holds the weights, a client holds the prompt",
            f"aero serve {run} --keys {keys} --engine {engine} &   aero generate {options}",
        )
        _aero("generate", *shlex.split(options), "--json", str(result_file), visible=True)
    result: dict[str, Any] = json_format.loads(result_file.read_text())

    model, ids = load_model(run), list(result["prompt_ids"])
    perplexity = float((RunInfo.read(run).result or {})["perplexity"])
    set_up, *private = (Record.from_json(item) for item in result["records"])
    plaintext_ids, records = [], []
    for record, token, logits in zip(private, result["new_ids"], result["logits"], strict=True):
        expected = model_logits(model, np.array([ids]))[0]
        plaintext_ids.append(int(expected.argmax()))
        records.append(
            replace(
                record,
                max_abs_error=float(np.abs(np.array(logits) - expected).max()),
                extra={**record.extra, "perplexity": perplexity, "same_token": plaintext_ids[-1] == token},
            )
        )
        ids.append(token)
    outcome = Outcome(notation, perplexity, plaintext_ids, result["new_ids"], result["text"], set_up, records)
    verdict = "[green]the same[/green]" if outcome.same_tokens else "[red]not the same[/red]"
    console.print(f"the plaintext model's tokens are {verdict}: {outcome.private_ids} and {outcome.plaintext_ids}")
    return outcome


@contextmanager
def _server(run: Path, keys: Path, engine: str) -> Iterator[str]:
    """A server process that serves one client; gives its address. It never outlives the block."""
    command = [sys.executable, "-m", "aero.cli.main", "serve", str(run), "--keys", str(keys), "--port", "0"]
    command += ["--engine", engine]
    process = subprocess.Popen(
        [*command, "--once", "--wait", str(_PATIENCE)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        line = process.stdout.readline()
        match = re.search(r" at (\S+:\d+)$", line.strip())
        if match is None:
            raise ConnectionError(f"the server did not start: {(line + process.stderr.read()).strip()}")
        yield match[1]
        process.wait(_PATIENCE)
    finally:
        process.kill()
        process.communicate()


def _aero(verb: str, *arguments: str, visible: bool = False) -> None:
    """Run a verb in a process of its own; ConnectionError with its message where it fails."""
    command = [sys.executable, "-m", "aero.cli.main", verb, *arguments]
    done = subprocess.run(command, stdout=None if visible else subprocess.DEVNULL, stderr=None, check=False)
    if done.returncode:
        raise ConnectionError(f"`aero {verb}` failed (exit code {done.returncode}); its message is above")


def _header(outcomes: list[Outcome]) -> tuple[str, ...]:
    return ("of each private token, the mean", *(o.notation for o in outcomes), "savings")


def _rows(outcomes: list[Outcome]) -> list[tuple[str, ...]]:
    """One row for each quantity: its name, its value for each model, and how many times less the last one needs."""
    rows: list[tuple[str, ...]] = [("validation perplexity", *(f"{o.perplexity:.1f}" for o in outcomes), "")]
    for name, field, unit, digits in (
        ("seconds", "seconds", 1, 2),
        ("MB from client to server", "bytes_client_to_server", 1e6, 1),
        ("MB from server to client", "bytes_server_to_client", 1e6, 1),
        ("messages", "messages", 1, 0),
        ("rounds", "rounds", 1, 0),
    ):
        if outcomes[0].records[0].to_json()[field] is None:
            continue  # SPU counts no rounds
        values = [o.mean(field) / unit for o in outcomes]
        rows.append((name, *(f"{value:.{digits}f}" for value in values), f"{values[0] / values[-1]:.1f}x"))
    errors = (max(r.max_abs_error or 0.0 for r in o.records) for o in outcomes)
    rows.append(("largest error of a logit", *(f"{error:.4f}" for error in errors), ""))
    rows.append(("same tokens as in plaintext", *("yes" if o.same_tokens else "NO" for o in outcomes), ""))
    return rows


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(title=f"Private inference between two processes, by {outcomes[0].records[0].engine}")
    for index, name in enumerate(_header(outcomes)):
        table.add_column(name, justify="right" if index else "left")
    for row in _rows(outcomes):
        table.add_row(*row)
    return table


def _report(by_engine: list[list[Outcome]], out: Path, seconds: float) -> None:
    page = Page("AERO: private inference of two small language models")
    page.text(
        "A server process held the weights, a client process held the prompt. The client learnt the logits of the last "
        "position; the server learnt the length of the prompt. Figures are means of one generated token; MB are 10^6 "
        "bytes. Set-up, once for a session, is not in them."
    )
    for outcomes in by_engine:
        if len(by_engine) > 1:
            page.heading(outcomes[0].records[0].engine)
        page.table(_header(outcomes), _rows(outcomes))
    page.heading("What was generated")
    for o in by_engine[0]:
        page.text(f"{o.notation}, set-up {o.set_up.seconds:.1f} s")
        page.code(PROMPT + o.text)
    page.heading("Entropy of each attention head")
    page.png(out / "entropy.png", "heat maps of head entropy, layers by heads, one for each model")
    page.heading("Where")
    record = by_engine[0][0].records[0]
    page.text(f"{record.machine}; aero {record.version}; the whole demo took {seconds:.0f} s.")
    page.write(out / "report.html")
