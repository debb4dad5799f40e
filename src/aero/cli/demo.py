"""`aero demo`: the whole idea on real input, step by step, each step a command that you can run yourself."""

from __future__ import annotations

import json as json_format
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aero.cli.options import json_option
from aero.cli.server_process import server_process
from aero.engines.connect import SPU, TWO_PARTY
from aero.files.atomic import set_aside
from aero.files.reading import present
from aero.report.page import Page
from aero.report.record import Record, read_records, write_records
from aero.report.session import SEEN_HEADER
from aero.wire.keys import make_keys

BASELINE, PAPERS, FROZEN = "SM+LN+G", "SM+ScFuFFN", "SM+FLN+ScFuFFN"
"""What usual decoders have; softmax alone, as the papers train it; softmax alone at inference, where LayerNorms were
there to learn with, and their statistics were frozen on the way, so that the compiler folds them away."""
PROMPTS = ("class Node:\n    def __init__(self", "    def __init__(self, name")
STEPS, SIZE, VOCABULARY, MEGABYTES, BATCH = 600, "demo", 2048, 12.0, 32
PREDICTED = 16
_MARKER = ".aero-demo"  # by which a folder is known as a demo's


@dataclass(frozen=True)
class Outcome:
    """What one model did on one engine.

    session: the JSON of its session page; prompts that are continued together share runs. expected_ids: the tokens of
    the model in plaintext, for each prompt. evaluation: of `aero eval --engine`; steps: of the session of that.
    """

    notation: str
    perplexity: float
    session: dict[str, Any]
    expected_ids: list[list[int]]
    evaluation: Record
    steps: list[Record]

    @property
    def engine(self) -> str:
        return str(self.session["engine"])

    @property
    def new_ids(self) -> list[list[int]]:
        return [[token["id"] for token in answer["tokens"]] for answer in self.session["answers"]]

    @property
    def same_tokens(self) -> bool:
        return self.new_ids == self.expected_ids

    @property
    def set_up(self) -> Record:
        return Record.from_json(self.session["set_up"])

    @property
    def runs(self) -> list[Record]:
        """One for each run of the session, which says whether all its tokens are the plaintext model's."""
        found: dict[int, Record] = {}
        for answer, expected in zip(self.session["answers"], self.expected_ids, strict=True):
            for token, id_ in zip(answer["tokens"], expected, strict=True):
                record = found.setdefault(token["run"], Record.from_json(token["record"]))
                same = token["id"] == id_ and record.extra.get("same_token", True)
                found[token["run"]] = replace(record, extra={**record.extra, "same_token": same})
        return [found[index] for index in sorted(found)]

    def records(self) -> list[Record]:
        """Of the set-up, of each run, of the evaluation and of each of its steps."""
        more = {"perplexity": self.perplexity, "reveal": self.session["reveal"]}
        runs = [replace(record, extra={**record.extra, **more}) for record in self.runs]
        return [self.set_up, *runs, self.evaluation, *self.steps]


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("runs/demo"),
    steps: Annotated[int, typer.Option(help="Training steps for each model.", min=1)] = STEPS,
    size: Annotated[str, typer.Option(help="Size of the models.")] = SIZE,
    vocab: Annotated[int, typer.Option(help="Vocabulary of the tokenizer.")] = VOCABULARY,
    max_megabytes: Annotated[float, typer.Option(help="Use at most so much text (MB: 10^6 bytes).")] = MEGABYTES,
    tokens: Annotated[int, typer.Option(help="Tokens to generate privately after each prompt.", min=1)] = 6,
    spu: Annotated[
        bool, typer.Option("--spu", help="Beside it, the same on SecretFlow SPU (the extra `spu`).")
    ] = False,
    web: Annotated[
        bool,
        typer.Option("--web", help="Server, endpoint and chat page on the trained model, which is trained if need be."),
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the page, with --web.", min=1, max=65535)] = 8000,
    json: Annotated[Path | None, json_option("Write the records here as well.")] = None,
) -> None:
    """Text, a tokenizer, three small models trained from scratch, and private tokens from two processes.

    With --web, a chat in the browser instead, until Ctrl-C; an earlier demo's model is used where there is one.
    Writes OUT/results.json, OUT/report.html, a page of each session, OUT/entropy.png, and the data and run folders. The
    records are of each set-up, each run of the session (one token of every prompt), and those of `aero eval --engine`.
    Beyond a record's usual keys: messages, perplexity (of all validation text), reveal, same_token (whether a run's
    tokens are the plaintext model's).
    """
    if out.exists() and any(out.iterdir()) and not (out / _MARKER).exists():
        raise ValueError(f"{out} exists and is not a demo's folder; give another one with --out")
    if web:
        _web(out, steps, size, vocab, max_megabytes, port)
        return
    with set_aside(out):  # an earlier demo, until this one is done
        out.mkdir(parents=True)
        (out / _MARKER).touch()
        same = _demo(out, steps, size, vocab, max_megabytes, tokens, spu, json)
    if not same:
        raise ValueError("a private token differs from the plaintext model's; see same_token in results.json")


