"""The compiler: a trained model becomes the graph that engines run, by exact rewrites checked in float64."""

from aero.compiler.compile import Compiled, compile, rewrite
from aero.compiler.lower import lower
from aero.compiler.verify import VerificationError, verify

__all__ = ["Compiled", "VerificationError", "compile", "lower", "rewrite", "verify"]
