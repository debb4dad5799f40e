"""One process or many: `torchrun --nproc-per-node N -m aero.cli.main train ...` starts N that train one model.

The main process alone writes files and prints. Processes talk over NCCL between GPUs, and over gloo between CPUs.
"""

from __future__ import annotations

import os
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial

_Value = TypeVar("_Value")


def join() -> PartialState:
    """This process's place among those that torchrun started; alone where it started none."""
    return PartialState(cpu=not torch.accelerator.is_available())


def is_main() -> bool:
    """Whether this is the process that writes, known before it joined the others."""
    return os.environ.get("RANK", "0") == "0"


def told_by_main(value: _Value) -> _Value:
    """The main process's value, in every process; all of them must ask."""
    values = [value]
    broadcast_object_list(values)
    return values[0]


def any_of_all(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process; every one of them must ask."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return flag
    found = torch.tensor(float(flag), device=device)
    torch.distributed.all_reduce(found)
    return bool(found.item() > 0)


def whole(parameter: Tensor) -> Tensor:
    """A parameter as a whole, where processes hold shards of it. Its gradient is the mean over the processes."""
    if not isinstance(parameter, DTensor):
        return parameter
    return parameter.full_tensor(grad_placements=[Partial("avg")] * parameter.device_mesh.ndim)