def _demo(
    out: Path,
    steps: int,
    size: str,
    vocab: int,
    max_megabytes: float,
    tokens: int,
    spu: bool,
    json: Path | None,
) -> bool:
    """The demo in its empty folder; whether all private tokens are the plaintext models'."""
    from aero.cli.entropy import entropy

    console, started = Console(highlight=False), time.perf_counter()
    runs = {notation: out / notation for notation in (BASELINE, PAPERS, FROZEN)}

    _data(console, out, vocab, max_megabytes)
    for notation, run in runs.items():
        _train(console, run, notation, size, steps)
    _announce(console, "Attention entropy of every head", f"aero entropy {' '.join(map(str, runs.values()))}")
    entropy(list(runs.values()), out=out / "entropy.png", json=out / "entropy.json")

    _announce(console, "Keys with which server and client know each other", f"aero keys {out}/keys")
    _aero("keys", str(out / "keys"), quiet=True)
    by_engine = [
        [_private(console, run, out / "keys", tokens, engine) for run in runs.values()]
        for engine in ((TWO_PARTY, SPU) if spu else (TWO_PARTY,))
    ]
    _token_alone(console, runs[FROZEN], out / "keys", tokens, by_engine[0][-1])

    seconds = time.perf_counter() - started
    console.print()
    _show(console, f"What each party saw of the session of {FROZEN}", SEEN_HEADER, _seen(by_engine[0][-1]), left=3)
    for several in by_engine:
        title = f"Private inference between two processes, by {several[0].engine} (up: from client to server)"
        _show(console, title, _header(several), _rows(several))
    outcomes = [outcome for several in by_engine for outcome in several]
    records = [record for outcome in outcomes for record in outcome.records()]
    write_records(out / "results.json", records)
    if json is not None:
        write_records(json, records)
    _report(by_engine, out, seconds)
    console.print(f"{seconds:.0f} s in all; wrote {out}/results.json, entropy.png, report.html", soft_wrap=True)
    console.print(f"to chat with {FROZEN} in the browser: aero demo --web --out {out} (make demo-web)", soft_wrap=True)
    return all(outcome.same_tokens for outcome in outcomes)


def _data(console: Console, out: Path, vocab: int, max_megabytes: float) -> None:
    from aero.cli.data import data

    _announce(
        console,
        "A corpus from Python's own standard library",
        f"aero data {out}/data --vocab {vocab} --max-megabytes {max_megabytes:g}",
    )
    data(out / "data", vocab=vocab, max_megabytes=max_megabytes)


def _train(console: Console, run: Path, notation: str, size: str, steps: int) -> None:
    from aero.cli.train import train

    folder = run.parent / "data"
    options = f"--notation {notation} --size {size} --steps {steps} --batch-size {BATCH}"
    command = f"aero train {run} --data {folder} {options}"
    _announce(console, f"Train {notation} from scratch, on the same tokens", command)
    train(run, folder, notation, size, steps=steps, batch_size=BATCH, force=True)  # of what was interrupted


def _web(out: Path, steps: int, size: str, vocab: int, max_megabytes: float, port: int) -> None:
    """Server, endpoint and page, until Ctrl-C. What an earlier demo has made is used."""
    from aero.cli.proxy import proxy

    console, run = Console(highlight=False), out / FROZEN
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARKER).touch()
    if not present(out / "data" / "data.json"):
        _data(console, out, vocab, max_megabytes)
    if not present(run / "model.safetensors"):
        _train(console, run, FROZEN, size, steps)
    if not present(out / "keys"):
        make_keys(out / "keys")
    _announce(console, "A server process, which holds the weights", f"aero serve {run} --keys {out}/keys &")
    with server_process(run, out / "keys", once=False) as address:
        command = f"aero proxy {address} --keys {out}/keys --port {port}"
        _announce(console, "Beside you, what holds your text: open the page below", command)
        proxy(address, out / "keys", port)


