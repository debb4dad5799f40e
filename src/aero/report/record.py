"""One measured piece of work, and files of them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import aero
from aero.engines.engine import RunCost
from aero.files.atomic import write_text
from aero.files.reading import interpreting, read_json, typed


def machine() -> str:
    """This machine in a few words: processor, cores, system."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux, or an unusual Linux: the architecture has to do
    return f"{name}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


@dataclass(frozen=True)
class Record:
    """What was done, by which engine, and what it cost. None where not known.

    work: name of the piece of work ("next-token", "linear/128x768x768", ...).
    engine: name of the engine; an insecure one says so in its name.
    notation: the model, in the papers' names.
    context: number of tokens read.
    seconds: wall time.
    bytes_client_to_server, bytes_server_to_client: on the wire.
    rounds: message delays on the longest chain of messages that depend on each other (`aero.wire.traffic`).
    max_abs_error: largest difference from float64.
    extra: further keys of this kind of work, written beside the others.
    """

    work: str
    engine: str
    notation: str | None = None
    context: int | None = None
    seconds: float | None = None
    bytes_client_to_server: int | None = None
    bytes_server_to_client: int | None = None
    rounds: int | None = None
    max_abs_error: float | None = None
    machine: str = field(default_factory=machine)
    version: str = aero.__version__
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.work or not self.engine:
            raise ValueError("a record names its work and its engine")
        for name in (
            "context",
            "seconds",
            "bytes_client_to_server",
            "bytes_server_to_client",
            "rounds",
            "max_abs_error",
        ):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} is {value}; a measurement is not negative (leave it out where not known)")
        if clash := set(self.extra) & {f.name for f in fields(self)}:
            raise ValueError(f"extra keys {sorted(clash)} are keys of every record")

    @classmethod
    def of_cost(cls, cost: RunCost, work: str, engine: str, notation: str, context: int | None) -> Record:
        """A piece of work that an engine did, at what it says it cost."""
        return cls(
            work,
            engine,
            notation,
            context,
            cost.seconds,
            cost.bytes_client_to_server,
            cost.bytes_server_to_client,
            cost.rounds,
            extra={"messages": cost.messages},
        )

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        extra = data.pop("extra")
        return {**data, **extra}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Record:
        """What `to_json` gave. ValueError where it is no object, or a key has a value of another type."""
        if not isinstance(data, dict):
            raise ValueError("not a record: it is no JSON object")
        known = {f.name for f in fields(cls)} - {"extra"}
        own = {key: value for key, value in data.items() if key in known}
        with interpreting("the record"):
            return typed(cls, {**own, "extra": {key: value for key, value in data.items() if key not in known}})


STANDARD_OUTPUT = Path("-")
captured: list[str] | None = None
"""What was written to `STANDARD_OUTPUT`, while a verb runs that was told to (`aero.cli.streams`)."""


def write_json(path: Path, data: Any) -> None:
    """Write data as JSON, atomically: a reader sees the old file or the new one, never half of it."""
    text = json.dumps(data, indent=2, allow_nan=False) + "\n"
    if path == STANDARD_OUTPUT and captured is not None:
        captured.append(text)
    else:
        write_text(path, text)


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write a result file: a JSON list of records."""
    write_json(path, [record.to_json() for record in records])


def read_records(path: Path) -> list[Record]:
    """Read a result file. ValueError where the file is none."""
    data = read_json(path)
    if not isinstance(data, list):
        raise ValueError(f"{path} is not a list of records")
    with interpreting(str(path)):
        return [Record.from_json(item) for item in data]
