"""Which keys a session has, as both parties know it without a message, and as costs are declared."""

from __future__ import annotations

from typing import NamedTuple

from aero.kernels.slots import Field
from aero.mpc.plan import KeyKinds

WHOLE_KEY = 1.0
"""What a key bears: all of it."""


class Keys(NamedTuple):
    """Parameters, and fields, under which each party has keys, or needs them."""

    client: KeyKinds
    server: KeyKinds


def check_wear(wear: float) -> None:
    """ValueError for a run that no key bears."""
    if wear > WHOLE_KEY:
        raise ValueError(
            f"products of shares of this size wear out {wear / WHOLE_KEY:.1f} keys, and a run has one: "
            "run fewer or shorter prompts together"
        )


class SessionKeys:
    """worn: which part of what the server's present keys for products of shares bear is used up by the hints of results
    (`aero.mpc.hints`): a run counts by its numbers, not by its outputs. Whoever runs something adds to it."""

    def __init__(self) -> None:
        self._exchanged = Keys((), ())
        self.worn = 0.0
        self.renewed = 0

    def drop_worn(self, wear: float) -> bool:
        """Whether the server's keys for products of shares are gone, as a run that takes so much of a key was too much
        for them: public shapes decide. States stay: shares depend on no key. ValueError for a run that no key bears."""
        check_wear(wear)
        if self.worn + wear <= WHOLE_KEY:
            return False
        self._exchanged = Keys(
            self._exchanged.client, tuple(key for key in self._exchanged.server if isinstance(key, Field))
        )
        self.worn = 0.0
        self.renewed += 1
        return True

    def add_missing(self, needed: Keys) -> Keys:
        """Of what is needed, what was not there; from now on it is."""
        found = (tuple(p for p in new if p not in old) for new, old in zip(needed, self._exchanged, strict=True))
        missing = Keys(*found)
        self._exchanged = Keys(self._exchanged.client + missing.client, self._exchanged.server + missing.server)
        return missing