def _announce(console: Console, what: str, command: str) -> None:
    console.print(f"\n[bold]{what}[/bold]\n[dim]$ {command}[/dim]", soft_wrap=True)


def _private(console: Console, run: Path, keys: Path, tokens: int, engine: str) -> Outcome:
    """A session of several prompts, and some predictions; both beside the model in plaintext."""
    from aero.compiler.run import load_model
    from aero.data import tokenizer
    from aero.report.perplexity import Text, by_model
    from aero.train.run_folder import RunInfo

    notation = run.name
    console.print(
        f"\n[bold]{notation}: a server process holds the weights, a client process the prompts[/bold]\n"
        "The server gets no text and no token, the client no weights; what passes between them is masked or encrypted.",
        soft_wrap=True,
    )
    page = run.parent / f"session-{notation}{'' if engine == TWO_PARTY else '-' + engine}.html"
    prompts = PROMPTS if engine == TWO_PARTY else PROMPTS[:1]  # SPU computes one at a time
    session = _session(console, run, keys, prompts, tokens, ("--engine", engine), page)
    model, vocabulary, expected = load_model(run), tokenizer.load(run).vocab_size, []
    for answer in session["answers"]:
        ids = [*answer["prompt_ids"], *(token["id"] for token in answer["tokens"])]
        text = Text(np.array(ids, dtype=np.int64), len(answer["prompt_ids"]))
        expected.append(by_model(model, [text], vocabulary).greedy.tolist())

    options = f"--engine {engine} --tokens {PREDICTED}"
    _announce(console, "Its perplexity, privately and in plaintext", f"aero eval {run} {options}")
    measured = page.with_name(page.name.replace("session-", "private-eval-")).with_suffix(".json")
    _aero("eval", str(run), *options.split(), "--json", str(measured))
    evaluation, *steps = read_records(measured)

    perplexity = float((RunInfo.read(run).result or {})["perplexity"])
    outcome = Outcome(notation, perplexity, session, expected, evaluation, steps)
    verdict = "[green]the same[/green]" if outcome.same_tokens else "[red]not the same[/red]"
    console.print(f"the plaintext model's tokens are {verdict} as the private ones: {outcome.new_ids}", soft_wrap=True)
    return outcome


def _token_alone(console: Console, run: Path, keys: Path, tokens: int, in_full: Outcome) -> None:
    """A session in which the client learns less, and what that comes to."""
    console.print(
        f"\n[bold]{run.name} once more, and the server reveals the most likely token alone[/bold]\n"
        "Of many rows of logits a client could work out the model's last matrix; of a token it learns a token.",
        soft_wrap=True,
    )
    page = run.parent / f"session-{run.name}-token.html"
    session = _session(console, run, keys, PROMPTS[:1], tokens, ("--reveal", "token"), page)
    ids = [token["id"] for token in session["answers"][0]["tokens"]]
    same = "[green]the same[/green]" if ids == in_full.new_ids[0] else "[red]not the same[/red]"
    learnt = {row["of"]: row["client"] for row in session["seen"]}["outputs"]
    console.print(f"the tokens are {same} as with all logits; the client learnt {learnt}", soft_wrap=True)


def _session(
    console: Console, run: Path, keys: Path, prompts: Sequence[str], tokens: int, serve: Sequence[str], page: Path
) -> dict[str, Any]:
    """A server process and a client process; gives the JSON of the session's page. serve: options of the server."""
    with server_process(run, keys, *serve) as address:
        given = [part for prompt in prompts for part in ("--prompt", prompt)]
        options = ["--private", address, "--keys", str(keys), *given, "-n", str(tokens), "--report", str(page)]
        console.print(
            f"[dim]$ {escape(shlex.join(['aero', 'serve', str(run), '--keys', str(keys), *serve]))} &\n"
            f"$ {escape(shlex.join(['aero', 'generate', *options]))}[/dim]",
            soft_wrap=True,
        )
        _aero("generate", *options)
    session: dict[str, Any] = json_format.loads(page.with_suffix(".json").read_text())
    return session


