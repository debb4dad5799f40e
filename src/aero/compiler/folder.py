"""A compiled model on disk.

    compiled.json        what it is, the hashes of the other files, and what was found on the way
    graph.json           structure of the program for every position of the context (public)
    weights.safetensors  its weights (the server's)
    ring_plan.json       number formats for fixed-point engines, where calibration text was given

Programs for prompts and for next tokens are made from the one program when they are asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aero
from aero.compiler.compile import Compiled
from aero.graph.ring_plan import RingPlan, load_plan
from aero.graph.serialize import load as load_program
from aero.graph.serialize import save as save_program

FORMAT_VERSION = 1
INFO_FILE = "compiled.json"
PLAN_FILE = "ring_plan.json"


@dataclass(frozen=True)
class Info:
    """What `compiled.json` says.

    notation: in the papers' names; context: tokens; vocab_size: V; digest: of the graph; files: SHA-256 of each other
    file; report: the form of the FFNs and why, the verification, accuracy, as plain data; version: of the aero that
    compiled it.
    """

    notation: str
    context: int
    vocab_size: int
    digest: str
    files: Mapping[str, str]
    report: Mapping[str, Any]
    version: str = aero.__version__
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.format_version != FORMAT_VERSION:
            raise ValueError(
                f"this compiled model has format version {self.format_version}, and this aero reads {FORMAT_VERSION}; "
                "compile it again with `aero compile`"
            )


def is_compiled(folder: Path) -> bool:
    return (folder / INFO_FILE).is_file()


def write(
    folder: Path,
    compiled: Compiled,
    notation: str,
    *,
    plan: RingPlan | None = None,
    report: Mapping[str, Any] | None = None,
) -> Info:
    """Write a compiled model into an existing folder; `compiled.json` comes last, so a folder that has it is whole.

    Files that are there already, such as a tokenizer, are part of it, and hashed with the rest.
    """
    save_program(compiled.program, folder)
    if plan is not None:
        (folder / PLAN_FILE).write_text(json.dumps(plan.to_json(), indent=1) + "\n")
    graph = compiled.program.graph
    info = Info(
        notation=notation,
        context=graph.length,
        vocab_size=graph.shapes[graph.output][1],
        digest=graph.digest,
        files={path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.name != INFO_FILE},
        report=dict(report or {}),
    )
    (folder / INFO_FILE).write_text(json.dumps(asdict(info), indent=1) + "\n")
    return info


def read_info(folder: Path) -> Info:
    """What `compiled.json` says. FileNotFoundError or ValueError say what is wrong with it."""
    if not is_compiled(folder):
        raise FileNotFoundError(f"{folder} holds no {INFO_FILE}; make one with `aero compile`")
    try:
        return Info(**json.loads((folder / INFO_FILE).read_text()))
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{folder / INFO_FILE} is not readable ({error}); compile the model again") from None


def read(folder: Path) -> tuple[Info, Compiled, RingPlan | None]:
    """A compiled model, every file checked against its hash. FileNotFoundError or ValueError say what is wrong."""
    info = read_info(folder)
    for name, expected in info.files.items():
        if Path(name).name != name or not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has lost {name}; compile the model again")
        if _sha256(folder / name) != expected:
            raise ValueError(f"{folder / name} is not what was compiled; compile the model again")
    program = load_program(folder)
    if (program.graph.digest, program.graph.length) != (info.digest, info.context):
        raise ValueError(f"the graph in {folder} is not the one that {INFO_FILE} names; compile the model again")
    plan = load_plan(folder / PLAN_FILE) if PLAN_FILE in info.files else None
    return info, Compiled(program), plan


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
