"""A model as a server needs it. torch is needed for the models of runs alone, not for compiled ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aero.compiler.compiled import Compiled
from aero.compiler.folder import is_compiled, read
from aero.files import manifest
from aero.files.reading import present, read_json
from aero.graph import Program
from aero.graph.ring_plan import RingPlan
from aero.graph.task import Task

if TYPE_CHECKING:
    from aero.compiler.encoder import EncoderModel
    from aero.models import AeroForCausalLM

WEIGHTS = "model.safetensors"
MODEL_TYPE = "aero_encoder"
"""What config.json of an encoder says (`aero.compiler.encoder`)."""


def load_model(run: Path) -> AeroForCausalLM:
    """The trained model of a run folder, for evaluation. FileNotFoundError or ValueError say what is wrong with it."""
    from aero.models import AeroForCausalLM

    if not present(run / "config.json"):
        raise FileNotFoundError(f"no run at {run}; make one with `aero train`")
    if is_encoder(run):
        raise ValueError(f"{run} is an encoder, which continues no text; use `aero {load_encoder(run).task.kind}`")
    files = manifest.verify(run)
    if not present(run / WEIGHTS) or (files is not None and WEIGHTS not in files):
        raise FileNotFoundError(f"{run} has no model yet; go on with `aero train {run} --resume`")
    model: AeroForCausalLM = AeroForCausalLM.from_pretrained(run)
    return model.eval()


def is_encoder(folder: Path) -> bool:
    """Whether a run folder holds one."""
    config = folder / "config.json"
    found = read_json(config) if present(config) else None
    return isinstance(found, dict) and found.get("model_type") == MODEL_TYPE


def load_encoder(run: Path) -> EncoderModel:
    """The encoder of a run folder. FileNotFoundError or ValueError say what is wrong with it."""
    from aero.compiler.encoder import EncoderModel

    manifest.verify(run)
    return EncoderModel.load(run)


@dataclass(frozen=True)
class Plain:
    """An encoder to be computed in float64. program: for a text of so many tokens."""

    notation: str
    task: Task
    context: int
    program: Callable[[int], Program]


def load_encoder_or_compiled(folder: Path) -> Plain:
    """Of a run folder, as it was imported, or of a compiled model. ValueError for a decoder's."""
    if is_compiled(folder):
        info, compiled, _ = read(folder)
        return Plain(info.notation, compiled.task, compiled.context, compiled.prefill)
    if not is_encoder(folder):
        raise ValueError(f"{folder} holds no encoder; make one with `aero convert`, of a BERT for example")
    encoder = load_encoder(folder)
    return Plain(encoder.notation, encoder.task, encoder.structure.context, encoder.program)


class CompiledRun:
    """A model as a server needs it: compiled and verified once. `compiled` has the program for each step."""

    def __init__(self, notation: str, compiled: Compiled, plan: RingPlan | None = None) -> None:
        self.notation = notation
        self.context = compiled.context
        self.vocab_size = compiled.program.graph.vocab_size
        self.compiled = compiled
        self.plan = plan

    @classmethod
    def of_model(cls, model: AeroForCausalLM) -> CompiledRun:
        from aero.compiler.compile import compile

        return cls(str(model.config.notation), compile(model, softmax_base="2"))

    @classmethod
    def of_encoder(cls, encoder: EncoderModel) -> CompiledRun:
        from aero.compiler.compile import compile_encoder

        return cls(encoder.notation, compile_encoder(encoder, softmax_base="2"))

    @classmethod
    def load(cls, folder: Path) -> CompiledRun:
        """Of a run folder, which is compiled now, or of a folder that `aero compile` made."""
        if is_compiled(folder):
            info, compiled, plan = read(folder)
            return cls(info.notation, compiled, plan)
        if is_encoder(folder):
            return cls.of_encoder(load_encoder(folder))
        return cls.of_model(load_model(folder))
