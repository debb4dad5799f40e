"""Run by test_integrity.py: train once in peace, and once killed (SIGKILL) at random moments and resumed each time.

    python killed.py DATA CONFIG SETTINGS OUT KILLS SEED

Processes are forked after the imports, before any computing; prints in how many of the kills there was something to
resume.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from aero.data.folder import DataFolder
from aero.models import AeroConfig
from aero.train.run import resume, train
from aero.train.settings import TrainSettings


def forked(work: Callable[[], object], kill_after: float | None = None) -> int:
    """The exit code of a process that works; killed after so many seconds."""
    pid = os.fork()
    if pid == 0:
        try:
            torch.set_num_threads(1)
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    data, out = Path(sys.argv[1]), Path(sys.argv[4])
    config, settings = json.loads(sys.argv[2]), TrainSettings.from_json(json.loads(sys.argv[3]))
    kills, chance = int(sys.argv[5]), random.Random(int(sys.argv[6]))

    def begin(run: Path) -> None:
        train(run, DataFolder(data), AeroConfig(**config), settings)

    started = time.perf_counter()
    assert forked(lambda: begin(out / "whole")) == 0
    seconds = time.perf_counter() - started
    resumed = 0
    for _ in range(kills):
        there = (out / "killed" / "run.json").exists()
        resumed += there
        code = forked(
            (lambda: resume(out / "killed")) if there else (lambda: begin(out / "killed")),
            kill_after=chance.uniform(0.2, 1.0) * seconds,
        )
        assert code in (0, -signal.SIGKILL), code
    assert forked(lambda: resume(out / "killed")) == 0
    print(resumed)


if __name__ == "__main__":
    main()
