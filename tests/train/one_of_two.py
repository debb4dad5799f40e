"""One of the processes that torchrun starts for `test_processes`: trains as told, over gloo on CPUs.

python -m torch.distributed.run --nproc-per-node 2 one_of_two.py RUN DATA CONFIG_JSON SETTINGS_JSON [resume | sharded]
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from accelerate import PartialState, state
from accelerate.utils import DistributedType

from aero.data.folder import DataFolder
from aero.models import AeroConfig
from aero.train.callbacks import TrainingInterrupted, TrainingProgress
from aero.train.run import resume, train
from aero.train.settings import TrainSettings

run, data, config, settings, *how = sys.argv[1:]
torch.set_num_threads(1)

if "sharded" in how:
    # Accelerate shards on accelerators alone; the sharding itself is PyTorch's, and works over gloo.
    begin = state.AcceleratorState.__init__

    def begin_as_on_gpus(self, *args, **options):
        if PartialState(cpu=True).distributed_type is DistributedType.MULTI_CPU:
            PartialState(cpu=True).distributed_type = DistributedType.MULTI_GPU
        begin(self, *args, **options)

    state.AcceleratorState.__init__ = begin_as_on_gpus


def stop(now: TrainingProgress) -> None:
    if "stop" in how and now.step == 5:
        os.kill(os.getpid(), signal.SIGINT)  # in the main process alone, which is the one that is told


try:
    if "resume" in how:
        resume(Path(run))
    else:
        train(
            Path(run),
            DataFolder(data),
            AeroConfig(**json.loads(config)),
            TrainSettings.from_json(json.loads(settings)),
            on_progress=stop,
        )
except TrainingInterrupted:
    print("interrupted")
