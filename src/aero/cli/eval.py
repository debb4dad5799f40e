"""`aero eval`: the perplexity of a trained model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress


def eval_(
    run: Annotated[Path, typer.Argument(help="Run folder of a trained model.", show_default=False)],
    data: Annotated[
        Path | None, typer.Option(help="Data folder; by default the one it was trained on.", show_default=False)
    ] = None,
    blocks: Annotated[
        int | None, typer.Option(help="Measure on the first so many blocks; by default all.", min=1, show_default=False)
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the result as a JSON list of one record.", show_default=False)
    ] = None,
) -> None:
    """Measure a run's perplexity and bits per byte on the validation text of a data folder, in float32.

    --json adds to a record's usual keys: folder, data, loss (nats per token), perplexity, bits_per_byte, tokens
    (predicted), blocks.
    """
    from transformers.utils.logging import disable_progress_bar

    from aero.bench.record import Record, write_records
    from aero.train.evaluate import evaluate_run

    disable_progress_bar()  # ours is enough
    console = Console(highlight=False)
    started = time.perf_counter()
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("evaluating", total=None)
        info, folder, result = evaluate_run(
            run, data, blocks, on_progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    seconds = time.perf_counter() - started
    console.print(
        f"{info.notation}: perplexity {result.perplexity:.2f}, loss {result.loss:.4f}, "
        f"{result.bits_per_byte:.3f} bits per byte, on {result.tokens:,} tokens of {folder.path}",
        soft_wrap=True,
        markup=False,
    )
    if json is not None:
        extra = {"folder": str(run), "data": str(folder.path), **result.to_json()}
        context = extra.pop("context")
        write_records(json, [Record("eval", "torch", info.notation, context, seconds=seconds, extra=extra)])
