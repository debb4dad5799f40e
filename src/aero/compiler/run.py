"""A model as a server needs it. torch is needed for the models of runs alone, not for compiled ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aero.compiler.compiled import Compiled
from aero.compiler.folder import is_compiled, read
from aero.files import manifest
from aero.files.reading import present
from aero.graph.ring_plan import RingPlan

if TYPE_CHECKING:
    from aero.models import AeroForCausalLM

WEIGHTS = "model.safetensors"


def load_model(run: Path) -> AeroForCausalLM:
    """The trained model of a run folder, for evaluation. FileNotFoundError or ValueError say what is wrong with it."""
    from aero.models import AeroForCausalLM

    if not present(run / "config.json"):
        raise FileNotFoundError(f"no run at {run}; make one with `aero train`")
    files = manifest.verify(run)
    if not present(run / WEIGHTS) or (files is not None and WEIGHTS not in files):
        raise FileNotFoundError(f"{run} has no model yet; go on with `aero train {run} --resume`")
    model: AeroForCausalLM = AeroForCausalLM.from_pretrained(run)
    return model.eval()


class CompiledRun:
    """A model as a server needs it: compiled and verified once. `compiled` has the program for each step."""

    def __init__(self, notation: str, compiled: Compiled, plan: RingPlan | None = None) -> None:
        graph = compiled.program.graph
        self.notation = notation
        self.context = compiled.context
        self.vocab_size = graph.shapes[graph.output][1]
        self.compiled = compiled
        self.plan = plan

    @classmethod
    def of_model(cls, model: AeroForCausalLM) -> CompiledRun:
        from aero.compiler.compile import compile

        return cls(str(model.config.notation), compile(model, softmax_base="2"))

    @classmethod
    def load(cls, folder: Path) -> CompiledRun:
        """Of a run folder, which is compiled now, or of a folder that `aero compile` made."""
        if is_compiled(folder):
            info, compiled, plan = read(folder)
            return cls(info.notation, compiled, plan)
        return cls.of_model(load_model(folder))
