"""Proof by computation: a rewritten program gives the logits of what it came from, in float64."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch

from aero.graph import Program, interpret
from aero.models import AeroForCausalLM

# Exact rewrites differ by float64 rounding alone: about 1e-16 for each operation, through sums of thousands of terms
# and some tens of layers. A wrong rewrite shows at 1e-3 and above.
TOLERANCE = 1e-9


class VerificationError(ValueError):
    """A compiled program does not compute what the model computes."""


@dataclass(frozen=True)
class Verification:
    """max_abs_error: largest difference of a logit; scale: largest logit, at least 1; prompts: number compared."""

    max_abs_error: float
    scale: float
    prompts: int

    @property
    def passed(self) -> bool:
        # Written so that NaN fails.
        return self.max_abs_error <= TOLERANCE * self.scale


def model_logits(model: AeroForCausalLM, ids: np.ndarray) -> np.ndarray:
    """The model's own last-position logits [prompts, V] in float64; ids [prompts, length]. The model is not altered."""
    twin = copy.deepcopy(model).cpu().double().eval()
    with torch.inference_mode():
        return twin(input_ids=torch.as_tensor(ids)).logits[:, -1].numpy()


def verify(program: Program, model: AeroForCausalLM, *, prompts: int = 2, seed: int = 0) -> Verification:
    """Compare a program with its model on random prompts. Raises VerificationError when they differ."""
    ids = np.random.default_rng(seed).integers(model.config.vocab_size, size=(prompts, program.graph.length))
    expected = model_logits(model, ids)
    found = np.concatenate([interpret(program, row) for row in ids])
    result = Verification(float(np.abs(found - expected).max()), float(max(1.0, np.abs(expected).max())), prompts)
    if not result.passed:
        raise VerificationError(
            f"the compiled program differs from the model by {result.max_abs_error:.3g} in a logit "
            f"(logits up to {result.scale:.3g}); this is a bug in aero, please report it"
        )
    return result
