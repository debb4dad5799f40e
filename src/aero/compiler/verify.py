"""Proof by computation: a compiled program gives the model's own logits, at every position, in float64; or an
encoder's output.

The tolerance is derived, not chosen. Exact rewrites change roundings alone, so the difference may be as large as
roundings can make it: each value of the model's graph is disturbed at random by the size of a float64 rounding, times
2^20 so that it stands out, and what reaches the logits is scaled back. A rewrite that inverts matrices of condition
number c may amplify roundings by c. A wrong rewrite shows at many orders of magnitude above.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from aero.compiler.lower import lower
from aero.compiler.positions import prefix
from aero.graph import OPS, Program, interpret
from aero.graph.graph import INPUT
from aero.graph.interpret import apply
from aero.models import AeroForCausalLM

_ROUNDING = 2.0**-53
_LARGER = 2.0**20
# The disturbance is one sample of what roundings do; the largest of many, in two programs, is some times as large.
_SAFETY = 64.0
# Beyond these, a sample of positions is enough: every weight is read by then, save rows of the position table.
_NOISE_POSITIONS = 32
_PRODUCTS = 1e12


class VerificationError(ValueError):
    """A compiled program does not compute what the model computes."""


@dataclass(frozen=True)
class Verification:
    """max_abs_error: largest difference of a logit; tolerance: what roundings explain; positions: number compared."""

    max_abs_error: float
    tolerance: float
    positions: int

    @property
    def passed(self) -> bool:
        # Written so that NaN fails.
        return self.max_abs_error <= self.tolerance


def model_logits(model: AeroForCausalLM, ids: np.ndarray) -> np.ndarray:
    """The model's own last-position logits [prompts, V] in float64; ids [prompts, length]. The model is not altered."""
    return every_logit(model, ids)[:, -1]


def every_logit(model: AeroForCausalLM, ids: np.ndarray) -> np.ndarray:
    """The model's own logits [prompts, length, V] in float64."""
    twin = copy.deepcopy(model).cpu().double().eval()
    with torch.inference_mode():
        logits: np.ndarray = twin(input_ids=torch.as_tensor(ids)).logits.numpy()
    return logits


def verify(
    program: Program,
    model: AeroForCausalLM,
    *,
    lowered: Program | None = None,
    condition: float = 1.0,
    seed: int = 0,
) -> Verification:
    """Compare a program for every position with its model, on a random prompt. Raises VerificationError.

    lowered: what `lower` made of the model, for the same context; made again where it is not given.
    condition: the largest condition number of a matrix that was inverted.
    """
    lowered = lowered or lower(model, program.graph.length, every_position=True)
    return verify_rewritten(
        program, lowered, lambda ids: every_logit(model, ids[None])[0], condition=condition, seed=seed
    )


def verify_rewritten(
    program: Program,
    lowered: Program,
    model: Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    condition: float = 1.0,
    seed: int = 0,
) -> Verification:
    """The same for a program that `lowered` was rewritten to. model: ids -> its outputs in float64; by default what
    `lowered` computes."""
    length = _positions(program)
    ids = np.random.default_rng(seed).integers(program.graph.vocab_size, size=length)
    expected = interpret(prefix(lowered, length), ids) if model is None else model(ids)
    found = interpret(prefix(program, length), ids)
    reference = prefix(lowered, min(length, _NOISE_POSITIONS))
    tolerance = _SAFETY * condition * rounding_noise(reference, ids[: reference.graph.length], seed)
    result = Verification(float(np.abs(found - expected).max()), tolerance, length)
    if not result.passed:
        raise VerificationError(
            f"the compiled program differs from the model by {result.max_abs_error:.3g} in a logit, and roundings "
            f"explain {tolerance:.3g}; this is a bug in aero, please report it"
        )
    return result


def _positions(program: Program) -> int:
    """The whole context, where that is not too much work."""
    weights = sum(program.weights[n.weights[0]].size for n in program.graph.nodes if n.op == "linear")
    return int(min(program.graph.length, max(_NOISE_POSITIONS, _PRODUCTS / 8 // max(weights, 1))))


def rounding_noise(program: Program, ids: np.ndarray, seed: int = 0) -> float:
    """How far roundings of float64 move the output: largest entry of one random sample."""
    rng = np.random.default_rng(seed)
    values: dict[str, np.ndarray] = {INPUT: ids}
    for node in program.graph.nodes:
        inputs = [values[name] for name in node.inputs]
        weights = [program.weights[name] for name in node.weights]
        value = apply(node, inputs, weights)
        size = _ROUNDING * _LARGER * OPS[node.op].magnitude(value, *inputs, *weights, **node.attrs)
        values[node.name] = value + size * rng.standard_normal(value.shape)
    moved = np.abs(values[program.graph.output] - interpret(program, ids)).max()
    return float(moved / _LARGER)
