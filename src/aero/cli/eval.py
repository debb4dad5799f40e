"""`aero eval`: the perplexity of a trained model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from aero.cli.options import Records, RunFolder


def eval_(
    run: RunFolder,
    data: Annotated[Path | None, typer.Option(help="Data folder; by default the one it was trained on.")] = None,
    text: Annotated[
        str | None,
        typer.Option(help="Any text instead: stdlib, a file or folder, hf:NAME, codeparrot."),
    ] = None,
    blocks: Annotated[
        int | None, typer.Option(help="Measure on the first so many blocks; by default all.", min=1)
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(help="Tokens from one block to the next; by default the context.", min=1),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Also a task of lm-evaluation-harness. Repeatable."),
    ] = None,
    task_folder: Annotated[
        Path | None, typer.Option(help="Folder of the harness's YAML files of tasks of your own.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Examples of each task; by default all.")] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="Compute privately, too, in a session with a server process: two-party, or spu-cheetah.",
        ),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="With --engine: tokens to predict, 32 if not given.", min=1)
    ] = None,
    prefill: Annotated[
        int | None,
        typer.Option(
            help="With --engine: tokens of a text that are read at once before the first prediction; by default half "
            "the context.",
            min=1,
        ),
    ] = None,
    reveal: Annotated[
        str | None,
        typer.Option(
            help="With --engine: what the client learns of each output; perplexity needs logits, the default.",
            metavar="logits|top-k:K|token",
        ),
    ] = None,
    json: Records = None,
) -> None:
    """Measure a run's perplexity and bits per byte on the validation text of a data folder, or any text, in float32.

    Perplexity is the exponential of the mean loss over tokens, each predicted once; a stride below the context gives
    every token at least context - stride tokens of context. --json adds to a record's usual keys: folder, data, loss
    (nats per token), perplexity, bits_per_byte, tokens (predicted), blocks, stride, tasks (the harness's metrics).

    With --engine, some tokens are predicted by the model in float64, by the fixed-point reference (insecure-plain) and
    privately: a client reads the text token by token in a session with a server process over TLS on this machine.
    --json then has also: reveal, prefill, model_perplexity, plain_perplexity, plain_max_abs_error,
    max_difference_from_plain, same_tokens_as_model, same_tokens_as_plain (greedy), different_tokens; and after it the
    records of set-up and of each step.
    """
    from aero.cli.private_eval import evaluate_privately
    from aero.data.text_files import Skipped
    from aero.report.record import Record, write_records
    from aero.train.evaluate import evaluate_run, evaluate_run_on_text

    if data is not None and text is not None:
        raise ValueError("give --data or --text, not both")
    if engine is not None:
        if blocks or stride or task or task_folder or limit:
            raise ValueError("--blocks, --stride and --task are for plaintext; say with --tokens how much to predict")
        evaluate_privately(
            run, data, text, engine=engine, reveal=reveal or "logits", tokens=tokens or 32, prefill=prefill, json=json
        )
        return
    if tokens or prefill or reveal:
        raise ValueError("--tokens, --prefill and --reveal are for a private session; name its --engine")
    console = Console(highlight=False)
    started, skipped = time.perf_counter(), Skipped()
    with Progress(console=console, transient=True) as bar:
        bar_id = bar.add_task("evaluating", total=None)

        def show(done: int, total: int) -> None:
            bar.update(bar_id, completed=done, total=total)

        if text is not None:
            info, result = evaluate_run_on_text(run, text, blocks, stride, on_progress=show, skipped=skipped)
            where = text
        else:
            info, folder, result = evaluate_run(run, data, blocks, stride, on_progress=show)
            where = str(folder.path)
    for line in skipped.lines:
        console.print(line, style="yellow", soft_wrap=True, markup=False)
    console.print(
        f"{info.notation}: perplexity {result.perplexity:.2f}, loss {result.loss:.4f}, "
        f"{result.bits_per_byte:.3f} bits per byte, on {result.tokens:,} tokens of {where}",
        soft_wrap=True,
        markup=False,
    )
    found: dict[str, dict[str, float]] = {}
    if task:
        from aero.train.harness import run_tasks

        with console.status("lm-evaluation-harness"):
            found = run_tasks(run, task, task_folder, limit)
        for name, metrics in found.items():
            values = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items())
            console.print(f"{name}: {values}", soft_wrap=True, markup=False)
    seconds = time.perf_counter() - started
    if json is not None:
        extra = {"folder": str(run), "data": where, **result.to_json(), "tasks": found}
        context = extra.pop("context")
        write_records(json, [Record("eval", "torch", info.notation, context, seconds=seconds, extra=extra)])
