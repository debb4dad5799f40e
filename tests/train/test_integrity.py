"""What a run consists of is whole or refused; a training survives whatever happens to it, and has its folder alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from aero.compiler.run import load_model
from aero.data import tokenizer
from aero.data.folder import DataFolder
from aero.files.lock import locked
from aero.models import AeroConfig
from aero.train.callbacks import TrainingInterrupted, TrainingProgress
from aero.train.checkpoints import latest
from aero.train.diagnosis import TrainingDivergedError
from aero.train.run import resume, train
from aero.train.run_folder import RunInfo
from aero.train.settings import TrainSettings
from full_disk import file_limit

MODEL_FILES = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
RUN_FILES = sorted([*MODEL_FILES, "measures.jsonl", "metrics.jsonl", "run.json"])


class PowerCut(Exception):
    pass


def cut_at(step: int):
    def cut(progress: TrainingProgress) -> None:
        if progress.step == step:
            raise PowerCut

    return cut


@pytest.fixture(scope="module")
def finished(data: DataFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two layers and twelve steps, as the fixtures below describe it."""
    out = tmp_path_factory.mktemp("integrity") / "run"
    train(out, data, config_of(data), SETTINGS)
    return out


SETTINGS = TrainSettings(steps=12, batch_size=4, log_every=1, save_every=5, precision="float32", valid_blocks=8)


def config_of(data: DataFolder) -> AeroConfig:
    from aero.models.presets import Size

    size = Size(data.info.vocab_size, context=16, num_layers=2, num_heads=2, hidden_size=16)
    return AeroConfig.from_notation("SM+ScFuFFN", size)


@pytest.fixture(scope="module")
def cut_once(data: DataFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("integrity") / "cut"
    with pytest.raises(PowerCut):
        train(out, data, config_of(data), SETTINGS, on_progress=cut_at(12))
    return out


@pytest.fixture
def cut(cut_once: Path, tmp_path: Path) -> Path:
    """The same run, cut off in step 12, with checkpoints after 5 and 10."""
    return Path(shutil.copytree(cut_once, tmp_path / "cut"))


def same(one: Path, other: Path) -> bool:
    a, b = (load_file(run / "model.safetensors") for run in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rows_but_times(path: Path) -> list[dict]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "tokens_per_second")} for row in rows]


# --- a finished run ---------------------------------------------------------------------------------------------------


def test_each_file_is_hashed_and_hugging_face_still_reads_the_folder(finished: Path) -> None:
    visible = sorted(path.name for path in finished.iterdir() if path.is_file() and not path.name.startswith("."))
    assert visible == RUN_FILES
    assert sorted(json.loads((finished / "run.json").read_text())["files"]) == sorted({*RUN_FILES} - {"run.json"})
    model = AutoModelForCausalLM.from_pretrained(finished)
    assert model.config.architectures == ["AeroForCausalLM"] and model.dtype == torch.float32
    assert AutoTokenizer.from_pretrained(finished)("def f").input_ids == tokenizer.load(finished).encode("def f")


@pytest.mark.parametrize("name", RUN_FILES)
def test_one_flipped_bit_is_refused(name: str, finished: Path, data: DataFolder, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("checkpoints"))
    flip(run / name)
    for read in (RunInfo.read_finished, load_model):
        with pytest.raises(
            ValueError, match=rf"{name} is (damaged|not JSON).*train or convert|{name} .*copy the folder"
        ):
            read(run)
    started = replace(SETTINGS, steps=1, start_from=str(run))
    with pytest.raises(ValueError, match=name):
        train(tmp_path / "next", data, config_of(data), started)
    (run / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"has lost {name}|no run at"):
        RunInfo.read_finished(run)