def _aero(verb: str, *arguments: str, quiet: bool = False) -> None:
    """Run a verb in a process of its own; ConnectionError with its message where it fails."""
    command = [sys.executable, "-m", "aero.cli.main", verb, *arguments]
    done = subprocess.run(command, stdout=subprocess.DEVNULL if quiet else None, check=False)
    if done.returncode:
        raise ConnectionError(f"`aero {verb}` failed (exit code {done.returncode}); its message is above")


def _seen(outcome: Outcome) -> list[tuple[str, ...]]:
    return [(row["of"], row["server"], row["client"]) for row in outcome.session["seen"]]


def _header(outcomes: list[Outcome]) -> tuple[str, ...]:
    return ("", *(o.notation for o in outcomes))


_FIGURES = (
    ("seconds", "seconds", 1, 2),
    ("MB up", "bytes_client_to_server", 1e6, 2),
    ("MB down", "bytes_server_to_client", 1e6, 2),
    ("rounds", "rounds", 1, 0),
)


def _mean(records: Sequence[Record], field: str) -> float | None:
    """Mean of a field over the next tokens; None where it is not known."""
    values = [record.to_json()[field] for record in records if record.work == "next-token"]
    return None if not values or None in values else mean(values)


def _rows(outcomes: list[Outcome]) -> list[tuple[str, ...]]:
    """One row for each quantity: its name, its value for each model, and how many times less than the first that is."""
    rows: list[tuple[str, ...]] = [("perplexity of the validation text", *(f"{o.perplexity:.1f}" for o in outcomes))]
    for name, key in ((f"of {PREDICTED} tokens of it", "model_perplexity"), ("of the same, privately", "perplexity")):
        rows.append((name, *(f"{o.evaluation.extra[key]:.2f}" for o in outcomes)))
    measured = [("a next token", [o.steps for o in outcomes])]
    together = len(outcomes[0].new_ids)
    if together > 1:
        measured.append((f"next tokens of {together} prompts at once", [o.runs for o in outcomes]))
    for what, records in measured:
        for name, field, unit, digits in _FIGURES:
            values = [_mean(several, field) for several in records]
            if None not in values:  # SPU counts no rounds
                found = [value / unit for value in values if value is not None]
                others = (f"{v:.{digits}f} ({found[0] / v:.1f}x less)" for v in found[1:])
                rows.append((f"{what}: {name}", f"{found[0]:.{digits}f}", *others))
    rows.append(("largest error of a logit", *(f"{o.evaluation.max_abs_error:.4f}" for o in outcomes)))
    rows.append(("same tokens as in plaintext", *("yes" if o.same_tokens else "NO" for o in outcomes)))
    return rows


def _show(console: Console, title: str, header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> None:
    """A table; columns from `left` on are figures."""
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index < left else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _report(by_engine: list[list[Outcome]], out: Path, seconds: float) -> None:
    page = Page("AERO: private inference of three small language models")
    page.text(
        "A server process held the weights, a client process held the prompts. Figures are means; MB are 10^6 bytes, "
        "up from client to server; a round is one message's delay. Set-up, once for a session, is not in them."
    )
    for outcomes in by_engine:
        if len(by_engine) > 1:
            page.heading(outcomes[0].engine)
        page.table(_header(outcomes), _rows(outcomes))
    page.heading(f"What each party saw of the session of {by_engine[0][-1].notation}")
    page.table(SEEN_HEADER, _seen(by_engine[0][-1]))
    page.heading("What was generated")
    for o in by_engine[0]:
        page.text(f"{o.notation}, set-up {o.set_up.seconds:.1f} s; more in session-{o.notation}.html")
        for answer in o.session["answers"]:
            page.code(answer["prompt"] + answer["text"])
    page.heading("Entropy of each attention head")
    page.png(out / "entropy.png", "heat maps of head entropy, layers by heads, one for each model")
    page.heading("Where")
    record = by_engine[0][0].set_up
    page.text(f"{record.machine}; aero {record.version}; the whole demo took {seconds:.0f} s.")
    page.write(out / "report.html")
