"""What our own engine's kernels take on a machine, and with it the seconds of what protocols declare.

A machine is a JSON file in `aero/cost/machines`, or one that `aero bench calibrate --engine two-party` wrote: processor
seconds of one thread for each unit of `aero.mpc.work`, and beside them

    ot sent, ot received     a random OT that is used, grown and hashed, with what a protocol makes of it
    byte sent, byte received
    message                  sent or received, with the Python between two of them
    step                     of a run: what an engine does around its protocol
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from aero.cost.named import names, path_of
from aero.files.reading import interpreting, read_json, typed
from aero.mpc.cost import ProtocolCost
from aero.mpc.party import Role
from aero.mpc.work import Work, sum_of

FORMAT_VERSION = 1
SERIAL = ("byte sent", "byte received", "message", "step")
"""What more threads do not make faster; of what else there is, all is taken to be split."""
_PARTS = 4
"""Messages a round, from which on they go in parts: twice as many as two parties exchange."""
_FOLDER = Path(__file__).parent / "machines"


class Computing(NamedTuple):
    """Seconds: of each party's processor, all threads together, and of both on the wall."""

    client: float
    server: float
    wall: float


@dataclass(frozen=True)
class Machine:
    """name: how the command line calls it. level: of the kernels (`aero.kernels.native`). units: seconds of each."""

    name: str
    level: str
    machine: str
    version: str
    units: Mapping[str, float]

    def __post_init__(self) -> None:
        if wrong := [name for name, seconds in self.units.items() if not 0 <= seconds < math.inf]:
            raise ValueError(f"a unit takes seconds, not fewer than 0: {', '.join(sorted(wrong))}; measure anew")

    def _of(self, counts: Work, threads: int) -> tuple[float, float]:
        """Processor seconds of what a party does, and how long that takes."""
        if missing := set(counts) - set(self.units):
            raise ValueError(
                f"the machine {self.name!r} was not measured at {', '.join(sorted(missing))}; measure it anew: "
                "aero bench calibrate --engine two-party"
            )
        seconds = {name: count * self.units[name] for name, count in counts.items()}
        serial = sum(seconds.get(name, 0) for name in SERIAL)
        total = sum(seconds.values())
        return total, serial + (total - serial) / threads

    def computing(self, cost: ProtocolCost, threads: int = 1) -> Computing:
        """Of what a step declares. threads: of each party, on as many cores of its own. ValueError for work that this
        machine was not measured at.

        Both parties compute at the same time where they do the same, as in products of shares; not at all where each
        message answers the one before; nine tenths of the time where messages go in parts, and half otherwise, as
        was measured of nonlinear functions.
        """
        (client, client_wall), (server, server_wall) = (self._of(step_units(cost, role), threads) for role in Role)
        alike = bool(cost.client_work) and cost.client_work == cost.server_work
        in_parts = cost.messages > _PARTS * cost.rounds
        together = 1.0 if alike else 0.0 if cost.messages <= cost.rounds else 0.9 if in_parts else 0.5
        wall = client_wall + server_wall - together * min(client_wall, server_wall)
        return Computing(client, server, wall)

    def to_json(self) -> dict[str, Any]:
        return {"format_version": FORMAT_VERSION, **vars(self), "units": dict(self.units)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Machine:
        if not isinstance(data, Mapping) or data.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"not a machine of format {FORMAT_VERSION}; measure it: aero bench calibrate --engine two-party"
            )
        with interpreting("the machine"):
            return typed(cls, {key: value for key, value in data.items() if key != "format_version"})


@dataclass(frozen=True)
class Computer:
    """A machine that each party has, with so many threads."""

    machine: Machine
    threads: int = 1

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"{self.threads} threads cannot compute anything; give at least 1")

    @property
    def described(self) -> str:
        found = self.machine
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        return f"as {found.name}, measured on {found.machine}: {threads} of each party"

    def computing(self, cost: ProtocolCost) -> Computing:
        """As `Machine.computing`."""
        return self.machine.computing(cost, self.threads)


def units_of(cost: ProtocolCost, role: Role) -> Work:
    """All that a party does for what is declared."""
    client = role is Role.CLIENT
    sent, received = cost.ots_from_client, cost.ots_from_server
    counted = {
        "ot sent": sent if client else received,
        "ot received": received if client else sent,
        "byte sent": cost.bytes_sent(role),
        "byte received": cost.bytes_sent(role.other),
        "message": cost.messages,
    }
    return sum_of(counted, cost.client_work if client else cost.server_work)


def step_units(cost: ProtocolCost, role: Role) -> Work:
    """All that a party does for a step of a run."""
    return {**units_of(cost, role), "step": 1}


def machine_names() -> list[str]:
    """The machines that come with aero."""
    return names(_FOLDER)


def load_machine(name_or_path: str) -> Machine:
    """A machine by name, or from a JSON file. ValueError for neither."""
    return Machine.from_json(read_json(path_of(name_or_path, _FOLDER, "machine")))
