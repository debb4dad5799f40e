"""EleutherAI's lm-evaluation-harness on a run, through the harness's own Hugging Face loader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from aero.train.run_folder import RunInfo


def run_tasks(
    run: Path, tasks: Sequence[str], task_folder: Path | None = None, limit: int | None = None, batch_size: int = 8
) -> dict[str, dict[str, float]]:
    """The harness's metrics of each task, by name, of a finished run.

    task_folder: where YAML files describe tasks of one's own; limit: examples of each task, None: all. ValueError for
    an unknown task or a run that is not finished; ConnectionError where a task's data cannot be reached.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    info = RunInfo.read_finished(run)
    manager = TaskManager(include_path=str(task_folder) if task_folder is not None else None)
    if unknown := [name for name in tasks if name not in manager.all_tasks]:
        raise ValueError(
            f"the harness has no task {unknown[0]!r}; see `lm-eval ls tasks`, or name a folder of your own"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(run), "dtype": "float32", "max_length": info.context},
        tasks=list(tasks),
        task_manager=manager,
        limit=limit,
        batch_size=batch_size,
        device=device,
        bootstrap_iters=0,
    )
    assert found is not None  # None only in a process that is not the main one
    return {name: _metrics(values) for name, values in found["results"].items()}


def _metrics(values: dict[str, Any]) -> dict[str, float]:
    """ "acc,none" becomes "acc"; standard errors are left out where they were not computed."""
    return {key.removesuffix(",none"): float(v) for key, v in values.items() if isinstance(v, (int, float))}
