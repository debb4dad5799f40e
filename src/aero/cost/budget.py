"""What a user may spend on a private token or a private prompt, and what a model takes of it.

A token is one that follows in a session, a prompt is read at once and gives the first token: the works `next-token` and
`prefill` of `aero.cost.session`, without the set-up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from aero.cost.algebra import Price
from aero.cost.estimate import seconds_on
from aero.cost.machine import Computer
from aero.cost.session import estimate_session
from aero.graph import Programs
from aero.graph.ring_plan import RingPlan
from aero.wire.network import Network

Unit = Literal["bytes", "seconds"]
Work = Literal["token", "prompt"]
NEW_TOKENS = 8
"""Of the answer, over which the cost of a token is the mean, where the context has room for them."""

_UNITS: dict[str, tuple[Unit, float]] = {
    "b": ("bytes", 1),
    "kb": ("bytes", 1e3),
    "mb": ("bytes", 1e6),
    "gb": ("bytes", 1e9),
    "ms": ("seconds", 1e-3),
    "s": ("seconds", 1),
}


@dataclass(frozen=True)
class Cost:
    """Of one work. bytes: both ways; seconds: on a network, computing included."""

    bytes: float
    rounds: float
    seconds: float


@dataclass(frozen=True)
class PrivateCost:
    """What a model takes for each work."""

    token: Cost
    prompt: Cost

    def of(self, work: Work, unit: Unit) -> float:
        cost: Cost = getattr(self, work)
        found: float = getattr(cost, unit)
        return found


@dataclass(frozen=True)
class Deployment:
    """Where models are to run: the network between the parties, and the computer that each of them has."""

    network: Network
    on: Computer

    def cost(self, programs: Programs, plan: RingPlan) -> PrivateCost:
        """Of a session of one prompt, as `aero cost --batch 1` has it: with the tokens of its answer it fills the
        context.

        plan: number formats. ValueError for an operation without a protocol, and a context of less than two tokens.
        """
        new = min(NEW_TOKENS, programs.context)
        if new < 2:
            raise ValueError("a context of one token has no next one; choose a longer context")
        session = estimate_session(programs, 1, programs.context - new + 1, new, plan, on=self.on)
        works = {work.name: work for work in session.works}
        token = works["next-token"].per_token
        assert token is not None  # there are tokens after the first
        return PrivateCost(self._cost(token), self._cost(works["prefill"].per_prompt))

    def _cost(self, price: Price) -> Cost:
        seconds = seconds_on(self.network, price).total
        # Our own engine on a machine leaves none of them open.
        assert price.bytes_both_ways is not None and price.rounds is not None and seconds is not None
        return Cost(price.bytes_both_ways, price.rounds, seconds)

    def to_json(self) -> dict[str, Any]:
        return {"network": self.network.name, "machine": self.on.machine.name, "threads": self.on.threads}


@dataclass(frozen=True)
class Budget:
    """amount: bytes both ways or seconds, at most, for each `work`."""

    amount: float
    unit: Unit
    work: Work = "token"

    def __post_init__(self) -> None:
        if not 0 < self.amount < float("inf"):
            raise ValueError(f"a budget of {self.amount:g} {self.unit}; give more than nothing, such as 3MB or 2s")

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Of "3MB", "2s", "500kB/token", "40MB/prompt"; without a work it is a token's. ValueError for another form."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]+)(?:/([a-z]+))?", text.replace(" ", "").lower())
        work = (match and match[3]) or "token"
        if match is None or match[2] not in _UNITS or work not in get_args(Work):
            raise ValueError(
                f"unknown budget {text!r}; give bytes or seconds of a token or a prompt, like 3MB, 2s, 40MB/prompt"
            )
        unit, factor = _UNITS[match[2]]
        return cls(float(match[1]) * factor, unit, "prompt" if work == "prompt" else "token")

    def allows(self, cost: PrivateCost) -> bool:
        return cost.of(self.work, self.unit) <= self.amount

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))

    def __str__(self) -> str:
        amount = f"{self.amount / 1e6:g} MB" if self.unit == "bytes" else f"{self.amount:g} s"
        return f"{amount} a {self.work}"
