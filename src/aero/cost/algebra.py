"""Costs as formulas of shapes: declared per operation, evaluated at a graph's shapes, added up.

    Formula       12000 + 90.5 outputs + 310 rows      an affine form in the quantities of `aero.cost.quantities`
    Declaration   component -> Formula                  what one operation costs
    Price         component -> number                   a declaration evaluated, or a sum of them

A component that nobody declared is unknown, None, and stays so in every sum: a published total without a split by
direction never turns into a split. A protocol of our own declares an `aero.mpc.cost.ProtocolCost` beside its code, with
the same `+` and `|`; a profile of our engine makes a `Price` of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

from aero.mpc.cost import ProtocolCost

CONSTANT = "calls"
"""The quantity that is 1 for every call, so its coefficient is a formula's constant."""


@dataclass(frozen=True)
class Formula:
    """An affine form: the sum of coefficient * quantity. No terms: zero."""

    terms: Mapping[str, float]

    def __post_init__(self) -> None:
        terms = {name: float(value) for name, value in self.terms.items() if value}
        if any(not value > 0 for value in terms.values()):  # NaN, too
            raise ValueError(f"a cost grows with every quantity, so coefficients are positive; these are {terms}")
        object.__setattr__(self, "terms", MappingProxyType(terms))

    def at(self, quantities: Mapping[str, float]) -> float:
        """The value at these quantities. ValueError where one is missing."""
        if missing := set(self.terms) - set(quantities):
            raise ValueError(f"the formula {self} needs {sorted(missing)}; this operation has {sorted(quantities)}")
        return sum(value * quantities[name] for name, value in self.terms.items())

    def __add__(self, other: Formula) -> Formula:
        names = dict.fromkeys([*self.terms, *other.terms])
        return Formula({name: self.terms.get(name, 0.0) + other.terms.get(name, 0.0) for name in names})

    def __mul__(self, factor: float) -> Formula:
        return Formula({name: value * factor for name, value in self.terms.items()})

    def __str__(self) -> str:
        parts = [f"{v:.4g}" if name == CONSTANT else f"{v:.4g} {name}" for name, v in self.terms.items()]
        return " + ".join(parts) or "0"


@dataclass(frozen=True)
class Price:
    """Numbers for one piece of work. None: not known.

    bytes_client_to_server, bytes_server_to_client: in bytes, not bits.
    bytes_both_ways: their sum, which sources often give alone.
    rounds: message delays on the longest chain, half a round trip each (`aero.wire.traffic`).
    messages: sent by both parties together.
    cots: correlated oblivious transfers used up.
    compute_seconds: local work, of the slower party, on the profile's machine.
    """

    bytes_client_to_server: float | None = None
    bytes_server_to_client: float | None = None
    bytes_both_ways: float | None = None
    rounds: float | None = None
    messages: float | None = None
    cots: float | None = None
    compute_seconds: float | None = None

    def __post_init__(self) -> None:
        up, down = self.bytes_client_to_server, self.bytes_server_to_client
        if up is not None and down is not None:
            object.__setattr__(self, "bytes_both_ways", up + down)
        for name, value in vars(self).items():
            if value is not None and not value >= 0:
                raise ValueError(f"{name} is {value}; a cost is not negative")

    @classmethod
    def of_protocol(cls, declared: ProtocolCost) -> Price:
        """What one of our own protocols declares of itself."""
        return cls(
            declared.bytes_client_to_server,
            declared.bytes_server_to_client,
            rounds=declared.rounds,
            messages=declared.messages,
            cots=declared.ots_from_client + declared.ots_from_server,
        )

    def __add__(self, other: Price) -> Price:
        """One after the other."""
        return Price(**{name: _sum(getattr(self, name), getattr(other, name)) for name in COMPONENTS})

    def __or__(self, other: Price) -> Price:
        """At the same time, in the same messages: rounds overlap, everything else adds up."""
        rounds = None if self.rounds is None or other.rounds is None else max(self.rounds, other.rounds)
        total = self + other
        return Price(**{**vars(total), "rounds": rounds})

    def __mul__(self, times: float) -> Price:
        return Price(**{name: None if value is None else value * times for name, value in vars(self).items()})


COMPONENTS = tuple(field.name for field in fields(Price))

NOTHING = Price(*[0.0] * len(COMPONENTS))


def total(costs: Iterable[Price]) -> Price:
    """The costs one after the other."""
    result = NOTHING
    for cost in costs:
        result = result + cost
    return result


@dataclass(frozen=True)
class Declaration:
    """What one operation costs: a formula for each component that is known."""

    formulas: Mapping[str, Formula]

    def __post_init__(self) -> None:
        if unknown := set(self.formulas) - set(COMPONENTS):
            raise ValueError(f"no cost components {sorted(unknown)}; there are {', '.join(COMPONENTS)}")

    def at(self, quantities: Mapping[str, float]) -> Price:
        return Price(**{name: formula.at(quantities) for name, formula in self.formulas.items()})

    def to_json(self) -> dict[str, dict[str, float]]:
        return {name: dict(formula.terms) for name, formula in self.formulas.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Mapping[str, float]]) -> Declaration:
        return cls({name: Formula(terms) for name, terms in data.items()})


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b