def test_an_edited_or_added_file_is_refused(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("checkpoints"))
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "norm_eps": 1.0}))
    with pytest.raises(ValueError, match=r"config\.json is damaged, or was changed after it was written; .*convert"):
        RunInfo.read(run)
    shutil.copyfile(finished / "config.json", run / "config.json")
    (run / "README.md").write_text("A model card.")
    (run / "eval.json").write_text("{}")
    RunInfo.read(run)
    (run / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"adapter_config\.json does not belong .*move it elsewhere"):
        RunInfo.read(run)


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "checkpoint.json"],
)
def test_a_damaged_checkpoint_is_passed_over(
    name: str, cut: Path, finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ten = cut / "checkpoints" / "checkpoint-10"
    assert latest(cut) == ten
    if name == "optimizer.pt":
        (ten / name).write_bytes((ten / name).read_bytes()[:-100])
    else:
        flip(ten / name)
    assert latest(cut) == cut / "checkpoints" / "checkpoint-5"
    resume(cut)
    assert same(finished, cut)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 1 and str(ten / name) in said[0] and said[0].endswith("going on from " + str(ten)[:-2] + "5")
    assert rows_but_times(cut / "metrics.jsonl") == rows_but_times(finished / "metrics.jsonl")


def test_where_no_checkpoint_is_good_nothing_is_thrown_away(cut: Path) -> None:
    for step in (5, 10):
        flip(cut / "checkpoints" / f"checkpoint-{step}" / "model.safetensors")
    with pytest.raises(ValueError, match=r"no checkpoint of .* is good: .*checkpoint-10/model\.safetensors is"):
        resume(cut)
    assert sorted(path.name for path in (cut / "checkpoints").iterdir()) == ["checkpoint-10", "checkpoint-5"]


def test_what_a_resumed_run_reads_is_checked_first(cut: Path) -> None:
    flip(cut / "config.json")
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        resume(cut)


def test_a_disk_that_fills_up_leaves_the_last_good_state(cut: Path, finished: Path) -> None:
    with file_limit(20_000), pytest.raises(OSError, match=r"the state after step 12 could not be written"):
        resume(cut)
    assert latest(cut) == cut / "checkpoints" / "checkpoint-10"
    assert not (cut / "checkpoints" / "checkpoint-12").exists()
    resume(cut)
    assert same(finished, cut)


# --- the course of training -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("metrics.jsonl", "torn"),
        ("metrics.jsonl", "gone"),
        ("measures.jsonl", "torn"),
        ("measures.jsonl", "middle"),
        ("measures.jsonl", "nothing but zeros"),
    ],
)
def test_a_damaged_line_does_not_block_a_resume(
    name: str, damage: str, cut: Path, finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = cut / name
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "torn":
        path.write_bytes(b"".join(lines)[:-20])
    elif damage == "middle":
        path.write_bytes(b"".join([b'{"st\n', *lines]))
    elif damage == "nothing but zeros":
        path.write_bytes(b"".join(lines) + b"\0" * 50)
    else:
        path.unlink()
    resume(cut)
    assert same(finished, cut)
    if name == "metrics.jsonl":
        assert rows_but_times(path) == rows_but_times(finished / name), "the checkpoints know what it said"
    number = {"torn": len(lines), "middle": 1, "nothing but zeros": len(lines) + 1}.get(damage)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == ([f"{path}: line {number} is damaged or cut short, and left out"] if number else [])


# --- one training in a folder -----------------------------------------------------------------------------------------


def test_a_second_training_in_the_folder_is_refused(cut: Path, data: DataFolder) -> None:
    with locked(cut):
        for again in (lambda: resume(cut), lambda: train(cut, data, config_of(data), SETTINGS, force=True)):
            with pytest.raises(ValueError, match="another process is at work in "):
                again()
    refused = []

    def try_another(progress: TrainingProgress) -> None:
        if not refused:
            with pytest.raises(ValueError, match="another process is at work in ") as error:
                train(cut, data, config_of(data), SETTINGS, force=True)
            refused.append(error)

    resume(cut, on_progress=try_another)
    assert refused


# --- in place of an old run -------------------------------------------------------------------------------------------


def test_an_old_run_stays_until_the_new_one_has_a_state(finished: Path, data: DataFolder, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    new = replace(SETTINGS, seed=1)
    seen: dict[int, int] = {}

    def look(progress: TrainingProgress) -> None:
        seen[progress.step] = RunInfo.read(out).settings.seed
        if progress.step == 8:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(PowerCut):
        train(out, data, config_of(data), new, force=True, on_progress=cut_at(4))
    assert same(finished, out) and RunInfo.read_finished(out).settings.seed == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run"], "nothing is left over"
    with pytest.raises(TrainingDivergedError):
        train(out, data, config_of(data), replace(new, learning_rate=1e25), force=True)
    assert same(finished, out)
    with pytest.raises(TrainingInterrupted):
        train(out, data, config_of(data), new, force=True, on_progress=look)
    assert seen == {**dict.fromkeys(range(1, 6), 0), **dict.fromkeys(range(6, 9), 1)}
    resume(out)
    train(tmp_path / "fresh", data, config_of(data), new)
    assert same(tmp_path / "fresh", out), "as if nothing had been there"
    assert rows_but_times(out / "metrics.jsonl") == rows_but_times(tmp_path / "fresh" / "metrics.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "run"]


def test_interrupted_before_its_first_state_a_new_run_saves_one(
    finished: Path, data: DataFolder, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)

    def stop(progress: TrainingProgress) -> None:
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingInterrupted, match=r"stopped at step [23] of 12; --resume goes on"):
        train(out, data, config_of(data), replace(SETTINGS, seed=1), force=True, on_progress=stop)
    assert RunInfo.read(out).settings.seed == 1 and latest(out) is not None


# --- killed -----------------------------------------------------------------------------------------------------------


def test_killed_at_random_moments_and_resumed_equals_uninterrupted(data: DataFolder, tmp_path: Path) -> None:
    script = Path(__file__).with_name("killed.py")
    settings = replace(SETTINGS, steps=12, save_every=3)
    arguments = [data.path, json.dumps(config_of(data).to_dict()), json.dumps(settings.to_json()), tmp_path, 2, 13]
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert same(tmp_path / "whole", tmp_path / "killed")
    assert rows_but_times(tmp_path / "whole" / "metrics.jsonl") == rows_but_times(tmp_path / "killed" / "metrics.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(".tmp")) == ["killed", "whole"]
