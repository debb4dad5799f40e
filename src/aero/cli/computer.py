"""On which machine verbs say that our own engine computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aero.cost.machine import Computer


def computer(name: str | None, threads: int) -> Computer:
    """By `--machine`, or else what comes with aero for this processor's kernels; portable where nothing does."""
    from aero.cost.machine import Computer, load_machine, machine_names
    from aero.kernels import native

    level = native.level()
    return Computer(load_machine(name or (level if level in machine_names() else "portable")), threads)
