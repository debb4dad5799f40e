"""`aero data`: build a data folder from text."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from aero.cli.options import Records


def data(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="stdlib (this Python's standard library, the default), installed (it, and packages beside it, split "
            "by package), a file (text, or JSON lines by its suffix; .gz too) or a folder. Repeatable. Or one data set "
            "of Hugging Face, streamed: codeparrot, hf:NAME, hf:NAME:CONFIG, hf:FOLDER (Parquet, JSON lines)."
        ),
    ] = None,
    field: Annotated[
        str | None,
        typer.Option(help="Field of the texts in JSON lines or a data set; by default text, content or code."),
    ] = None,
    vocab: Annotated[int, typer.Option(help="Size of the vocabulary.")] = 4096,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Use this one instead of training one: a file, a folder, a name on the Hub."),
    ] = None,
    valid_fraction: Annotated[float, typer.Option(help="Share of the text kept for validation.")] = 0.05,
    max_megabytes: Annotated[float | None, typer.Option(help="Use at most so much text (MB: 10^6 bytes).")] = None,
    seed: Annotated[int, typer.Option(help="Decides the order and the split of the files.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing data folder.")] = False,
    json: Records = None,
) -> None:
    """Build a data folder: documents, a byte-level BPE tokenizer, token ids for training and validation.

    OUT gets tokenizer.json, train.bin, valid.bin and data.json. Files are deduplicated, generated tables dropped, and
    whole files go to training or to validation. A data set of Hugging Face is taken as it is, with its own validation
    texts if it has some; stopped on the way, the same command goes on where it was. --json adds to a record's usual
    keys: folder, skipped (files of folders that were not read, by the reason), and those of data.json.
    """
    from aero.data.build import build
    from aero.data.settings import DataSettings
    from aero.data.text_files import Skipped
    from aero.report.record import Record, write_records

    settings = DataSettings(
        sources=tuple(source or ("stdlib",)),
        vocab_size=vocab,
        tokenizer=tokenizer,
        valid_fraction=valid_fraction,
        max_megabytes=max_megabytes,
        seed=seed,
        field=field,
    )
    skipped = Skipped()
    started = time.perf_counter()
    columns = TextColumn("{task.description:24}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    console = Console()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading", total=None)

        def show(stage: str, done: int, total: int) -> None:
            progress.update(task, description=stage, completed=done, total=total or None)

        info = build(out, settings, force=force, on_progress=show, skipped=skipped).info
    for line in skipped.lines:
        console.print(line, style="yellow", soft_wrap=True, markup=False, highlight=False)
    seconds = time.perf_counter() - started
    for name, part in (("train", info.train), ("valid", info.valid)):
        console.print(f"{name}: {part.documents:,} documents, {part.bytes / 1e6:.1f} MB, {part.tokens:,} tokens")
    console.print(
        f"vocabulary {info.vocab_size}, {info.train.bytes / info.train.tokens:.2f} bytes per token, {seconds:.0f} s"
    )
    console.print(f"wrote {out}", soft_wrap=True, markup=False)
    if json is not None:
        extra = {"folder": str(out), "skipped": skipped.by_reason, **info.to_json()}
        write_records(json, [Record("data", "tokenizers", seconds=seconds, extra=extra)])
