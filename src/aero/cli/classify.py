"""`aero classify`: the classes of texts, privately with a server or in plaintext from a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from aero.cli.console import wide_console
from aero.cli.options import Keys, NoTls, Threads, Wait, json_option
from aero.cli.whole_texts import Outputs, Texts, outputs_of, security_for, shortened
from aero.kernels import native
from aero.report.record import write_json
from aero.wire import safe_text


def classify(
    given: Annotated[list[str], Texts],
    private: Annotated[
        str | None,
        typer.Option("--private", "--server", metavar="HOST:PORT", help="Server to classify with, privately."),
    ] = None,
    wait: Wait = None,
    keys: Keys = None,
    insecure_plaintext: NoTls = False,
    threads: Threads = None,
    json: Annotated[Path | None, json_option("Write the classes, and a record of each run.")] = None,
) -> None:
    """Say which class each text has: with a classifier that aero convert has imported, in plaintext, or with --private
    without showing the server any text or class. It learns how many tokens each has.

    --json writes an object: texts (of each: text, tokens, label; and logits, by label, of the classes that are
    revealed; where all are, probability), reveal, and records.
    """
    if threads is not None:
        native.set_threads(threads)
    found = outputs_of("classify", given, private, security_for(private, keys, insecure_plaintext, wait), wait)
    answers = [_answer(found, logits) for logits in found.values]
    table = Table()
    table.add_column("text", no_wrap=True)
    table.add_column("class")
    table.add_column("probability", justify="right")
    for text, answer in zip(found.texts, answers, strict=True):
        probability = f"{answer['probability']:.4f}" if "probability" in answer else "not revealed"
        table.add_row(safe_text(shortened(text)), safe_text(answer["label"]), probability)
    wide_console().print(table)
    if json is not None:
        write_json(json, found.to_json(answers))


def _answer(found: Outputs, logits: np.ndarray) -> dict[str, Any]:
    labels, best = found.task.labels, int(np.argmax(logits))
    answer: dict[str, Any] = {"label": labels[best]}
    if found.reveal.values:
        answer["logits"] = {labels[i]: float(logits[i]) for i in np.flatnonzero(np.isfinite(logits))}
    if found.reveal.k is None:
        answer["probability"] = float(1 / np.exp(logits - logits[best]).sum())
    return answer
