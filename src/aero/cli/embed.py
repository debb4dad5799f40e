"""`aero embed`: texts as vectors, privately with a server or in plaintext from a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from aero.cli.console import wide_console
from aero.cli.options import Keys, NoTls, Threads, Wait, json_option
from aero.cli.whole_texts import Texts, outputs_of, security_for, shortened
from aero.kernels import native
from aero.report.record import write_json
from aero.wire import safe_text


def embed(
    given: Annotated[list[str], Texts],
    private: Annotated[
        str | None, typer.Option("--private", "--server", metavar="HOST:PORT", help="Server to embed with, privately.")
    ] = None,
    wait: Wait = None,
    keys: Keys = None,
    insecure_plaintext: NoTls = False,
    threads: Threads = None,
    json: Annotated[Path | None, json_option("Write the embeddings, and a record of each run.")] = None,
) -> None:
    """Make a vector of each text: with an encoder that aero convert has imported, in plaintext, or with --private
    without showing the server any text. It learns how many tokens each has.

    Shows how similar the texts are: the cosine of their vectors. --json writes an object: texts (of each: text, tokens,
    embedding, at length one where the model is made for that), reveal, and records.
    """
    if threads is not None:
        native.set_threads(threads)
    found = outputs_of("embed", given, private, security_for(private, keys, insecure_plaintext, wait), wait)
    lengths = np.linalg.norm(found.values, axis=1, keepdims=True)
    directions = found.values / np.maximum(lengths, np.finfo(np.float64).tiny)
    vectors = directions if found.task.normalize else found.values
    console = wide_console()
    console.print(_table(found.texts, directions, vectors.shape[1]))
    if json is not None:
        write_json(json, found.to_json([{"embedding": vector.tolist()} for vector in vectors]))


def _table(texts: list[str], directions: np.ndarray, size: int) -> Table:
    table = Table(title=f"embeddings of {size} numbers: cosine with text ...", title_justify="left")
    table.add_column("", justify="right")
    table.add_column("text", no_wrap=True)
    for number in range(1, len(texts) + 1):
        table.add_column(str(number), justify="right")
    for number, (text, row) in enumerate(zip(texts, directions @ directions.T, strict=True), 1):
        table.add_row(str(number), safe_text(shortened(text)), *(f"{value:.4f}" for value in row))
    return table
