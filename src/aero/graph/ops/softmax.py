"""base^(score - log_base of the row's sum), of live scores; base is e, or 2: an engine may work in powers of two.

mask: which scores are live, "causal" (by default) or "none", all of them.
"""

import numpy as np

from aero.graph.heads import CAUSAL, live_mask
from aero.graph.ops.sheet import Array, Attrs, Factor, Function, Shape, Shapes, Sheet, mask_of, need, own_magnitude


def _shape(inputs: Shapes, weights: Shapes, attrs: Attrs) -> Shape:
    x, mask = inputs[0], mask_of(attrs)
    need(
        len(x) == 3 and (mask != CAUSAL or x[2] >= x[1]), f"softmax reads scores [H, T, S], causal with S >= T, not {x}"
    )
    need(float(attrs.get("base", 2.0)) == 2.0, f"softmax has base e, or base=2.0, not {attrs.get('base')}")
    return x


def softmax(scores: Array, base: float = np.e, mask: str = CAUSAL) -> Array:
    live = live_mask(*scores.shape[1:], mask=mask)
    scores = np.where(live, scores, -np.inf)
    below = scores - scores.max(axis=-1, keepdims=True)
    exponentials = np.exp2(below) if base == 2.0 else np.exp(below)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


SHEET = Sheet(
    inputs=1,
    weights=(),
    attrs={},
    optional={"base": float, "mask": str},
    shape=_shape,
    meaning=softmax,
    arithmetic=Function(of="live row"),
    bound=lambda scores, **attrs: np.ones_like(scores),
    magnitude=own_magnitude,
    row_by_row=False,
    factor=Factor.STAYS,
    precision="probability",
    error_steps=1,
)
