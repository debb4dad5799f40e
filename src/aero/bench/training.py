"""Training speed: against Hugging Face's own GPT-2 under the same Trainer, and what watching entropies costs.

All variants are trained in turns, so that a machine that is busy for a while is so for all of them; the time of a step
is the median over all its turns, the first steps of each left out.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from transformers import GPT2Config, GPT2LMHeadModel, PrinterCallback, Trainer, TrainerCallback

from aero.data.folder import DataFolder
from aero.data.loader import TrainingBlocks, collate
from aero.models import AeroConfig
from aero.models.presets import Size
from aero.report.record import Record
from aero.train.run import train
from aero.train.settings import TrainSettings, choose_precision
from aero.train.trainer import training_arguments

WARM_UP = 3  # steps of each turn that are not counted
_SCALED = "SM(t_h)+ScFuFFN"


def bench_training(
    data: DataFolder,
    size: str | Size,
    settings: TrainSettings,
    turns: int = 3,
    on_progress: Callable[[str], None] | None = None,
) -> list[Record]:
    """Records of one step's seconds. work: "train-step", and "watched-step" for what measuring and regularising cost;
    engine: who trains, and how; extra: tokens_per_second, threads, precision.

    settings.steps: of each turn, more than WARM_UP (ValueError).
    """
    if settings.steps <= WARM_UP:
        raise ValueError(f"{settings.steps} steps are too few; the first {WARM_UP} are not counted")
    settings = replace(settings, save_every=settings.steps + 1, valid_blocks=1, measure_every=0)

    def ours(notation: str, **changes: Any) -> Callable[[], list[float]]:
        config = AeroConfig.from_notation(notation, size, vocab_size=data.info.vocab_size)
        return lambda: _seconds_of_ours(data, config, replace(settings, **changes))

    baseline = AeroConfig.from_notation("SM+LN+G", size, vocab_size=data.info.vocab_size)
    variants: list[tuple[str, str, str, Callable[[], list[float]]]] = [
        ("train-step", "aero", "SM+LN+G", ours("SM+LN+G")),
        ("train-step", "transformers", "SM+LN+G", lambda: _seconds_of_gpt2(data, baseline, settings)),
        ("watched-step", "aero", _SCALED, ours(_SCALED)),
        ("watched-step", "aero, measured every 10 steps", _SCALED, ours(_SCALED, measure_every=10)),
        ("watched-step", "aero, EReg", _SCALED, ours(f"EReg({_SCALED})", entropy_weight=0.1)),
    ]
    seconds: list[list[float]] = [[] for _ in variants]
    for turn in range(turns):
        for found, (work, engine, notation, run) in zip(seconds, variants, strict=True):
            if on_progress:
                on_progress(f"{work}, {engine}, {notation}, turn {turn + 1} of {turns}")
            found += run()
    tokens = settings.batch_size * settings.gradient_accumulation * baseline.context
    precision = choose_precision(settings.precision)
    return [
        Record(
            work,
            engine,
            notation,
            baseline.context,
            # Measuring comes once in ten steps: its mean counts, of the others the median.
            seconds=(value := sum(found) / len(found) if "measured" in engine else median(found)),
            extra={"tokens_per_second": tokens / value, "precision": precision, "batch_size": settings.batch_size},
        )
        for found, (work, engine, notation, _) in zip(seconds, variants, strict=True)
    ]


def _seconds_of_ours(data: DataFolder, config: AeroConfig, settings: TrainSettings) -> list[float]:
    stamps: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        train(Path(folder) / "run", data, config, settings, on_progress=lambda now: stamps.append(time.perf_counter()))
    return _differences(stamps)


def _seconds_of_gpt2(data: DataFolder, config: AeroConfig, settings: TrainSettings) -> list[float]:
    """Hugging Face's model and Trainer, with the same arguments, blocks and collation."""
    gpt2 = GPT2Config(
        vocab_size=config.vocab_size,
        n_positions=config.context,
        n_embd=config.hidden_size,
        n_layer=config.num_layers,
        n_head=config.num_heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
    )

    class Stamps(TrainerCallback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.times.append(time.perf_counter())

    stamps = Stamps()
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(Path(folder), settings, choose_precision(settings.precision))
        samples = settings.steps * arguments.train_batch_size * settings.gradient_accumulation
        trainer = Trainer(
            model=GPT2LMHeadModel(gpt2),
            args=arguments,
            train_dataset=TrainingBlocks(data.train, config.context, samples, settings.seed),
            data_collator=collate,
            callbacks=[stamps],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return _differences(stamps.times)


def _differences(stamps: list[float]) -> list[float]:
    """Seconds of each step after the warm-up, from stamps at the end of each; the checkpoint at the end comes later."""
    steps = [later - earlier for earlier, later in pairwise(stamps)]
    return steps[WARM_UP - 1 :]
