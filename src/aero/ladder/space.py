"""What a search may try: notations and shapes around a size, each with and without the baseline as its teacher."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aero.models import AeroConfig
from aero.models.notation import parse
from aero.models.presets import Family, Size, traits_of

_LLAMA = ("SM+FRMS+R", "SM+FRMS+ScFuFFN")
_NOTATIONS: Mapping[Family, Sequence[str]] = {
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
}
_OTHERS = ("SM+FLN+R", "SM+FLN+ScFuFFN", "SM+ScFuFFN")
"""By default: norms that are there while a network learns, or none; ReLU, or softmax alone."""


@dataclass(frozen=True)
class Candidate:
    """An architecture of a shape. taught: does it learn from the baseline, too?"""

    notation: str
    layers: int
    heads: int
    width: int
    taught: bool = False

    def __post_init__(self) -> None:
        parse(self.notation)
        if min(self.layers, self.heads, self.width) < 1:
            raise ValueError(f"{self.name}: give at least one layer, one head and a width of one")

    @property
    def name(self) -> str:
        """Also of its folder."""
        shape = f"{self.notation},{self.layers}x{self.width},{self.heads}-heads"
        return f"{shape},taught" if self.taught else shape

    def size(self, base: Size) -> Size:
        """Of its shape; what else the base has is kept, FFNs in proportion to the width, heads of keys to the heads."""
        keys = base.num_key_heads and max(1, base.num_key_heads * self.heads // base.num_heads)
        inner = base.ffn_width * self.width // base.hidden_size
        return replace(
            base,
            num_layers=self.layers,
            num_heads=self.heads,
            hidden_size=self.width,
            num_key_heads=keys,
            ffn_width=inner,
        )

    def config(self, base: Size) -> AeroConfig:
        """Multipliers follow the width, so that shapes are compared at the scale that each needs. ValueError where the
        parts do not fit together."""
        return AeroConfig.from_notation(self.notation, self.size(base), scale="width")


@dataclass(frozen=True)
class Space:
    """All combinations that fit together. base: whose vocabulary, context and family they have; baseline: what they are
    compared with, of the base's shape. taught: whether the baseline is their teacher, each way that is tried.
    ValueError for an unknown notation, an encoder's size, and a space without a candidate."""

    base: Size
    baseline: Candidate
    notations: tuple[str, ...]
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    widths: tuple[int, ...]
    taught: tuple[bool, ...] = (False, True)

    def __post_init__(self) -> None:
        self.baseline.config(self.base)
        if not self.candidates():
            faults = [fault for candidate in self._all() if (fault := self._fault(candidate))]
            why = f": {faults[0]}" if faults else " but the baseline; give others"
            raise ValueError(f"no combination of these notations and shapes is a candidate{why}")

    @classmethod
    def around(
        cls,
        base: Size,
        baseline: str | None = None,
        notations: Sequence[str] = (),
        layers: Sequence[int] = (),
        heads: Sequence[int] = (),
        widths: Sequence[int] = (),
        taught: Sequence[bool] = (False, True),
    ) -> Space:
        """What is not given: the family's first rung as the baseline, cheap notations, the base's shape and double."""
        return cls(
            base,
            Candidate(baseline or traits_of(base).rungs[0], base.num_layers, base.num_heads, base.hidden_size),
            tuple(notations or _NOTATIONS.get(base.family, _OTHERS)),
            tuple(layers or (base.num_layers, 2 * base.num_layers)),
            tuple(heads or (base.num_heads, 2 * base.num_heads)),
            tuple(widths or (base.hidden_size, 2 * base.hidden_size)),
            tuple(taught),
        )

    def candidates(self) -> list[Candidate]:
        """Without the baseline, and without those whose parts do not fit together."""
        return [c for c in self._all() if c != self.baseline and self._fault(c) is None]

    def _all(self) -> list[Candidate]:
        axes = (self.notations, self.layers, self.heads, self.widths, self.taught)
        return list(itertools.starmap(Candidate, itertools.product(*map(dict.fromkeys, axes))))

    def _fault(self, candidate: Candidate) -> str | None:
        try:
            candidate.config(self.base)
        except ValueError as error:
            return str(error)
        return None
