"""How the numbers of a graph are held: a fixed-point format for each value and weight, a ring for each product.

A real x with f fractional bits in a ring of l bits is the integer round(x 2^f), from -2^(l-1) up to 2^(l-1) - 1. The
plan is public, as the structure is: it may be made from the server's weights and from calibration text. Formats tell
their sizes to within a power of two, score windows where each head's scores lie to within `WINDOW_GRID`, moduli which
products have weights that are too large for the usual modulus.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from aero.files.reading import interpreting, read_json, typed
from aero.graph.graph import Graph
from aero.graph.ops import OPS
from aero.graph.ops.sheet import Move

FORMAT_VERSION = 2
MAX_BITS = 64
MAX_FRACTION_BITS = 40
MAX_MODULUS_BITS = 150
WINDOW_GRID = 0.25
"""Ends of score windows are multiples of this, so that what is published of them is coarse."""


@dataclass(frozen=True)
class Format:
    """bits: l, of the ring; fraction_bits: f."""

    bits: int
    fraction_bits: int

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= MAX_BITS or not 0 <= self.fraction_bits <= MAX_FRACTION_BITS:
            raise ValueError(
                f"a ring of {self.bits} bits with {self.fraction_bits} fractional bits is not usable; "
                f"bits lie in 2 .. {MAX_BITS}, fractional bits in 0 .. {MAX_FRACTION_BITS}"
            )

    @property
    def step(self) -> float:
        return 2.0**-self.fraction_bits

    @property
    def limit(self) -> float:
        """Magnitudes from here on do not fit."""
        return 2.0 ** (self.bits - 1 - self.fraction_bits)

    def encode(self, x: np.ndarray, name: str) -> np.ndarray:
        """float64 -> int64, to the nearest step. OverflowError, with the name, where a number does not fit."""
        scaled = np.rint(np.asarray(x, dtype=np.float64) * 2.0**self.fraction_bits)
        if not (np.abs(scaled) < 2.0 ** (self.bits - 1)).all():
            raise OverflowError(
                f"{name}: {np.abs(x).max():.3g} does not fit a ring of {self.bits} bits with {self.fraction_bits} "
                "fractional bits; use fewer of them, or calibrate on such text"
            )
        return scaled.astype(np.int64)

    def decode(self, x: np.ndarray) -> np.ndarray:
        """int64 -> float64."""
        return x.astype(np.float64) * self.step


def shift(x: np.ndarray, bits: int) -> np.ndarray:
    """Divide by 2^bits, to the nearest integer; negative bits multiply."""
    return (x + (1 << (bits - 1))) >> bits if bits > 0 else x << -bits


@dataclass(frozen=True)
class ScoreWindow:
    """Where the scores of one head lie, so that an engine can leave the secret maximum of a row out.

    An engine computes exp(score - reference); `reference` is public, and a row works while its own maximum stays within
    the engine's headroom above it, and not so far below that all its exponentials vanish.

    layer: name of the softmax; head: its index.
    row_maximum: lowest and highest maximum of a row, on calibration text.
    outside: the same on text unlike it; equal to `row_maximum` where none was read.
    lowest: of all live scores.

    Every window is widened to the next multiples of `WINDOW_GRID`: the exact scores would tell more of the weights than
    an engine needs.
    """

    layer: str
    head: int
    row_maximum: tuple[float, float]
    outside: tuple[float, float]
    lowest: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (*self.row_maximum, *self.outside, self.lowest))):
            raise ValueError(f"{self.layer}, head {self.head}: a score window has finite ends; calibrate again")
        for name in ("row_maximum", "outside"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{self.layer}, head {self.head}: {name} begins above its end; calibrate again")
            object.__setattr__(self, name, (_on_grid(low, math.floor), _on_grid(high, math.ceil)))
        object.__setattr__(self, "lowest", _on_grid(self.lowest, math.floor))

    def as_read(self) -> ScoreWindow:
        """With the two numbers alone that engines read: both ends of all row maxima that were seen."""
        ends = self.reference - self.spread, self.reference
        return ScoreWindow(self.layer, self.head, ends, ends, ends[0])

    @property
    def reference(self) -> float:
        """The highest row maximum that was seen."""
        return max(self.row_maximum[1], self.outside[1])

    @property
    def spread(self) -> float:
        """All row maxima that were seen lie within this of each other."""
        return self.reference - min(self.row_maximum[0], self.outside[0])

    @property
    def margin(self) -> float:
        """How far text unlike the calibration text went beyond its highest row maximum; at least 0."""
        return self.reference - self.row_maximum[1]


def _on_grid(value: float, rounding: Callable[[float], int]) -> float:
    return rounding(value / WINDOW_GRID) * WINDOW_GRID


@dataclass(frozen=True)
class RingPlan:
    """values: format of each node's value, by name; weights: of each weight; products: bits of the ring in which a
    node's product is held before it is truncated to its value's format; windows: of attention scores, where known;
    moduli: bits that the modulus has at least, of an engine that encrypts, in a node's product with weights whose noise
    the usual one leaves no room for.
    """

    values: Mapping[str, Format]
    weights: Mapping[str, Format]
    products: Mapping[str, int]
    windows: tuple[ScoreWindow, ...] = field(default=())
    moduli: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("values", "weights", "products", "moduli"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        object.__setattr__(self, "windows", tuple(self.windows))
        for name, bits in self.products.items():
            if not 2 <= bits <= MAX_BITS:
                raise ValueError(f"the product {name!r} needs a ring of {bits} bits; give fewer fractional bits")
        for name, bits in self.moduli.items():
            if not 1 <= bits <= MAX_MODULUS_BITS:
                raise ValueError(f"no modulus of {bits} bits for the product {name!r}: at most {MAX_MODULUS_BITS}")

    @classmethod
    def uniform(cls, graph: Graph, fraction_bits: int, bits: int = MAX_BITS) -> RingPlan:
        """One format for everything."""
        each = Format(bits, fraction_bits)
        names = [node.name for node in graph.nodes]
        return cls(dict.fromkeys(names, each), dict.fromkeys(graph.weight_shapes, each), dict.fromkeys(names, bits))

    def of_value(self, graph: Graph, name: str) -> Format:
        """The format of a value or state. What only moves rows has the format of what it moves."""
        while name not in graph.state_in and name not in self.values:
            node = graph.by_name.get(name)
            if node is None or not isinstance(OPS[node.op].arithmetic, Move):
                break
            name = node.inputs[-1]
        if name in graph.state_in:
            name = state_source(name)
        if name not in self.values:
            raise ValueError(f"the ring plan has no format for {name!r}; make one for this model with `aero compile`")
        return self.values[name]

    def of_weight(self, name: str) -> Format:
        """The format of a weight, or of some rows of a weight."""
        name = whole_weight(name)
        if name not in self.weights:
            raise ValueError(f"the ring plan has no format for the weight {name!r}; make one with `aero compile`")
        return self.weights[name]

    def as_read(self) -> RingPlan:
        """What engines read of it, and the server shows: of each head's scores two numbers instead of five."""
        return replace(self, windows=tuple(window.as_read() for window in self.windows))

    def to_json(self) -> dict[str, Any]:
        def formats(of: Mapping[str, Format]) -> dict[str, list[int]]:
            return {name: [f.bits, f.fraction_bits] for name, f in sorted(of.items())}

        return {
            "format_version": FORMAT_VERSION,
            "values": formats(self.values),
            "weights": formats(self.weights),
            "products": dict(sorted(self.products.items())),
            "moduli": dict(sorted(self.moduli.items())),
            "windows": [
                {**vars(w), "row_maximum": list(w.row_maximum), "outside": list(w.outside)} for w in self.windows
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RingPlan:
        """What `to_json` gave. ValueError unless all of it is sound."""
        if not isinstance(data, Mapping) or data.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"not a ring plan of format {FORMAT_VERSION}; make it again with `aero compile`")
        with interpreting("the ring plan", "make it again with `aero compile`"):
            formats = [typed(dict[str, tuple[int, int]], data[name], name) for name in ("values", "weights")]
            products, moduli = (typed(dict[str, int], data[name], name) for name in ("products", "moduli"))
            values, weights = ({name: Format(*sizes) for name, sizes in found.items()} for found in formats)
            return cls(values, weights, products, tuple(typed(list[ScoreWindow], data["windows"], "windows")), moduli)


def load_plan(path: Path) -> RingPlan:
    """Read a plan's JSON file. FileNotFoundError or ValueError name what is wrong."""
    return RingPlan.from_json(read_json(path))


# Names that tie the graphs of one model together: the state that a value leaves, and some rows of a weight.
_STATE = ".past"


def state_name(value: str) -> str:
    return value + _STATE


def state_source(state: str) -> str:
    return state.removesuffix(_STATE)


def weight_rows(weight: str, start: int, stop: int) -> str:
    return f"{whole_weight(weight)}[{start}:{stop}]"


def rows_of_weight(weight: str) -> int:
    """The first row of the weight that is in this part; 0 for the whole weight."""
    return int(weight.partition("[")[2].partition(":")[0] or 0)


def whole_weight(weight: str) -> str:
    return weight.partition("[")[0]
