"""Runs on a Ray cluster of two workers, one of which is killed: to the bit what one process trains."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from aero.data.folder import DataFolder
from aero.files.lock import AtWorkError, locked
from aero.models import AeroConfig
from aero.models.presets import SIZES, Size
from aero.train import on_ray as module
from aero.train.callbacks import TrainingProgress
from aero.train.checkpoints import latest
from aero.train.jsonl import last_row
from aero.train.many import Wanted, one_after_another
from aero.train.on_ray import on_ray
from aero.train.run_folder import RunInfo
from aero.train.settings import TrainSettings
from in_process import aero

ray = pytest.importorskip("ray", reason="the extra cluster is not installed")
SETTINGS = TrainSettings(steps=600, batch_size=4, save_every=20, precision="float32", valid_blocks=8, measure_every=0)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without processors, and two workers of one each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        small: dict[str, Any] = {"object_store_memory": 80_000_000, "include_dashboard": False}
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
        try:
            found.workers = [found.add_node(num_cpus=1, **small) for _ in range(2)]
            ray.init(address=found.address, log_to_driver=False)
            yield found
        finally:
            ray.shutdown()
            found.shutdown()


def wanted(out: Path, config: AeroConfig, seeds: Sequence[int], **changes: Any) -> list[Wanted]:
    return [
        Wanted(f"run {seed}", out / str(seed), config, dataclasses.replace(SETTINGS, seed=seed, **changes))
        for seed in seeds
    ]


def interrupted_at(step: int) -> Any:
    def interrupt(name: str, now: TrainingProgress) -> None:
        if now.step >= step:
            raise KeyboardInterrupt

    return interrupt


def test_runs_are_stopped_with_their_state_saved_and_go_on(
    cluster: Any, data: DataFolder, config: AeroConfig, tmp_path: Path
) -> None:
    runs = wanted(tmp_path / "runs", config, [5])
    with on_ray() as train:
        with pytest.raises(KeyboardInterrupt):
            train(runs, data, interrupted_at(30))
        assert RunInfo.read(runs[0].out).status == "unfinished"
        state = latest(runs[0].out)
        assert state is not None
        saved = int(state.name.rpartition("-")[2])
        row = last_row(runs[0].out / "metrics.jsonl")
        assert row is not None and row["step"] == saved, "the step at hand was its last, and was saved"
        steps: list[int] = []
        [info] = train(runs, data, lambda name, now: steps.append(now.step))
    assert info.status == "finished" and steps[0] >= saved
    with on_ray() as train, pytest.raises(ValueError, match="was trained with other settings"):
        train(wanted(tmp_path / "runs", config, [5], steps=3), data)


def test_a_worker_is_killed_in_the_middle_of_its_run(
    cluster: Any, data: DataFolder, config: AeroConfig, tmp_path: Path
) -> None:
    runs = wanted(tmp_path / "cluster", config, [0, 1])
    killed: dict[str, int] = {}  # the last checkpoint of each run in that moment
    after: dict[str, list[int]] = {run.name: [] for run in runs}

    def kill(name: str, now: TrainingProgress) -> None:
        if killed:
            after[name].append(now.step)
            return
        states = {run.name: latest(run.out) for run in runs}
        if all(states.values()):
            assert all(RunInfo.read(run.out).status == "unfinished" for run in runs), "each worker has one"
            killed.update({name: int(state.name.rpartition("-")[2]) for name, state in states.items() if state})
            cluster.remove_node(cluster.workers[0], allow_graceful=False)

    with on_ray() as train:
        found = train(runs, data, kill)
    assert killed and [info.status for info in found] == ["finished"] * 2
    falls = 0  # the worker that was killed may have told of a step or two after its checkpoint, which come late
    for name, steps in after.items():
        assert min(steps) >= killed[name], "it went on from the checkpoint"
        falls += sum(later < earlier for earlier, later in pairwise(steps))
    assert falls <= 1, "one worker began once more"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = one_after_another(wanted(tmp_path / "alone", config, [0, 1]), data)
    finally:
        torch.set_num_threads(threads)
    for run, info, other in zip(runs, found, alone, strict=True):
        assert info.result is not None and other.result is not None
        timed = {"seconds", "tokens_per_second"}
        assert {k: v for k, v in info.result.items() if k not in timed} == {
            k: v for k, v in other.result.items() if k not in timed
        }
        weights = [path / str(run.settings.seed) / "model.safetensors" for path in (run.out.parent, tmp_path / "alone")]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def test_what_no_machine_has_is_not_waited_for(cluster: Any) -> None:
    for cpus, gpus in ((64, 0.0), (1, 1.0)):
        with pytest.raises(ValueError, match="no machine of the Ray cluster has"), on_ray(cpus, gpus):
            pass
    for cpus, gpus in ((0, 0.0), (1, 2.0)):
        with pytest.raises(ValueError, match="at least one CPU, and at most one GPU"), on_ray(cpus, gpus):
            pass


def test_a_run_that_another_process_holds_is_waited_for(
    data: DataFolder, config: AeroConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [run] = wanted(tmp_path, config, [0], steps=2)
    with pytest.raises(InterruptedError):
        one_after_another([run], data, interrupted_with(InterruptedError))
    slept: list[float] = []
    with locked(run.out):
        monkeypatch.setattr(module, "_LOST_LOCK", 0.0)
        with pytest.raises(AtWorkError):
            module._train(run, data.path, 1, True)
    monkeypatch.setattr(module, "_LOST_LOCK", 60.0)
    held = locked(run.out)
    held.__enter__()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        held.__exit__(None, None, None)

    monkeypatch.setattr(module.time, "sleep", sleep)
    assert module._train(run, data.path, 1, True) == [] and slept == [1]
    assert RunInfo.read(run.out).status == "finished"


def interrupted_with(error: type[Exception]) -> Any:
    def interrupt(name: str, now: TrainingProgress) -> None:
        raise error

    return interrupt


def test_a_run_that_is_not_to_be_seen_here_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LATE", 0.0)
    with pytest.raises(ValueError, match="put it where all machines of the cluster have the same storage"):
        module._seen(tmp_path / "nowhere")


def test_the_last_row_of_a_file_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert last_row(path) is None
    path.write_text("")
    assert last_row(path) is None
    rows = [json.dumps({"step": step, "loss": 1.0}) for step in (1, 2)]
    path.write_text(f"{rows[0]}\n{rows[1][:5]}")
    assert last_row(path) == {"step": 1, "loss": 1.0}
    path.write_text(f"{rows[0]}\n{rows[1]}\n")
    assert last_row(path) == {"step": 2, "loss": 1.0}


@pytest.mark.parametrize(
    "verb",
    [
        ("recipe", "leaky-relu", "--data", "DATA", "--out", "OUT"),
        ("ladder", "OUT", "--data", "DATA", "--size", "tiny"),
        ("search", "OUT", "--data", "DATA", "--size", "tiny", "--budget", "1GB", "--layers", 1, "--heads", 2),
        ("bench", "study", "DATA", "--out", "OUT", "--size", "tiny"),
    ],
    ids=lambda verb: verb[0],
)
def test_verbs_that_train_many_runs_leave_it_to_ray(
    verb: tuple[object, ...],
    data: DataFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[tuple[int, float]] = []

    @contextmanager
    def instead(cpus: int, gpus: float) -> Iterator[Any]:
        asked.append((cpus, gpus))

        def train(runs: Sequence[Wanted], folder: DataFolder, on_progress: Any = None) -> list[RunInfo]:
            if len(asked) > 1:
                raise KeyboardInterrupt
            raise ValueError(f"asked for {runs[0].out.relative_to(tmp_path)}")

        yield train

    monkeypatch.setattr(module, "on_ray", instead)
    monkeypatch.setitem(SIZES, "tiny", Size(data.info.vocab_size, 16, 1, 2, 16))
    places: dict[object, object] = {"DATA": data.path, "OUT": tmp_path / "out"}
    words = [places.get(word, word) for word in verb]
    options = ["--on", "ray", "--cpus-per-run", 2, "--gpus-per-run", 0.5]
    assert aero(*words, *options, monkeypatch=monkeypatch) == 1
    assert capsys.readouterr().err.startswith("error: asked for out/") and asked == [(2, 0.5)]
    assert aero(*words, *options, monkeypatch=monkeypatch) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on\n"
    assert aero(*words, "--cpus-per-run", 2, monkeypatch=monkeypatch) == 1
    assert "give --on ray with them" in capsys.readouterr().err
