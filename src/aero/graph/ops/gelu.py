"""x P(N(0, 1) <= x), in GPT-2's tanh form, or form="erf", the exact one."""

import math

import numpy as np

from aero.graph.ops.sheet import (
    Array,
    Attrs,
    Factor,
    Function,
    Shape,
    Shapes,
    Sheet,
    need,
    never_larger,
    own_magnitude,
    same_matrix,
)

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    form = attrs.get("form", "tanh")
    need(form in ("tanh", "erf"), f"gelu has the form tanh or erf, not {form!r}")
    return same_matrix(inputs, weights, attrs)


def gelu(x: Array, form: str = "tanh") -> Array:
    """The form "tanh" approximates "erf" (Hendrycks & Gimpel 2016, §2)."""
    if form == "erf":
        return 0.5 * x * (1.0 + _erf(x * math.sqrt(0.5)))
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


SHEET = Sheet(
    inputs=1,
    weights=(),
    attrs={},
    optional={"form": str},
    shape=_shape,
    meaning=gelu,
    arithmetic=Function(of="number"),
    bound=never_larger,
    magnitude=own_magnitude,
    row_by_row=True,
    factor=Factor.STAYS,
    precision="activation",
    error_steps=1,
)
