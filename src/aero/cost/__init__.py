"""What a model costs before it is trained: operations as the papers count them; bytes, rounds, seconds of a graph."""

from aero.cost.algebra import Declaration, Formula, Price
from aero.cost.estimate import Estimate, estimate
from aero.cost.profile import Profile, load_profile, profile_names

__all__ = ["Declaration", "Estimate", "Formula", "Price", "Profile", "estimate", "load_profile", "profile_names"]
