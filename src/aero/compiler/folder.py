"""A compiled model on disk.

    compiled.json        what it is, the hashes of the other files, and what was found on the way
    graph.json           structure of the program for every position of the context (public), and the weights' hash
    weights.safetensors  its weights (the server's)
    ring_plan.json       number formats for fixed-point engines, where calibration text was given

Programs for prompts and for next tokens are made from the one program when they are asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aero
from aero.compiler.compiled import Compiled
from aero.files import manifest
from aero.files.atomic import write_text
from aero.files.reading import interpreting, present, typed
from aero.graph.ring_plan import RingPlan, load_plan
from aero.graph.serialize import WEIGHTS_FILE
from aero.graph.serialize import load as load_program
from aero.graph.serialize import save as save_program
from aero.graph.task import Task

FORMAT_VERSION = 3
INFO_FILE = "compiled.json"
PLAN_FILE = "ring_plan.json"
_REMEDY = "compile the model again with `aero compile`, or copy the folder again"


@dataclass(frozen=True)
class Info:
    """What `compiled.json` says.

    notation: in the papers' names; context: tokens; vocab_size: V; end_tokens: ids after which a text has ended;
    digest: of the graph; task: what outputs are for; report: the form of the FFNs and why, the verification, accuracy,
    as plain data; version: of the aero that compiled it.
    """

    notation: str
    context: int
    vocab_size: int
    end_tokens: tuple[int, ...]
    digest: str
    task: Task
    report: Mapping[str, Any]
    version: str = aero.__version__
    format_version: int = FORMAT_VERSION


def is_compiled(folder: Path) -> bool:
    return present(folder / INFO_FILE)


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
        write_text(folder / PLAN_FILE, json.dumps(plan.to_json(), indent=1) + "\n")
    graph = compiled.program.graph
    info = Info(
        notation=notation,
        context=graph.length,
        vocab_size=graph.vocab_size,
        end_tokens=compiled.end_tokens,
        digest=graph.digest,
        task=compiled.task,
        report=dict(report or {}),
    )
    others = {path.name for path in folder.iterdir()} - {INFO_FILE, WEIGHTS_FILE}
    manifest.write(folder / INFO_FILE, asdict(info), others)
    return info


def read(folder: Path) -> tuple[Info, Compiled, RingPlan | None]:
    """A compiled model, every file checked against its hash. FileNotFoundError or ValueError say what is wrong."""
    data, files = manifest.read(folder / INFO_FILE, _REMEDY, FORMAT_VERSION)
    manifest.check(folder, files, _REMEDY)
    manifest.check_nothing_added(folder, {INFO_FILE, WEIGHTS_FILE, *files})
    with interpreting(str(folder / INFO_FILE), _REMEDY):
        info: Info = typed(Info, data)
    program = load_program(folder)
    if (program.graph.digest, program.graph.length) != (info.digest, info.context):
        raise ValueError(f"the graph in {folder} is not the one that {INFO_FILE} names; {_REMEDY}")
    plan = load_plan(folder / PLAN_FILE) if PLAN_FILE in files else None
    return info, Compiled(program, end_tokens=tuple(info.end_tokens), task=info.task), plan
