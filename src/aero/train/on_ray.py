"""Many runs at the same time, by Ray: each a task, on this machine or on any of a cluster.

Ray finds machines and starts processes. Where one is lost, its run goes on in another from the last checkpoint, to the
very weights. Folders of data and of runs are on storage that all machines have under the same path: there a run leaves
all that it leaves anywhere, and there its progress is read.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from aero.data.folder import DataFolder
from aero.files.lock import AtWorkError
from aero.train.callbacks import TrainingInterrupted, TrainingProgress
from aero.train.jsonl import last_row
from aero.train.many import OnProgress, TrainMany, Wanted, one_after_another
from aero.train.processes import join
from aero.train.run_folder import METRICS_FILE, RunInfo

logger = logging.getLogger(__name__)

# What Ray reads when it is imported, or starts: it reports nothing to anybody.
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0"}
_RETRIES = 3
"""Of a run whose process or machine was lost."""
_POLL = 0.5
_LOST_LOCK = 180.0
"""Seconds until storage knows that a machine is lost which held the lock of a run; NFS takes 90 by default."""
_LATE = 90.0
"""Seconds until storage shows to one machine what another has written; NFS takes up to 60 by default."""
_LAST_STEP = 120.0
"""Seconds for runs to finish a step and save, when they are stopped."""
_OBJECTS = 100_000_000
"""Bytes for what tasks exchange on a machine of our own, which is next to nothing."""


class _Stopped(Exception):
    """A worker was told to go, by SIGTERM, and has saved its state: another one goes on with the run."""


@contextmanager
def on_ray(cpus: int = 1, gpus: float = 0.0) -> Iterator[TrainMany]:
    """The way to train many runs on the Ray cluster of RAY_ADDRESS, or without that on one of this machine, which ends
    with the block; in a process that is connected to Ray already, on that.

    cpus: of each run, which computes with as many threads; gpus: of each run, a part of one where several share it.
    Where a run fails, or this process is interrupted, the others finish a step, save and stop, and go on when asked for
    again. ValueError for less than one CPU, more than one GPU, no machine that has as much, under torchrun, and for
    storage that is not shared; ConnectionError where there is no such cluster.
    """
    if cpus < 1 or not 0 <= gpus <= 1:
        raise ValueError(
            f"a run on {cpus} CPUs and {gpus:g} GPUs; give at least one CPU, and at most one GPU: for one run on many, "
            "start aero train by torchrun"
        )
    if join().num_processes > 1:
        raise ValueError("Ray starts the processes; start this without torchrun")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    ours = not ray.is_initialized()
    if ours:
        address = os.environ.get("RAY_ADDRESS") or "local"
        local: dict[str, Any] = (
            {"include_dashboard": False, "object_store_memory": _OBJECTS} if address == "local" else {}
        )
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except ConnectionError as error:
            raise ConnectionError(
                f"{error}: no Ray cluster answers at RAY_ADDRESS; start it, and if it asks for a token, set "
                "RAY_AUTH_MODE=token"
            ) from None
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
            raise ValueError(
                f"no machine of the Ray cluster has {cpus} CPUs and {gpus:g} GPUs for a run; ask for less with "
                "--cpus-per-run and --gpus-per-run, or start a machine that has them"
            )
        yield _Cluster(cpus, gpus)
    finally:
        if ours:
            ray.shutdown()


class _Cluster:
    """A `TrainMany` on the cluster that this process is connected to."""

    def __init__(self, cpus: int, gpus: float) -> None:
        import ray

        self._cpus, self._on_gpu = cpus, gpus > 0
        options: dict[str, Any] = {"max_retries": _RETRIES, "retry_exceptions": [_Stopped]}
        self._train: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, **options)(_train)

    def __call__(
        self, runs: Sequence[Wanted], data: DataFolder, on_progress: OnProgress | None = None
    ) -> list[RunInfo]:
        import ray

        here = data.path.resolve()
        runs = [Wanted(run.name, run.out.resolve(), run.config, run.settings) for run in runs]
        left: dict[Any, Wanted] = {self._train.remote(run, here, self._cpus, self._on_gpu): run for run in runs}
        shown: dict[str, int] = {}
        try:
            while left:
                done, _ = ray.wait(list(left), num_returns=1, timeout=_POLL)
                if on_progress is not None:
                    _show(left.values(), shown, on_progress)
                for task in done:
                    for warning in _answer(task):
                        logger.warning("%s: %s", left[task].name, warning)
                    del left[task]
        finally:
            for task in left:
                ray.cancel(task)
            if left:
                ray.wait(list(left), num_returns=len(left), timeout=_LAST_STEP)
        return [_seen(run.out) for run in runs]


def _train(run: Wanted, data: Path, threads: int, on_gpu: bool) -> list[str]:
    """The task: what `one_after_another` does with one run. Returns what our packages warned of."""
    torch.set_num_threads(threads)
    if not on_gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves all of them to tasks that asked for none
    with _warnings() as said:
        until = time.monotonic() + _LOST_LOCK
        while True:
            try:
                one_after_another([run], DataFolder(data))
                return said
            except TrainingInterrupted as stopped:
                raise _Stopped(str(stopped)) from None
            except AtWorkError:
                # Perhaps it is the lost process from which this one takes over.
                if time.monotonic() > until:
                    raise
                time.sleep(1)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    said: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    handler, ours = Collect(logging.WARNING), logging.getLogger("aero")
    ours.addHandler(handler)
    try:
        yield said
    finally:
        ours.removeHandler(handler)


def _answer(task: Any) -> list[str]:
    """What a task that is done returned. Raises its own error; RuntimeError where its workers were lost too often."""
    import ray

    try:
        said: list[str] = ray.get(task)
        return said
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, Exception) else RuntimeError(str(error)) from None
    except ray.exceptions.RayError as error:
        raise RuntimeError(f"a run was lost {_RETRIES + 1} times with its worker: {error}") from None


def _show(runs: Iterable[Wanted], shown: dict[str, int], on_progress: OnProgress) -> None:
    """Tell how far the runs are, as their last lines of metrics say."""
    for run in runs:
        row = last_row(run.out / METRICS_FILE)
        if row is not None and row.get("step") != shown.get(run.name):
            shown[run.name] = row["step"]
            now = TrainingProgress(row["step"], run.settings.steps, row["loss"], row["tokens_per_second"])
            on_progress(run.name, now)


def _seen(out: Path) -> RunInfo:
    """The run that a worker has made. ValueError where it is not to be seen here."""
    until = time.monotonic() + _LATE
    while True:
        try:
            return RunInfo.read(out)
        except FileNotFoundError:
            if time.monotonic() > until:
                raise ValueError(
                    f"{out} was trained by a worker, and is not to be seen here; put it where all machines of the "
                    "cluster have the same storage"
                ) from None
            time.sleep(1)
