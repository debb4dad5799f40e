"""`aero train`: train a model into a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from aero.cli.options import (
    BatchSize,
    FreezeOrders,
    LearningRate,
    Records,
    TeacherTemperature,
    TeacherWeight,
    TrainingSeed,
)

if TYPE_CHECKING:
    from aero.models.presets import Scale
    from aero.models.stabilize import Placement, Stabilizer
    from aero.train.callbacks import TrainingProgress
    from aero.train.freezing import FreezeOrder
    from aero.train.run_folder import RunInfo
    from aero.train.settings import Precision


def train(
    out: Annotated[Path, typer.Argument(help="Run folder to make.")],
    data: Annotated[Path | None, typer.Option(help="Data folder, from `aero data`.")] = None,
    notation: Annotated[
        str, typer.Option(help="Architecture, in the papers' names: SM+LN+G, SM+R, SM+ScFuFFN_i2, ...")
    ] = "SM+ScFuFFN",
    size: Annotated[
        str | None, typer.Option(help="Size of the model: demo, nano (by default), gpt2-small, ...")
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            help="Multipliers of embeddings and logits: width (muP's rule, for any size; by default), gpt2 (none)."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 1000,
    lr: LearningRate = 2e-3,
    base_width: Annotated[
        int | None,
        typer.Option(
            help="Width for which --lr was chosen: matrices of others learn by muP's rule. With --scale width: 64.",
            min=1,
        ),
    ] = None,
    base_depth: Annotated[
        int | None, typer.Option(help="The same for the number of layers. With --scale width: 2.", min=1)
    ] = None,
    batch_size: BatchSize = 16,
    accumulate: Annotated[int, typer.Option(help="Forward passes of that many blocks for one step.")] = 1,
    seed: TrainingSeed = 0,
    zatt: Annotated[
        float, typer.Option(help="Weight of the penalty that keeps attention's log-sum-exp in a window; 0: none.")
    ] = 0.0,
    zatt_bound: Annotated[float, typer.Option(help="The |log-sum-exp| that is free of that penalty, in nats.")] = 2.0,
    stabilizer: Annotated[
        str, typer.Option(help="Normalise linear layers while training: none, weight_norm, spectral_norm.")
    ] = "none",
    placement: Annotated[
        str, typer.Option(help="Layers that --stabilizer normalises: QK, FFN, QK+FFN, QKV+FFN, QKVO+FFN.")
    ] = "FFN",
    start_from: Annotated[
        Path | None, typer.Option(help="Begin with the weights of the model in this folder, at its size.")
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="Learn from the model of this run, too, which has the same tokenizer.")
    ] = None,
    teacher_weight: TeacherWeight = 0.9,
    teacher_temperature: TeacherTemperature = 2.0,
    freeze_order: FreezeOrders = "together",
    precision: Annotated[
        str, typer.Option(help="Number format of matrix products: auto, bf16, fp16, float32.")
    ] = "auto",
    save_every: Annotated[int, typer.Option(help="Steps from one state to resume from to the next.")] = 200,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the model (torch.compile).")] = False,
    fsdp: Annotated[bool, typer.Option("--fsdp", help="Shard the model over the processes of torchrun.")] = False,
    wandb: Annotated[str | None, typer.Option(help="Also log to this project of Weights & Biases.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in OUT; its own settings count, not those here.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing run.")] = False,
    json: Records = None,
) -> None:
    """Train a model from scratch, and measure its perplexity on the validation text.

    OUT gets the model (safetensors), tokenizer.json, run.json (settings and results), metrics.jsonl, measures.jsonl
    (head entropies, learnable scales), tensorboard/ and checkpoints/. A run that diverges is stopped, and
    divergence.json says which layer collapsed first. A stopped run goes on with --resume, to the very weights it would
    have had. With --force the old run stays until the new one has its first state to resume from. On N GPUs: torchrun
    --nproc-per-node N -m aero.cli.main train ... --json adds to a record's usual keys: folder, parameters, settings,
    data, and those of run.json's result.
    """
    from aero.data.folder import DataFolder
    from aero.models import AeroConfig
    from aero.models.start import config_for
    from aero.report.record import Record, write_records
    from aero.train.callbacks import TrainingInterrupted
    from aero.train.processes import is_main
    from aero.train.run import resume as go_on
    from aero.train.run import train as begin
    from aero.train.settings import TrainSettings
    from aero.train.teacher import as_teacher

    main_process = is_main()
    console = Console(highlight=False, quiet=not main_process)
    try:
        if resume:
            with _bar(console, f"resuming {out}") as show:
                info = go_on(out, on_progress=show)
        else:
            if data is None:
                raise ValueError("name the data folder: --data DIR (make one with `aero data DIR`)")
            if start_from is not None and (size, scale) != (None, None):
                raise ValueError(
                    f"size and scale are those of the model in {start_from}; leave --size and --scale away"
                )
            by_rule = start_from is None and scale != "gpt2"
            rates = TrainSettings().by_rule() if by_rule else TrainSettings()
            settings = TrainSettings(
                steps=steps,
                learning_rate=lr,
                base_width=base_width or rates.base_width,
                base_depth=base_depth or rates.base_depth,
                batch_size=batch_size,
                gradient_accumulation=accumulate,
                seed=seed,
                precision=cast("Precision", precision),
                save_every=save_every,
                compile=compile,
                fsdp=fsdp,
                wandb_project=wandb,
                zatt=zatt,
                zatt_bound=zatt_bound,
                stabilizer=cast("Stabilizer", stabilizer),
                stabilizer_placement=cast("Placement", placement),
                start_from=None if start_from is None else str(start_from.resolve()),
                teacher=None if teacher is None else as_teacher(teacher, teacher_weight, teacher_temperature),
                freeze_order=cast("FreezeOrder", freeze_order),
            )
            folder = DataFolder(data)
            if start_from is None:
                config = AeroConfig.from_notation(
                    notation, size or "nano", scale=cast("Scale", scale or "width"), vocab_size=folder.info.vocab_size
                )
            else:
                config = config_for(start_from, notation)
            with _bar(console, notation) as show:
                info = begin(out, folder, config, settings, force=force, on_progress=show)
    except TrainingInterrupted as stopped:
        Console(stderr=True, highlight=False).print(f"interrupted: {stopped}", soft_wrap=True, markup=False)
        raise typer.Exit(130) from None

    result = info.result or {}
    for line in _summary(info, result, out):
        console.print(line, soft_wrap=True, markup=False)
    if json is not None and main_process:
        extra = {
            "folder": str(out),
            "parameters": info.parameters,
            "settings": info.settings and info.settings.to_json(),
            "data": str(info.data_path()),
            **{key: value for key, value in result.items() if key != "seconds"},
        }
        record = Record("train", "torch", info.notation, info.context, seconds=result["seconds"], extra=extra)
        write_records(json, [record])


@contextmanager
def _bar(console: Console, name: str) -> Iterator[Any]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=None, state="")

        def show(now: TrainingProgress) -> None:
            for warning in now.warnings:
                bar.console.print(f"warning: {warning}", style="yellow", soft_wrap=True, markup=False)
            speed = f"  {now.tokens_per_second:,.0f} tokens/s" if now.tokens_per_second else ""
            bar.update(task, completed=now.step, total=now.steps, state=f"loss {now.loss:.3f}{speed}")

        yield show


def _summary(info: RunInfo, result: dict[str, Any], out: Path) -> list[str]:
    return [
        f"{info.notation}: {info.parameters:,} parameters, {result['train_tokens']:,} tokens "
        f"in {result['seconds']:.0f} s, {result['tokens_per_second']:,.0f} tokens/s",
        f"validation perplexity {result['perplexity']:.2f}, {result['bits_per_byte']:.3f} bits per byte",
        *_window_line(result),
        f"wrote {out}",
    ]


def _window_line(result: dict[str, Any]) -> list[str]:
    window = result.get("window")
    if window is None:
        return []
    return [
        f"attention: log-sum-exp within ±{window['bound']:.2f}, at most {window['widest']:.2f} wide for a head, "
        f"logits at most {window['deepest']:.1f} below it"
    ]
