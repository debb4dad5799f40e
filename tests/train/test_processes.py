"""Two processes over gloo train the model that one process trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aero.data.folder import DataFolder
from aero.models import AeroConfig
from aero.models.notation import parse
from aero.train import trainer
from aero.train.jsonl import read_rows
from aero.train.run import resume, train
from aero.train.run_folder import RunInfo
from aero.train.settings import TrainSettings
from aero.train.teacher import as_teacher

pytestmark = pytest.mark.slow  # each launch starts Python three times


def launch(run: Path, data: DataFolder, config: AeroConfig, settings: TrainSettings, *how: str) -> str:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(Path(__file__).with_name("one_of_two.py")), str(run), str(data.path)]
    command += [json.dumps(config.to_dict()), json.dumps(settings.to_json()), *how]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def same_training(one: Path, two: Path) -> None:
    """Means over halves of a batch are rounded differently, so not to the last bit."""
    losses = [[row["loss"] for row in read_rows(run / "metrics.jsonl")] for run in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    a, b = (load_file(run / "model.safetensors") for run in (one, two))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4, msg=lambda m, n=name: n + m)


@pytest.fixture
def config(config: AeroConfig) -> AeroConfig:
    return AeroConfig(**{**config.to_dict(), **parse("EReg(SM(t_h)+ScFuFFN_i1)").config_fields(2)})


@pytest.fixture
def settings(settings: TrainSettings) -> TrainSettings:
    return replace(settings, batch_size=4, gradient_accumulation=2, log_every=1, measure_every=4, adam_eps=1e-4)


@pytest.mark.parametrize("sharded", [False, True])
def test_two_processes_equal_one(
    sharded: bool, data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    settings = replace(settings, entropy_weight=0.0)  # its penalty is of each process's half of the texts
    train(tmp_path / "teacher", data, config, replace(settings, seed=1))
    settings = replace(settings, teacher=as_teacher(tmp_path / "teacher"))
    train(tmp_path / "one", data, config, settings)
    two = replace(settings, batch_size=2, fsdp=sharded)
    launch(tmp_path / "two", data, config, two, *(["sharded"] if sharded else []))
    same_training(tmp_path / "one", tmp_path / "two")
    info = RunInfo.read(tmp_path / "two")
    assert info.result is not None and info.result["processes"] == 2
    assert info.result["train_tokens"] == 12 * 8 * 16
    assert [row["step"] for row in read_rows(tmp_path / "two" / "measures.jsonl")] == [0, 4, 8]


@pytest.mark.parametrize("sharded", [False, True])
def test_stopped_in_one_process_and_resumed_in_both_equals_uninterrupted(
    sharded: bool, data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    settings = replace(settings, batch_size=2, fsdp=sharded, entropy_weight=0.1, entropy_margin=0.01)
    how = ["sharded"] if sharded else []
    launch(tmp_path / "whole", data, config, settings, *how)
    assert "interrupted" in launch(tmp_path / "stopped", data, config, settings, "stop", *how)
    assert RunInfo.read(tmp_path / "stopped").status == "unfinished"
    launch(tmp_path / "stopped", data, config, settings, "resume", *how)
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert read_rows(tmp_path / "whole" / "measures.jsonl") == read_rows(tmp_path / "stopped" / "measures.jsonl")


def test_a_compiled_model_trains_alike(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "teacher", data, config, replace(settings, seed=1))
    settings = replace(settings, teacher=as_teacher(tmp_path / "teacher"))
    train(tmp_path / "plain", data, config, settings)
    # The graphs of torch.compile without its code generator, which wants a C++ compiler and minutes.
    make = trainer.TrainingArguments
    monkeypatch.setattr(
        trainer, "TrainingArguments", lambda **options: make(**options, torch_compile_backend="aot_eager")
    )
    train(tmp_path / "compiled", data, config, replace(settings, compile=True))
    assert resume(tmp_path / "compiled") == RunInfo.read(tmp_path / "compiled")
    same_training(tmp_path / "plain", tmp_path / "compiled")
