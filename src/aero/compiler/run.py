"""A trained run as engines need it: a compiled program for each length of prompt."""

from __future__ import annotations

from pathlib import Path

from aero.compiler.compile import compile
from aero.graph import Program
from aero.models import AeroForCausalLM


def load_model(run: Path) -> AeroForCausalLM:
    """The trained model of a run folder, for evaluation. FileNotFoundError or ValueError say what is wrong with it."""
    if not (run / "config.json").is_file():
        raise FileNotFoundError(f"no run at {run}; make one with `aero train`")
    if not (run / "model.safetensors").is_file():
        raise FileNotFoundError(f"{run} has no model yet; go on with `aero train {run} --resume`")
    model: AeroForCausalLM = AeroForCausalLM.from_pretrained(run)
    return model.eval()


class CompiledRun:
    """A model as a server needs it: compiled and verified once, for every length of prompt."""

    def __init__(self, model: AeroForCausalLM) -> None:
        self.notation = str(model.config.notation)
        self.context = int(model.config.context)
        self.vocab_size = int(model.config.vocab_size)
        self.compiled = compile(model)

    @classmethod
    def load(cls, run: Path) -> CompiledRun:
        return cls(load_model(run))

    def program_for(self, length: int) -> Program:
        """The program for a prompt of `length` tokens. ValueError beyond the context."""
        return self.compiled.prefill(length)
