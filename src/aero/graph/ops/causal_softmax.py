"""base^(score - log_base of the row's sum), of live scores; base is e, or 2: an engine may work in powers of two."""

import numpy as np

from aero.graph.heads import causal_mask
from aero.graph.ops.sheet import Array, Attrs, Factor, Function, Shape, Shapes, Sheet, need, own_magnitude


def _shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    x = inputs[0]
    need(len(x) == 3 and x[2] >= x[1], f"causal softmax reads scores [H, T, S] with S >= T, not {x}")
    need(float(attrs.get("base", 2.0)) == 2.0, f"causal softmax has base e, or base=2.0, not {attrs.get('base')}")
    return x


def causal_softmax(scores: Array, base: float = np.e) -> Array:
    live = causal_mask(*scores.shape[1:])
    scores = np.where(live, scores, -np.inf)
    below = scores - scores.max(axis=-1, keepdims=True)
    exponentials = np.exp2(below) if base == 2.0 else np.exp(below)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


SHEET = Sheet(
    inputs=1,
    weights=(),
    attrs={},
    optional={"base": float},
    shape=_shape,
    meaning=causal_softmax,
    arithmetic=Function(of="live row"),
    bound=lambda scores, base=np.e: np.ones_like(scores),
    magnitude=own_magnitude,
    row_by_row=False,
    factor=Factor.STAYS,
    precision="probability",
    error_steps=1,
)
