"""The papers' names of architectures, such as "SM+LN+G" and "EReg(SM(t)+ScFuFFN_i6)" (Jha & Reagen 2024, §3).

A name says what a network keeps (Softmax, a norm, an activation) and what form its FFNs have:

    name := [EReg(] [SAS(] body [)] [)]              EReg: trained with the entropy regulariser
    body := SM [(t) | (t_h)] [+norm] [+act] [+ffn]   (t): a temperature per head and position; (t_h): one per head
    norm := LN | RMS | (FLN | FRMS) [(p)]            FLN, FRMS: end with constant statistics; (p): one by position
    act  := G | SiLU | R | LR | LR(g)                LR: leaky ReLU with a learnable slope per layer; (g): one for all
    ffn  := (GaFFN | ScGaFFN | ScFFN | ScFuFFN) [_ik]   gated / scaled and gated / scaled / scaled and fused;
                                                     the k deepest pruned

Llama is SM+RMS+SiLU+GaFFN. SAS is the simplified block (He & Hofmann 2024, §4), the papers' comparison. RMS, SiLU,
GaFFN, SAS, FLN, FRMS and LR are our names: the papers describe SAS and LR without one.

Needs no torch. It does not know sizes: those are in `aero.models.presets`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Norm = Literal["layer", "rms", "none", "frozen", "frozen_per_position", "frozen_rms", "frozen_rms_per_position"]
Activation = Literal["gelu", "gelu_erf", "silu", "relu", "leaky_relu", "leaky_relu_global", "identity"]
Block = Literal["standard", "simplified"]
Ffn = Literal["plain", "scaled", "gated", "scaled_gated", "fused", "scaled_fused", "absent"]
Temperature = Literal["none", "per_head", "per_position"]

# Every name of the papers' tables; `parse` accepts these and their combinations.
KNOWN = (
    "SM+LN+G",
    "SM+LN+R",
    "SM+LN",
    "SM+G",
    "SM+R",
    "SM",
    "SM+ScFFN",
    "SM+ScFuFFN",
    "SM+ScFuFFN_i6",
    "SM(t)+ScFuFFN",
    "EReg(SM(t)+ScFuFFN)",
    "EReg(SM(t)+ScFuFFN_i6)",
)

# Norms whose statistics are constant at the end of training, and the norms as which they begin.
BEGINS_AS: Mapping[Norm, Norm] = {
    "frozen": "layer",
    "frozen_per_position": "layer",
    "frozen_rms": "rms",
    "frozen_rms_per_position": "rms",
}

_NORMS: dict[str | None, Norm] = {
    "LN": "layer",
    "RMS": "rms",
    "FLN": "frozen",
    "FLN(p)": "frozen_per_position",
    "FRMS": "frozen_rms",
    "FRMS(p)": "frozen_rms_per_position",
    None: "none",
}
_ACTIVATIONS: dict[str | None, Activation] = {
    "G": "gelu",
    "SiLU": "silu",
    "R": "relu",
    "LR": "leaky_relu",
    "LR(g)": "leaky_relu_global",
    None: "identity",
}
_FFNS: dict[str | None, Ffn] = {
    "GaFFN": "gated",
    "ScGaFFN": "scaled_gated",
    "ScFFN": "scaled",
    "ScFuFFN": "scaled_fused",
    None: "plain",
}
_TEMPERATURES: dict[str | None, Temperature] = {"(t)": "per_position", "(t_h)": "per_head", None: "none"}


def _any_of(table: Mapping[str | None, Any]) -> str:
    return "|".join(re.escape(name) for name in table if name is not None)


_BODY = re.compile(
    rf"SM(?P<temperature>{_any_of(_TEMPERATURES)})?(\+(?P<norm>{_any_of(_NORMS)}))?"
    rf"(\+(?P<activation>{_any_of(_ACTIVATIONS)}))?(\+(?P<ffn>{_any_of(_FFNS)})(_i(?P<pruned>[1-9][0-9]*))?)?"
)


@dataclass(frozen=True)
class Notation:
    """What an architecture keeps. `str()` gives its name, `parse` comes back from it.

    norm, activation of the FFN: as in AeroConfig; ffn: of all FFNs that are left, any but "fused" and "absent";
    pruned: how many of the deepest FFNs are removed; temperature: of the softmax; entropy_regularized: EReg; block:
    "simplified" for He & Hofmann's.
    """

    norm: Norm = "layer"
    activation: Activation = "gelu"
    ffn: Ffn = "plain"
    pruned: int = 0
    temperature: Temperature = "none"
    entropy_regularized: bool = False
    block: Block = "standard"

    def __post_init__(self) -> None:
        _one_of("norm", self.norm, tuple(_NORMS.values()))
        _one_of("block", self.block, get_args(Block))
        _one_of("activation", self.activation, tuple(_ACTIVATIONS.values()))
        _one_of("ffn", self.ffn, tuple(_FFNS.values()))
        _one_of("temperature", self.temperature, tuple(_TEMPERATURES.values()))
        if self.ffn == "scaled_fused" and self.activation != "identity":
            raise ValueError(f"a fused FFN has no activation, so it cannot have {self.activation}; drop one of the two")
        if self.pruned < 0 or (self.pruned and self.ffn == "plain"):
            raise ValueError(f"cannot prune {self.pruned} FFNs; `_ik` (k at least 1) follows a form such as ScFFN")

    def __str__(self) -> str:
        body = "SM" + (_key(_TEMPERATURES, self.temperature) or "")
        parts = [
            body,
            _key(_NORMS, self.norm),
            _key(_ACTIVATIONS, self.activation),
            _key(_FFNS, self.ffn),
        ]
        name = "+".join(part for part in parts if part) + (f"_i{self.pruned}" if self.pruned else "")
        name = f"SAS({name})" if self.block == "simplified" else name
        return f"EReg({name})" if self.entropy_regularized else name

    @property
    def softmax_only(self) -> bool:
        """Is softmax the only nonlinear operation of the blocks?"""
        gated = self.ffn in ("gated", "scaled_gated")
        return self.norm not in ("layer", "rms") and self.activation == "identity" and not gated

    def config_fields(self, num_layers: int) -> dict[str, Any]:
        """The fields of an AeroConfig of `num_layers` layers that this notation decides.

        Raises ValueError when more FFNs are pruned than there are layers.
        """
        if self.pruned > num_layers:
            raise ValueError(f"{self} prunes {self.pruned} FFNs, but the model has {num_layers} layers; prune fewer")
        return {
            "norm": self.norm,
            "activation": self.activation,
            "ffn": [self.ffn] * (num_layers - self.pruned) + ["absent"] * self.pruned,
            "attention_temperature": self.temperature,
            "entropy_thresholds": self.entropy_regularized,
            "block": self.block,
        }


def parse(name: str) -> Notation:
    """The architecture that a name stands for. Raises ValueError, listing the known names, for any other text."""
    text, regularized = _unwrap(name.strip(), "EReg")
    text, simplified = _unwrap(text, "SAS")
    match = _BODY.fullmatch(text)
    if match is None:
        raise ValueError(f"unknown notation {name!r}; known: {', '.join(KNOWN)}, and their combinations")
    return Notation(
        norm=_NORMS[match["norm"]],
        activation=_ACTIVATIONS[match["activation"]],
        ffn=_FFNS[match["ffn"]],
        pruned=int(match["pruned"] or 0),
        temperature=_TEMPERATURES[match["temperature"]],
        entropy_regularized=regularized,
        block="simplified" if simplified else "standard",
    )


def _unwrap(text: str, name: str) -> tuple[str, bool]:
    """What stands inside NAME(...), and whether it did."""
    inside = text.startswith(f"{name}(") and text.endswith(")")
    return (text[len(name) + 1 : -1], True) if inside else (text, False)


def of_fields(
    *,
    norm: Norm,
    activation: Activation,
    ffn: Sequence[Ffn],
    attention_temperature: Temperature,
    entropy_thresholds: bool,
    block: Block = "standard",
) -> Notation:
    """The notation of a model with these AeroConfig fields; the inverse of `config_fields`, but for the form of GELU.

    Raises ValueError where the papers have no name for it: FFNs of several forms, or one pruned that is not among the
    deepest.
    """
    kept = len(ffn)
    while kept and ffn[kept - 1] == "absent":
        kept -= 1
    activation = "gelu" if activation == "gelu_erf" else activation  # "G" is either form
    forms = set(ffn[:kept])
    form: Ffn = forms.pop() if len(forms) == 1 else "absent"
    if not kept:
        form = "scaled_fused" if activation == "identity" else "scaled"
    if forms or form not in _FFNS.values():
        raise ValueError(f"no name for FFNs of the forms {', '.join(ffn)}; give the configuration itself")
    return Notation(norm, activation, form, len(ffn) - kept, attention_temperature, entropy_thresholds, block)


def _one_of(field: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{field} is {value!r}; choose one of {', '.join(allowed)}")


def _key(table: dict[str | None, Any], value: str) -> str | None:
    return next(key for key, entry in table.items() if entry == value)
