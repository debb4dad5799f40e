"""What an encoder makes of whole texts, privately with a server or in plaintext from a run: `embed` and `classify`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import typer

from aero.cli import streams
from aero.cli.live_text import LiveText
from aero.cli.private import cost_line, parse_address, private_session
from aero.engines.reveal import LOGITS, Reveal
from aero.graph.task import Kind, Task
from aero.report.record import Record
from aero.serve.client import Client, PrivateRun
from aero.wire.tcp import Security


@dataclass
class Outputs:
    """task: of the model. texts: as given. tokens: how many the model read of each. values: float64 [texts, outputs],
    minus infinity where a server did not reveal them. reveal: what it did."""

    task: Task
    texts: list[str]
    tokens: list[int]
    values: np.ndarray
    reveal: Reveal = LOGITS
    records: list[Record] = field(default_factory=list)

    def to_json(self, answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What `--json` writes; answers: of each text."""
        texts = [
            {"text": text, "tokens": tokens, **answer}
            for text, tokens, answer in zip(self.texts, self.tokens, answers, strict=True)
        ]
        return {"texts": texts, "reveal": str(self.reveal), "records": [record.to_json() for record in self.records]}


def outputs_of(
    kind: Kind, given: Sequence[str], private: str | None, security: Security | None, wait: float | None
) -> Outputs:
    """given: texts, after the folder of a run or a compiled model where there is no server at `private`; "-" is a text
    on each line of standard input. ValueError for a model of another kind, and for no text."""
    folder, texts = (None, list(given)) if private is not None else (given[0] if given else None, list(given[1:]))
    if private is None and folder is None:
        raise ValueError(f"give a folder and texts, or texts with --private HOST:PORT: aero {kind} RUN TEXT ...")
    if texts == ["-"]:
        texts = [line for line in streams.read_all().splitlines() if line.strip()]
    if not texts:
        raise ValueError(f"there is no text to {kind}; give one or several")
    if private is None:
        assert folder is not None
        return _plaintext(kind, Path(folder), texts)
    assert security is not None
    parse_address(private)
    with LiveText() as live, private_session(private, security, live.progress, wait=wait) as client:
        found = _private(kind, client, texts, live)
        for record in found.records:
            live.note(cost_line(record))
        return found


def _plaintext(kind: Kind, folder: Path, texts: list[str]) -> Outputs:
    """By the graph, in float64."""
    from aero.cli.encoders import text_ids
    from aero.compiler.run import load_encoder_or_compiled
    from aero.data import tokenizer
    from aero.graph import interpret

    model = load_encoder_or_compiled(folder)
    model.task.need(kind)
    tokens = tokenizer.load(folder)
    ids = [text_ids(tokens, text, model.context) for text in texts]
    values, records = [], []
    for read in ids:
        start = time.perf_counter()
        values.append(interpret(model.program(len(read)), read)[0])
        seconds = time.perf_counter() - start
        records.append(Record(kind, "insecure-plaintext", model.notation, len(read), seconds))
    return Outputs(model.task, texts, [len(read) for read in ids], np.array(values), records=records)


def _private(kind: Kind, client: Client, texts: list[str], live: LiveText) -> Outputs:
    offer = client.offer
    offer.task.need(kind)
    ids = [client.tokenizer.encode_text(text) for text in texts]
    lengths = [len(read) for read in ids]
    live.note(
        f"{', '.join(map(str, lengths))} tokens, which the server learns; {offer.notation} by {offer.engine}; you will "
        f"learn {learnt(offer.task, offer.revealed)}"
    )
    values, runs = np.zeros((len(ids), offer.outputs)), dict[int, tuple[PrivateRun, list[int]]]()
    for place, output, run in client.outputs(ids):
        values[place] = output
        runs.setdefault(run.index, (run, []))[1].append(lengths[place])
    records = []
    for run, read in runs.values():
        record = Record.of_cost(run.cost, kind, offer.engine, offer.notation, sum(read))
        record.extra["texts"] = len(read)
        records.append(record)
    first = next(iter(runs.values()))[0]
    set_up = Record.of_cost(first.set_up, "set-up", offer.engine, offer.notation, None)
    return Outputs(offer.task, texts, lengths, values, offer.revealed, [set_up, *records])


def learnt(task: Task, reveal: Reveal) -> str:
    """What a client learns."""
    if task.kind == "generate":
        return f"{reveal.described} of each output"
    if task.kind == "embed":
        return "the embedding of each text"
    if reveal.k is None:
        return "the logits of all classes for each text"
    return (
        f"the {reveal.k} largest logits of each text, and their classes"
        if reveal.values
        else "the most likely class of each text alone"
    )


def shortened(text: str, width: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 3] + "..."


def security_for(
    private: str | None, keys: Path | None, insecure_plaintext: bool, wait: float | None
) -> Security | None:
    """ValueError for options of a session without one."""
    from aero.cli.security import security_of
    from aero.mpc.party import Role

    if private is not None:
        return security_of(keys, Role.CLIENT, insecure_plaintext)
    if keys is not None or insecure_plaintext or wait is not None:
        raise ValueError("--keys, --insecure-plaintext and --wait are for a server; give --private HOST:PORT with them")
    return None


Texts = typer.Argument(
    help="Folder of a run or a compiled model, and texts; with --private, texts alone. - reads lines."
)
