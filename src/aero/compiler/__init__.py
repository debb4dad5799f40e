"""The compiler: from a trained model to the graph that engines run, by exact rewrites that `verify` checks in float64."""

from aero.compiler.compile import compile
from aero.compiler.lower import lower
from aero.compiler.verify import VerificationError, verify

__all__ = ["VerificationError", "compile", "lower", "verify"]
