"""The whole way: lower, rewrite until nothing changes, verify."""

from __future__ import annotations

from aero.compiler.lower import lower
from aero.compiler.passes import PASSES
from aero.compiler.verify import verify
from aero.graph import Program
from aero.models import AeroForCausalLM


def compile(model: AeroForCausalLM, length: int) -> Program:
    """The program that engines run for a prompt of `length` tokens: the logits [1, V] of its last position.

    The model is not altered. Raises ValueError when the length does not fit, VerificationError if a rewrite were wrong.
    """
    program = rewrite(lower(model, length))
    verify(program, model)
    return program


def rewrite(program: Program) -> Program:
    """Every exact pass, until none of them finds anything to do."""
    while True:
        before = program
        for apply_pass in PASSES:
            program = apply_pass(program)
        if program is before:
            return program
