"""Train a model from scratch into a run folder, or continue a run."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from transformers import PrinterCallback, set_seed

import aero
from aero.data import tokenizer
from aero.data.folder import DataFolder
from aero.data.loader import TrainingBlocks, collate
from aero.entropy.window import AttentionWindow
from aero.files import manifest
from aero.files.atomic import is_occupied, new_folder, sync, sync_tree, write_text
from aero.files.lock import locked
from aero.files.reading import present
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.stabilize import remove_stabilizer, stabilize
from aero.models.start import start_from
from aero.train import checkpoints
from aero.train.callbacks import (
    FiniteWeights,
    MetricsCallback,
    StopOnSave,
    StopOnSignal,
    TrainingInterrupted,
    TrainingProgress,
)
from aero.train.diagnosis import TrainingDivergedError
from aero.train.evaluate import evaluate_on, fits
from aero.train.freezing import FreezeNorms
from aero.train.measures import FILE as MEASURES_FILE
from aero.train.measures import MeasureLog
from aero.train.processes import is_main, join, told_by_main
from aero.train.run_folder import (
    CONFIG_FILE,
    FILE,
    METRICS_FILE,
    TENSORBOARD,
    DataUsed,
    RunInfo,
    copy_text_files,
)
from aero.train.scalars import Scalars, check_wandb
from aero.train.settings import TrainSettings, choose_precision
from aero.train.teacher import TeacherModel, check_teacher
from aero.train.trainer import AeroTrainer, training_arguments

logger = logging.getLogger(__name__)

_WINDOW_BLOCKS = 32  # of validation text, for the window that a finished run reports


def train(
    out: Path,
    data: DataFolder,
    config: AeroConfig,
    settings: TrainSettings | None = None,
    force: bool = False,
    on_progress: Callable[[TrainingProgress], None] | None = None,
) -> RunInfo:
    """Train a new model into the run folder `out`; returns what run.json says at the end.

    An old run that `force` replaces stays until the new one has a first good state: until then that trains beside it.
    Raises ValueError where model and data do not go together, `out` exists (unless it is a run and `force`) or another
    training is at work in it, TrainingDivergedError where the loss is no longer finite, TrainingInterrupted after a
    SIGINT or SIGTERM: in both cases the last checkpoint is good, and `resume` goes on from it.
    """
    settings = settings or TrainSettings()
    if settings.wandb_project is not None:
        check_wandb()
    _check_fits(config, data)
    if settings.teacher is not None:
        check_teacher(settings.teacher, data, config)
    choose_precision(settings.precision)
    if present(out / FILE) and not force and is_main():
        raise ValueError(f"{out} holds a run already; --resume goes on with it, --force replaces it")
    processes = join()
    if not config.end_tokens:  # one that starts from another model has that one's
        config.bos_token_id = config.eos_token_id = data.info.end_of_text
    info = RunInfo(
        notation=_name(config),
        context=config.context,
        parameters=AeroForCausalLM(config).num_parameters(),
        settings=settings,
        data=DataUsed.of(data),
        versions={
            "aero": aero.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
    )
    stopped = None
    with ExitStack() as locks:
        with ExitStack() as made:
            folder, beside = out, False
            if processes.is_main_process:
                beside = is_occupied(out)
                folder = made.enter_context(new_folder(out, FILE, force))
                locks.enter_context(locked(folder))
                _begin(folder, data, config, info)
            folder, beside = told_by_main((folder, beside))
            if beside:
                try:
                    _optimize(folder, data, config, info, on_progress, out.name, until_saved=True)
                except TrainingInterrupted as error:
                    stopped = error  # the state was saved first
        processes.wait_for_everyone()
        if stopped is not None:
            raise stopped
        return _run(out, data, config, info, on_progress)


def _begin(folder: Path, data: DataFolder, config: AeroConfig, info: RunInfo) -> None:
    """Write what a run has from the start. The configuration is the one that a user will load the model with."""
    config.architectures, config.dtype = [AeroForCausalLM.__name__], torch.float32
    write_text(folder / CONFIG_FILE, config.to_json_string())
    tokens = data.tokenizer()
    tokens.save(folder / tokenizer.FILE)
    about = tokenizer.hugging_face_config(tokens, config.context)
    write_text(folder / tokenizer.CONFIG_FILE, json.dumps(about, indent=2) + "\n")
    if info.settings is not None and info.settings.start_from is not None:
        start = Path(info.settings.start_from) / tokenizer.FILE
        if present(start) and manifest.file_sha256(start) == data.info.tokenizer_sha256:
            copy_text_files(start.parent, folder)
    info.write(folder)


def resume(out: Path, on_progress: Callable[[TrainingProgress], None] | None = None) -> RunInfo:
    """Go on with a run from its last good checkpoint, to the same weights as if it had never stopped; a finished run
    stays.

    Everything is taken from its run.json. Checkpoints that are damaged or incomplete are removed, with a warning in the
    log. Raises FileNotFoundError or ValueError where the run or its data folder are not there or not the same any more,
    and what `train` raises.
    """
    info = RunInfo.read(out)
    if info.status == "finished":
        return info
    data = DataFolder(info.data_path())
    if DataUsed.of(data) != info.data:
        raise ValueError(f"{data.path} is not the data that {out} was trained on; train again with --force")
    config = AeroConfig.from_pretrained(out)
    if info.settings is not None and info.settings.teacher is not None:
        check_teacher(info.settings.teacher, data, config)
    info, processes = replace(info, status="unfinished"), join()
    with ExitStack() as locks:
        if processes.is_main_process:
            locks.enter_context(locked(out))
            info.write(out)
        processes.wait_for_everyone()
        return _run(out, data, config, info, on_progress)


def ensure(
    out: Path,
    data: DataFolder,
    config: AeroConfig,
    settings: TrainSettings,
    on_progress: Callable[[TrainingProgress], None] | None = None,
) -> RunInfo:
    """The run in `out`: trained now, or gone on with, or as it is where it is finished or has diverged.

    One that diverges is a result too: its status says so. ValueError where `out` holds a run of other settings, of
    another model or on other data.
    """
    try:
        info = RunInfo.read(out)
    except FileNotFoundError:
        info = None
    if info is not None:
        was = "with other settings" if info.settings != settings else _other(out, info, data, config)
        if was is not None:
            raise ValueError(f"{out} was trained {was}; choose another folder, or delete it")
    if info is not None and info.status != "unfinished":
        return info
    try:
        return train(out, data, config, settings, on_progress=on_progress) if info is None else resume(out, on_progress)
    except TrainingDivergedError as error:
        logger.warning("%s: %s", out, error)
        return RunInfo.read(out)


def _other(out: Path, info: RunInfo, data: DataFolder, config: AeroConfig) -> str | None:
    """How the run in `out` differs in data or model from what is wanted; the end tokens come with the data."""
    used = DataUsed.of(data)
    if info.data is None or replace(info.data, path=used.path) != used:
        return "on other data"
    there = AeroConfig.from_pretrained(out)
    names = [name for name in AeroConfig.__annotations__ if not name.endswith("_token_id")]
    same = all(getattr(there, name) == getattr(config, name) for name in names)
    return None if same else "as another model"


def _check_fits(config: AeroConfig, data: DataFolder) -> None:
    if not fits(data.info.vocab_size, config.vocab_size):
        raise ValueError(
            f"the model has a vocabulary of {config.vocab_size}, and the data in {data.path} one of "
            f"{data.info.vocab_size}; make them the same"
        )
    if data.valid.blocks(config.context) == 0:
        raise ValueError(f"{data.path} has less validation text than one block of {config.context}; use more text")


def _name(config: AeroConfig) -> str | None:
    try:
        return str(config.notation)
    except ValueError:
        return None  # an architecture of the user's own


def _run(
    out: Path,
    data: DataFolder,
    config: AeroConfig,
    info: RunInfo,
    on_progress: Callable[[TrainingProgress], None] | None,
) -> RunInfo:
    """Train to the end, from the last good checkpoint if there is one, and measure the result."""
    trainer, model = _optimize(out, data, config, info, on_progress, out.name)
    remove_stabilizer(model)
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_fsdp_enabled else None
    if weights is not None and config.tie_embeddings:
        weights.pop("lm_head.weight", None)  # gathered twice; a file holds it once
    processes = join()
    if processes.is_main_process:
        _save_model(model, out, weights)
        _finish(out, data, info, trainer)
    processes.wait_for_everyone()
    return RunInfo.read(out)


def _optimize(
    out: Path,
    data: DataFolder,
    config: AeroConfig,
    info: RunInfo,
    on_progress: Callable[[TrainingProgress], None] | None,
    name: str,
    until_saved: bool = False,
) -> tuple[AeroTrainer, AeroForCausalLM]:
    """Take the optimizer's steps in the run folder `out`, all that are left or only until a checkpoint is saved.

    name: of the run, where it is drawn. Raises what `train` does.
    """
    settings, processes = info.settings, join()
    assert settings is not None
    precision = choose_precision(settings.precision)
    arguments = training_arguments(out, settings, precision)
    teacher = None if settings.teacher is None else TeacherModel(settings.teacher, config, arguments.device)
    set_seed(settings.seed)
    model = AeroForCausalLM(config)
    if settings.start_from is not None:
        start_from(model, Path(settings.start_from))
    stabilize(model, settings.stabilizer, settings.stabilizer_placement)
    tokens_per_step = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    tokens_per_step *= config.context

    def scalars(first_step: int) -> Scalars:
        return Scalars(out / TENSORBOARD, name, first_step, settings.wandb_project)

    checkpoint = told_by_main(checkpoints.take_up(out) if processes.is_main_process else None)
    metrics = MetricsCallback(out / METRICS_FILE, scalars, tokens_per_step, on_progress)
    stop = StopOnSignal()
    trainer = AeroTrainer(
        model=model,
        args=arguments,
        train_dataset=TrainingBlocks(
            data.train, config.context, settings.steps * tokens_per_step // config.context, settings.seed
        ),
        data_collator=collate,
        callbacks=[
            FreezeNorms(settings.freeze_schedule()),
            metrics,
            stop,
            *([StopOnSave()] if until_saved else []),
            FiniteWeights(),
        ],  # in this order: the last sees whether a save is due
        metrics=metrics,
        measure_log=MeasureLog(out / MEASURES_FILE),
        measure_every=settings.measure_every,
        regularizer=settings.regularizer() if config.entropy_thresholds else None,
        window_penalty=settings.window_penalty(),
        teacher=teacher,
        base_width=settings.base_width,
        base_depth=settings.base_depth,
    )
    trainer.remove_callback(PrinterCallback)
    try:
        with stop.listening():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except TrainingDivergedError as error:
        if processes.is_main_process:
            replace(info, status="diverged").write(out)
            if trainer.diagnosis is not None:
                trainer.diagnosis.write(out)
        good = checkpoints.latest(out)
        where = f"the last good state is {good}" if good else "no checkpoint had been saved yet"
        raise TrainingDivergedError(f"training diverged: {error}; {where}; try a lower learning rate") from None
    finally:
        metrics.close()
    if stop.received and trainer.state.global_step < settings.steps:
        raise TrainingInterrupted(f"stopped at step {trainer.state.global_step} of {settings.steps}; --resume goes on")
    return trainer, model


def _finish(out: Path, data: DataFolder, info: RunInfo, trainer: AeroTrainer) -> None:
    """Measure what is on disk, in float32, and write it down."""
    settings, last = info.settings, trainer.metrics.last
    assert settings is not None
    saved = AeroForCausalLM.from_pretrained(out).to(trainer.args.device)  # type: ignore[arg-type]
    evaluation = evaluate_on(saved, data, settings.valid_blocks)
    result = {
        "train_loss": last["loss"],
        "valid_loss": evaluation.loss,
        "perplexity": evaluation.perplexity,
        "bits_per_byte": evaluation.bits_per_byte,
        "valid_tokens": evaluation.tokens,
        "train_tokens": last["tokens"],
        "seconds": last["seconds"],
        "tokens_per_second": last["tokens"] / last["seconds"],
        "processes": trainer.args.world_size,
        "threads": torch.get_num_threads(),
        "precision": choose_precision(settings.precision),
    }
    if settings.zatt:
        result["window"] = _window(saved, data).to_json()
    replace(info, status="finished", result=result).write(out)


def _window(model: AeroForCausalLM, data: DataFolder) -> AttentionWindow:
    length = model.config.context
    blocks = min(_WINDOW_BLOCKS, data.valid.blocks(length))
    return AttentionWindow.of_model(model, [data.valid.block(index, length) for index in range(blocks)])


def _save_model(model: AeroForCausalLM, out: Path, weights: dict[str, Any] | None) -> None:
    """Write the model's files, each in one step. weights: where the model itself holds only a shard of them."""
    for left in out.glob(".model.*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".model.", dir=out) as folder:
        model.save_pretrained(folder, state_dict=weights)
        sync_tree(Path(folder))
        for path in sorted(Path(folder).iterdir()):
            if path.name != CONFIG_FILE:  # it is there from the start
                os.replace(path, out / path.name)
    sync(out)
