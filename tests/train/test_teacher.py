"""A teacher: its part of the loss, of each step, after a stop, and the teachers that are refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from typer.testing import CliRunner

from aero.cli.main import app
from aero.data.build import build
from aero.data.folder import DataFolder
from aero.data.loader import TrainingBlocks
from aero.data.settings import DataSettings
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.loss import IGNORED, SoftTargets, causal_lm_loss
from aero.models.notation import parse
from aero.train.callbacks import TrainingInterrupted, TrainingProgress
from aero.train.run import resume, train
from aero.train.run_folder import RunInfo
from aero.train.settings import Teacher, TrainSettings
from aero.train.teacher import as_teacher


def distilled(logits: Tensor, theirs: Tensor, labels: Tensor, weight: float, temperature: float) -> Tensor:
    """Hinton et al. 2015, §2, by PyTorch's own divergence."""
    q, p = (F.log_softmax(x[:, :-1].flatten(0, 1) / temperature, -1) for x in (logits, theirs))
    kept = labels[:, 1:].flatten() != IGNORED
    divergence = F.kl_div(q[kept], p[kept], reduction="batchmean", log_target=True)
    text = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
    return (1 - weight) * text + weight * temperature**2 * divergence


@pytest.mark.parametrize("chunk_rows", [4, 100])
@pytest.mark.parametrize(("weight", "temperature"), [(0.25, 1.0), (0.9, 3.0), (1.0, 2.0)])
def test_value_and_gradients_equal_the_formula(weight: float, temperature: float, chunk_rows: int) -> None:
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    hidden, words, theirs, their_words = numbers(3, 7, 5), numbers(11, 5), numbers(3, 7, 4), numbers(11, 4)
    labels = torch.randint(11, (3, 7), generator=generator)
    labels[0, 3:] = IGNORED
    hidden.requires_grad_()
    words.requires_grad_()
    soft = SoftTargets(theirs, their_words, 3.0, temperature, weight)
    found = causal_lm_loss(hidden, words, labels, multiplier=2.0, soft=soft, chunk_rows=chunk_rows)
    expected = distilled(2 * hidden @ words.T, 3 * theirs @ their_words.T, labels, weight, temperature)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    gradients = [torch.autograd.grad(5 * loss, (hidden, words)) for loss in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-13)


@pytest.fixture(scope="module")
def teacher(data: DataFolder, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    run = tmp_path_factory.mktemp("teacher") / "run"
    shape = {"vocab_size": data.info.vocab_size, "context": 24, "num_layers": 1, "num_heads": 1, "hidden_size": 24}
    config = AeroConfig(**shape, logit_multiplier=4)
    train(run, data, config, TrainSettings(steps=20, batch_size=4, learning_rate=1e-2, precision="float32"))
    return as_teacher(run, weight=0.75, temperature=2.5)


def test_equals_a_loop_written_out_by_hand(
    teacher: Teacher, data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    config = AeroConfig(**{**config.to_dict(), **parse("SM+LN+R").config_fields(2)})
    settings = replace(settings, steps=6, gradient_accumulation=2, warmup_fraction=0, teacher=teacher)
    info = train(tmp_path / "run", data, config, settings)
    assert info.settings == RunInfo.read(tmp_path / "run").settings == settings

    torch.manual_seed(settings.seed)
    model, theirs = AeroForCausalLM(config), AeroForCausalLM.from_pretrained(teacher.path).eval()
    matrices = [m.weight for m in model.transformer.modules() if isinstance(m, (nn.Linear, nn.Embedding))]
    others = [p for p in model.parameters() if id(p) not in {id(m) for m in matrices}]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], betas=(0.9, 0.95)
    )
    blocks = TrainingBlocks(data.train, config.context, samples=6 * 8, seed=settings.seed)
    for step in range(6):
        ids = torch.stack([blocks[i]["input_ids"] for i in range(step * 8, step * 8 + 8)])
        optimizer.zero_grad()
        for half in (ids[:4], ids[4:]):
            with torch.no_grad():
                targets = theirs(input_ids=half).logits
            (distilled(model(input_ids=half).logits, targets, half, 0.75, 2.5) / 2).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (6 - step) / 6
        optimizer.step()
    for name, value in load_file(tmp_path / "run" / "model.safetensors").items():
        atol = 1e-4 if name.endswith("k_proj.bias") else 2e-6  # of a gradient that is rounding alone
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-4, atol=atol, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_stopped_and_resumed_equals_uninterrupted(
    precision: str, teacher: Teacher, data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    settings = replace(settings, gradient_accumulation=2, precision=precision, teacher=teacher)
    train(tmp_path / "whole", data, config, settings)

    def press_control_c(now: TrainingProgress) -> None:
        if now.step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(TrainingInterrupted):
        train(tmp_path / "stopped", data, config, settings, on_progress=press_control_c)
    resume(tmp_path / "stopped")
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    train(tmp_path / "alone", data, config, replace(settings, teacher=None))
    c = load_file(tmp_path / "alone" / "model.safetensors")
    assert not any(torch.equal(a[name], c[name]) for name in a if name.endswith("weight"))


def test_teachers_that_are_refused_before_anything_is_trained(
    teacher: Teacher, data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    (tmp_path / "other.py").write_text("".join(f"x{i} = {i}\n" for i in range(2000)))
    other = build(
        tmp_path / "other", DataSettings(sources=(str(tmp_path / "other.py"),), vocab_size=data.info.vocab_size)
    )
    out, taught = tmp_path / "run", replace(settings, teacher=teacher)
    with pytest.raises(ValueError, match="has another tokenizer than"):
        train(out, other, AeroConfig(**{**config.to_dict(), "vocab_size": other.info.vocab_size}), taught)
    with pytest.raises(ValueError, match="a context of 24, below the student's 32"):
        train(out, data, AeroConfig(**{**config.to_dict(), "context": 32}), taught)
    copy = Path(shutil.copytree(teacher.path, tmp_path / "copy"))
    taught = replace(settings, teacher=as_teacher(copy))
    RunInfo.read(copy).write(copy)
    train(tmp_path / "same", data, config, replace(taught, steps=1))
    replace(RunInfo.read(copy), source="elsewhere").write(copy)
    with pytest.raises(ValueError, match="another run than at the beginning"):
        train(out, data, config, taught)
    assert not out.exists()


@pytest.mark.parametrize("wrong", [{"weight": 0.0}, {"weight": 1.5}, {"temperature": 0.0}])
def test_settings_of_a_teacher_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"the teacher's {next(iter(wrong))} is"):
        Teacher("run", "0", **wrong)


def test_the_command(teacher: Teacher, data: DataFolder, tmp_path: Path) -> None:
    options = ["--data", str(data.path), "--size", "demo", "--steps", "1", "--batch-size", "2"]

    def aero_train(out: str, *more: str) -> Exception | None:
        return CliRunner().invoke(app, ["train", str(tmp_path / out), *options, *more]).exception

    assert "below the student's 64" in str(aero_train("student", "--teacher", teacher.path))
    assert isinstance(aero_train("student", "--teacher", str(tmp_path / "nowhere")), FileNotFoundError)
    assert aero_train("teacher") is None
    assert aero_train("student", "--teacher", str(tmp_path / "teacher"), "--teacher-weight", "0.75") is None
    written = json.loads((tmp_path / "student" / "run.json").read_text())["settings"]["teacher"]
    assert written["path"] == str(tmp_path / "teacher") and len(written["sha256"]) == 64
    assert (written["weight"], written["temperature"]) == (0.75, 2.0)
