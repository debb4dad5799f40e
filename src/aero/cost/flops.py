"""Operations as the papers' tables count them (Jha & Reagen 2024, tables of §5 and appendix): what is printed there.

    FFN FLOPs        16 T d^2 for each layer with two matrices, 2 T d^2 with one, 0 where pruned; 2 for each product
    attention FLOPs  L (8 T d^2 + 3 T^2 d); the simplified block L (4 T d^2 + 2 T^2 d)
    nonlinear        count x R^(rows x columns): softmax L H x R^(T x T), LayerNorm or RMSNorm 2 L x R^(T x d),
                     GELU, SiLU or ReLU one R^(T x 4d) for each FFN with an activation

Where a size has an FFN's width, fewer heads of keys, or heads of a width of their own, its matrices count as they are;
the products of a gate are not counted, nor are norms of queries and keys.

It is a convention, not a cost: embedding, vocabulary projection and the final norm are not counted, and what the
compiler removes still is. `aero.graph.count` counts what a graph computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from aero.models.notation import Notation
from aero.models.presets import Size

Block = Literal["gpt2", "simplified"]
FFN_MULTIPLIER = 4
_ACTIVATIONS = {
    "gelu": "G",
    "gelu_erf": "G",
    "silu": "SiLU",
    "relu": "R",
    "leaky_relu": "R",  # one comparison, as ReLU
    "leaky_relu_global": "R",
    "identity": None,
}


@dataclass(frozen=True)
class NonlinearOps:
    """`count` nonlinear functions of matrices [rows, columns]."""

    count: int
    rows: int
    columns: int

    @property
    def elements(self) -> int:
        return self.count * self.rows * self.columns

    def __str__(self) -> str:
        return f"{self.count} x R^({self.rows}x{self.columns})"


@dataclass(frozen=True)
class PaperCount:
    """One row of the papers' tables, without its measurements. FLOPs: 2 for each product.

    nonlinear: by name ("SM", "LN", "RMS", "G", "SiLU", "R"), only those that the architecture keeps.
    """

    ffn_flops: int
    attention_flops: int
    nonlinear: dict[str, NonlinearOps]

    @property
    def nonlinear_elements(self) -> int:
        return sum(ops.elements for ops in self.nonlinear.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "ffn_flops": self.ffn_flops,
            "attention_flops": self.attention_flops,
            "nonlinear": {name: str(ops) for name, ops in self.nonlinear.items()},
            "nonlinear_elements": self.nonlinear_elements,
        }


def ffn_flops(notation: Notation, num_layers: int, context: int, width: int, inner: int = 0) -> int:
    """FLOPs of the FFNs that are left, with `inner` features inside, by default 4 d."""
    features = 3 if notation.ffn in ("gated", "scaled_gated") else 2  # matrices
    features = width if notation.ffn == "scaled_fused" else features * (inner or FFN_MULTIPLIER * width)
    return (num_layers - notation.pruned) * 2 * context * width * features


def attention_flops(
    num_layers: int, context: int, width: int, block: Block = "gpt2", queries: int = 0, keys: int = 0
) -> int:
    """FLOPs of attention with its projections; "simplified": He & Hofmann 2024, without those of values and output.
    queries, keys: features of all their heads, by default d."""
    queries, keys = queries or width, keys or width
    linear, quadratic = (4 * (queries + keys), 3) if block == "gpt2" else (2 * (queries + keys), 2)
    return num_layers * (linear * context * width + quadratic * context**2 * queries)


def paper_count(notation: Notation, size: Size, context: int | None = None, *, block: Block = "gpt2") -> PaperCount:
    """What the papers' tables print for an architecture at a size and a context (the size's own by default).

    The simplified block keeps one LayerNorm, at the end, whatever the notation says.
    Raises ValueError when more FFNs are pruned than there are layers, or for an unknown block.
    """
    if block not in ("gpt2", "simplified"):
        raise ValueError(f"block is {block!r}; choose gpt2 or simplified")
    layers, width = size.num_layers, size.hidden_size
    head, inner = size.head_width or width // size.num_heads, size.ffn_width or FFN_MULTIPLIER * width
    context = size.context if context is None else context
    if context < 1 or notation.pruned > layers:
        raise ValueError(f"{notation} does not fit {layers} layers and {context} positions")
    nonlinear = {"SM": NonlinearOps(layers * size.num_heads, context, context)}
    if block == "simplified":
        nonlinear["LN"] = NonlinearOps(1, context, width)
    elif notation.norm in ("layer", "rms"):
        nonlinear["LN" if notation.norm == "layer" else "RMS"] = NonlinearOps(2 * layers, context, width)
    activation = _ACTIVATIONS[notation.activation]
    if activation is not None and notation.pruned < layers:
        nonlinear[activation] = NonlinearOps(layers - notation.pruned, context, inner)
    queries, keys = (heads * head for heads in (size.num_heads, size.num_key_heads or size.num_heads))
    return PaperCount(
        ffn_flops(notation, layers, context, width, inner),
        attention_flops(layers, context, width, block, queries, keys),
        nonlinear,
    )
