"""Profiles by the names that the command line gives them."""

from __future__ import annotations

from collections.abc import Callable

from aero.cost.machine import Computer
from aero.cost.profile import Profile, load_profile
from aero.cost.two_party import NAME as TWO_PARTY
from aero.cost.two_party import TwoPartyProfile
from aero.engines.reveal import LOGITS, Reveal
from aero.graph import Graph
from aero.graph.ring_plan import RingPlan

Pricing = Callable[[Graph, RingPlan | None], Profile]


def pricing(name: str, reveal: Reveal = LOGITS, on: Computer | None = None) -> Pricing:
    """What gives a graph its profile: of "two-party", one that comes with aero, or a JSON file.

    on: what computing takes, for "two-party"; the others have that in them. The graph's ring plan may be None:
    `TwoPartyProfile` then assumes one, and the others need none. ValueError for an unknown name, or for one that does
    not price what is revealed.
    """
    if name == TWO_PARTY:
        return lambda graph, plan: TwoPartyProfile(graph, plan, reveal, on)
    if reveal != LOGITS:
        raise ValueError(f"the profile {name!r} prices an output of which all logits are revealed; leave --reveal out")
    profile = load_profile(name)
    return lambda graph, plan: profile
