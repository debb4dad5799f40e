"""The states of a training run on disk: each one whole and hashed, and the last good one to go on from.

checkpoints/checkpoint-STEP/
    model.safetensors config.json ...     Hugging Face's Trainer writes them: weights,
    optimizer.pt scheduler.pt             the optimizer's and the learning rate's state (FSDP: folders of shards),
    rng_state*.pth trainer_state.json     random numbers of each process, the course of training
    checkpoint.json                       their hashes; comes last, so a checkpoint that has it is whole
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from aero.files import manifest
from aero.files.atomic import sync_tree
from aero.train.run_folder import CHECKPOINTS

FORMAT_VERSION = 1
FILE = "checkpoint.json"
_PREFIX = "checkpoint-"

logger = logging.getLogger(__name__)


def seal(checkpoint: Path) -> None:
    """Bring a checkpoint to the disk, and write the hashes of all its files."""
    sync_tree(checkpoint)
    names = (path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if path.is_file())
    manifest.write(checkpoint / FILE, {"format_version": FORMAT_VERSION}, names)


def latest(run: Path) -> Path | None:
    """The last good checkpoint of a run, or None."""
    return next((checkpoint for checkpoint in _all(run) if _fault(checkpoint) is None), None)


def take_up(run: Path) -> Path | None:
    """The checkpoint to go on from; None to begin at the beginning. Those after it that are no good are removed.

    What was removed and why is logged as a warning. ValueError where there are checkpoints, complete but damaged, and
    no good one: then none is removed.
    """
    bad: dict[Path, str] = {}
    good = None
    for checkpoint in _all(run):
        fault = _fault(checkpoint)
        if fault is None:
            good = checkpoint
            break
        bad[checkpoint] = fault
    damaged = [fault for checkpoint, fault in bad.items() if (checkpoint / FILE).exists()]
    if good is None and damaged:
        raise ValueError(f"no checkpoint of {run} is good: {damaged[0]}; put it back, or train again with --force")
    going_on = f"going on from {good}" if good else "beginning again"
    for checkpoint, fault in bad.items():
        logger.warning("%s; %s", fault, going_on)
        shutil.rmtree(checkpoint)
    return good


def _all(run: Path) -> list[Path]:
    """Checkpoints, good or not, the last one first."""
    found = {
        int(number): path
        for path in (run / CHECKPOINTS).glob(f"{_PREFIX}*")
        if (number := path.name.removeprefix(_PREFIX)).isdecimal()
    }
    return [found[step] for step in sorted(found, reverse=True)]


def _fault(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    if not (checkpoint / FILE).exists():
        return f"{checkpoint} was not written to its end"
    try:
        _, files = manifest.read(checkpoint / FILE, "it is not used", FORMAT_VERSION)
        manifest.check(checkpoint, files, "it is not used")
    except (OSError, ValueError) as error:
        return str(error)
    return None
