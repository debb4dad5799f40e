"""From a trained or imported model to a cheaper rung by stages, each a run that learns from the original.

A stage begins with the weights of the one before (`aero.ladder.stages`), and its run folder holds what it ends with.
The first whose perplexity is beyond the tolerance is the last one that is tried.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aero.cost.pricing import TWO_PARTY, pricing
from aero.data.folder import DataFolder
from aero.data.loader import TrainingBlocks
from aero.files.atomic import new_folder, write_text
from aero.ladder.rung import price
from aero.ladder.stages import Stage, begin_with, stages
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.norm import frozen_norms
from aero.models.notation import parse
from aero.train.evaluate import evaluate_on
from aero.train.many import OnProgress, Wanted, one_after_another
from aero.train.processes import join
from aero.train.run_folder import CONFIG_FILE, RunInfo, copy_text_files, finished_with_data
from aero.train.settings import Teacher, TrainSettings
from aero.train.teacher import as_teacher

FILE = "adapt.json"
_TEXTS, _BATCH = 256, 8  # of training text, by which FFNs become linear
_FREEZE = (0.1, 0.5)  # of the stage that freezes norms: the rest trains what is affine by then


@dataclass(frozen=True)
class Step:
    """One stage, or the original, which has no folder of its own here and no tokens.

    folder: the run; tokens: that it is trained on; perplexity: on validation text, None before it is trained and where
    it diverged; bytes, rounds: of a private token from a full context, by the cost model's profile, compiled.
    """

    name: str
    notation: str
    folder: str
    tokens: int
    perplexity: float | None
    bytes: float | None
    rounds: float | None


@dataclass(frozen=True)
class Adapted:
    """steps: the original, then the stages that were tried, in their order; planned: how many there are to the target.
    tolerance: relative increase of the perplexity of the original that is borne."""

    source: str
    target: str
    tolerance: float
    profile: str
    planned: int
    steps: tuple[Step, ...]

    def with_step(self, step: Step) -> Adapted:
        return replace(self, steps=(*self.steps, step))

    @property
    def limit(self) -> float:
        """The most perplexity that is borne."""
        start = self.steps[0].perplexity
        assert start is not None  # the original is measured, not trained
        return start * (1 + self.tolerance)

    def within(self, step: Step) -> bool:
        return step.perplexity is not None and step.perplexity <= self.limit

    @property
    def choice(self) -> Step:
        """The last step within the tolerance."""
        return [step for step in self.steps if self.within(step)][-1]

    @property
    def done(self) -> bool:
        """Has the target been reached within the tolerance?"""
        return len(self.steps) == self.planned + 1 and self.within(self.steps[-1])

    def change(self, step: Step) -> tuple[float | None, float | None]:
        """A step's perplexity and bytes against the original's, both as relative changes."""
        first = self.steps[0]
        pairs = ((step.perplexity, first.perplexity), (step.bytes, first.bytes))
        perplexity, of_bytes = (None if a is None or not b else a / b - 1 for a, b in pairs)
        return perplexity, of_bytes

    def to_json(self) -> dict[str, Any]:
        kept = asdict(self)
        kept["steps"] = [
            {**asdict(step), **dict(zip(("perplexity_change", "bytes_change"), self.change(step), strict=True))}
            for step in self.steps
        ]
        return {**kept, "done": self.done, "choice": self.choice.folder}


def plan(
    run: Path, target: str, tokens: int | None = None, data: Path | None = None, profile: str = TWO_PARTY
) -> list[Step]:
    """The original, and what the stages will be; nothing is trained. The arguments and errors are those of `adapt`.

    Prices are of models with random weights: of trained ones the compiler may choose another form of FFNs.
    """
    info, _, config, ahead, tokens = _way(run, target, tokens, data)
    prices, share = pricing(profile), tokens // max(len(ahead), 1)

    def priced(config: AeroConfig) -> tuple[float | None, float | None]:
        model = AeroForCausalLM(config).eval()
        for norm in frozen_norms(model):
            norm.blend.fill_(1)
        return price(model, prices)

    perplexity = (info.result or {}).get("perplexity")
    found = [Step("original", str(config.notation), str(run), 0, perplexity, *priced(config))]
    for index, stage in enumerate(ahead, 1):
        name = str(stage.notation)
        found.append(Step(stage.name, name, _folder(index, stage), share, None, *priced(config.with_notation(name))))
    return found


def adapt(
    out: Path,
    run: Path,
    target: str,
    settings: TrainSettings,
    tokens: int | None = None,
    tolerance: float = 0.02,
    data: Path | None = None,
    weight: float = Teacher.weight,
    temperature: float = Teacher.temperature,
    profile: str = TWO_PARTY,
    on_progress: OnProgress | None = None,
) -> Adapted:
    """Take the stages from the model in `run` to the notation `target` in folders of `out`, and write adapt.json there.

    settings: of every stage, but for steps, start, teacher, and when norms freeze. tokens: of all stages together;
    None: a quarter of those that the run was trained on. data: None: what that was. weight, temperature: of the
    original as the teacher. Finished stages are kept, and a stopped one goes on. Raises ValueError for a target to
    which there is no way, settings other than those of an earlier call, and what `aero.train.run.train` does.
    """
    if not 0 <= tolerance < 10:
        raise ValueError(f"a tolerance of {tolerance} is not a fraction; give 0.02 for 2%")
    if join().num_processes > 1:
        raise ValueError("stages are trained by one process; start aero adapt without torchrun")
    prices = pricing(profile)
    _, folder, config, ahead, tokens = _way(run, target, tokens, data)
    of_a_step = settings.batch_size * settings.gradient_accumulation * config.context
    count = tokens // max(len(ahead), 1) // of_a_step
    if not count:
        raise ValueError(f"{tokens} tokens are too few for {len(ahead)} stages with steps of {of_a_step}; give more")
    settings = replace(settings, steps=count, teacher=as_teacher(run, weight, temperature))
    original: AeroForCausalLM = AeroForCausalLM.from_pretrained(run)
    start = evaluate_on(original, folder, settings.valid_blocks).perplexity
    found = Adapted(str(run), target, tolerance, profile, len(ahead), ())
    found = found.with_step(Step("original", str(config.notation), str(run), 0, start, *price(original, prices)))
    before = run
    for index, stage in enumerate(ahead, 1):
        name = _folder(index, stage)
        info = _take(out / name, stage, before, folder, settings, on_progress)
        before = out / name
        step = Step(stage.name, str(stage.notation), name, count * of_a_step, None, None, None)
        if info.result is not None:
            sent, rounds = price(AeroForCausalLM.from_pretrained(before), prices)
            step = replace(step, perplexity=info.result["perplexity"], bytes=sent, rounds=rounds)
        found = found.with_step(step)
        if not found.within(step):
            break
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / FILE, json.dumps(found.to_json(), indent=2, allow_nan=False) + "\n")
    return found


def _way(
    run: Path, target: str, tokens: int | None, data: Path | None
) -> tuple[RunInfo, DataFolder, AeroConfig, list[Stage], int]:
    info, folder = finished_with_data(run, data)
    config = AeroConfig.from_pretrained(run)
    ahead = stages(config.notation, parse(target))
    if tokens is None:
        if info.settings is None or info.result is None:
            raise ValueError(f"{run} was not trained here; say on how many tokens to adapt it: --tokens")
        tokens = info.result["train_tokens"] // 4
    return info, folder, config, ahead, tokens


def _folder(index: int, stage: Stage) -> str:
    return f"{index}-{stage.notation}"


def _take(
    out: Path,
    stage: Stage,
    before: Path,
    data: DataFolder,
    settings: TrainSettings,
    on_progress: OnProgress | None,
) -> RunInfo:
    """One stage as the run `out`, from the model in `before`; what it begins with lies beside it until it is done."""
    start = out.with_name(f"{out.name}.start")
    # Norms that an earlier stage has frozen stay so from the first step.
    begin, end = _FREEZE if stage.freezes else (0.0, 0.0)
    settings = replace(settings, start_from=str(start.resolve()), freeze_start=begin, freeze_stop=end)
    config = AeroConfig.from_pretrained(before).with_notation(stage.notation)
    if not start.exists() and not _finished(out):
        source: AeroForCausalLM = AeroForCausalLM.from_pretrained(before)
        with new_folder(start, CONFIG_FILE) as new:
            begin_with(source, config, _texts(data, config.context)).save_pretrained(new)
            copy_text_files(before, new)
    [info] = one_after_another([Wanted(out.name, out, config, settings)], data, on_progress)
    shutil.rmtree(start, ignore_errors=True)
    return info


def _finished(run: Path) -> bool:
    return run.exists() and RunInfo.read(run).status != "unfinished"


def _texts(data: DataFolder, context: int) -> Iterator[Tensor]:
    blocks = TrainingBlocks(data.train, context, _TEXTS, seed=0)
    for start in range(0, _TEXTS, _BATCH):
        yield torch.stack([blocks[index]["input_ids"] for index in range(start, start + _BATCH)])
