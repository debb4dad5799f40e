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
    """The programs of one model, each compiled when its length is first asked for."""

    def __init__(self, model: AeroForCausalLM) -> None:
        self.model = model
        self._programs: dict[int, Program] = {}

    @classmethod
    def load(cls, run: Path) -> CompiledRun:
        return cls(load_model(run))

    @property
    def notation(self) -> str:
        return str(self.model.config.notation)

    @property
    def context(self) -> int:
        return int(self.model.config.context)

    @property
    def vocab_size(self) -> int:
        return int(self.model.config.vocab_size)

    def program_for(self, length: int) -> Program:
        """The program for a prompt of `length` tokens. ValueError beyond the context."""
        if length not in self._programs:
            self._programs[length] = compile(self.model, length)
        return self._programs[length]
