"""Where the course of training is drawn while it runs: TensorBoard, and Weights & Biases where the user has it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class Scalars:
    """Numbers by name and step. Make it in the one process that writes.

    purge_step: what TensorBoard has from this step on is dropped (the run goes on from before it).
    wandb_project: also log there; ValueError where the package is missing.
    """

    def __init__(self, tensorboard: Path, name: str, purge_step: int, wandb_project: str | None = None) -> None:
        self._tensorboard = SummaryWriter(str(tensorboard), purge_step=purge_step)
        self._wandb: Any = None
        if wandb_project is not None:
            check_wandb()
            import wandb

            self._wandb = wandb.init(project=wandb_project, name=name, id=name, resume="allow")

    def add(self, values: Mapping[str, float], step: int) -> None:
        for key, value in values.items():
            self._tensorboard.add_scalar(key, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)

    def close(self) -> None:
        self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()


def check_wandb() -> None:
    """ValueError where Weights & Biases is not installed."""
    if find_spec("wandb") is None:
        raise ValueError("Weights & Biases is not installed; pip install wandb, or leave out the project")
