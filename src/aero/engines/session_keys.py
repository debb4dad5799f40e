"""Which keys a session has, as both parties know it without a message, and as costs are declared."""

from __future__ import annotations

from typing import NamedTuple

from aero.kernels.rlwe import Params
from aero.kernels.slots import Field

OUTPUTS_PER_KEY = 32
"""Rows of output that are opened under one key of the server's for products of shares. Their noise, which contains the
key, goes on into what is opened, a little of it each time (docs/security/index.md, "Errors are part of the
functionality"); a new key ends what adds up. A run is not divided: one that opens more has keys of its own."""


class Keys(NamedTuple):
    """Parameters, and fields, under which each party has keys, or needs them."""

    client: tuple[Params | Field, ...]
    server: tuple[Params | Field, ...]


class SessionKeys:
    """opened: rows of output, under the server's present keys; whoever runs something adds to it."""

    def __init__(self) -> None:
        self._held = Keys((), ())
        self.opened = 0

    def drop_worn(self, rows: int) -> bool:
        """Whether the server's keys for products of shares are gone, as `rows` more outputs were too many for them:
        public shapes decide. States stay: shares depend on no key."""
        if not self.opened or self.opened + rows <= OUTPUTS_PER_KEY:
            return False
        self._held = Keys(self._held.client, tuple(one for one in self._held.server if isinstance(one, Field)))
        self.opened = 0
        return True

    def add_missing(self, needed: Keys) -> Keys:
        """Of what is needed, what was not there; from now on it is."""
        found = (tuple(p for p in new if p not in old) for new, old in zip(needed, self._held, strict=True))
        missing = Keys(*found)
        self._held = Keys(self._held.client + missing.client, self._held.server + missing.server)
        return missing
