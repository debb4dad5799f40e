"""Whether a client may come in and go on: who it is, what it may use, what it has used."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from aero.serve.accounts import Accounts
from aero.serve.limits import ACCOUNTS_FILE, LimitError, LimitsOfAll
from aero.wire import UntrustedPeerError
from aero.wire.certificates import Peer
from aero.wire.keys import Identity
from aero.wire.tcp import Refusal

log = logging.getLogger(__name__)

_SOON = 120.0  # seconds for which somebody would wait for a limit


class Doorkeeper:
    """identity: the server's; its folder has the certificates of clients and limits.toml. accounts: where usage is
    counted, a file or a URL; a file in that folder if None.

    The parent of all sessions asks `objection` alone, which reads a small file; the rest is of a session's process."""

    def __init__(self, identity: Identity, accounts: str | None = None) -> None:
        self._identity = identity
        self._where: str | Path = identity.folder / ACCOUNTS_FILE if accounts is None else accounts

    def check(self) -> None:
        """ValueError, in one line, where limits or accounts cannot be used. Before any process is forked."""
        LimitsOfAll.read(self._identity.folder)
        accounts = Accounts(self._where)
        try:
            accounts.prepare()
        finally:
            accounts.close()  # a connection must not be shared by processes

    def reload(self) -> None:
        """Look at what is read anew anyway, and say what is wrong with it. ValueError for limits that are none."""
        LimitsOfAll.read(self._identity.folder)
        for problem in self._identity.problems():
            log.warning("%s", problem)

    def objection(self, name: str | None, running: int) -> Refusal | None:
        """Why a client that has so many sessions gets no further session."""
        if name is None:
            return None
        try:
            most = self._limits().of(name).sessions
        except LimitError as error:
            return _refusal(error)
        if running < most:
            return None
        return Refusal(f"busy: {name} has {running} sessions, and may have {most}; try again", again=most > 0)

    def spent(self, peer: Peer) -> Refusal | None:
        """Why a client that has just come in could have nothing computed."""
        try:
            self._accounts.spend(peer.name, self._limits().of(peer.name), 0, 0)
        except LimitError as error:
            return _refusal(error)
        return None

    def admit(self, peer: Peer) -> Callable[[int, int], None]:
        """What is called before each step of a client's session, with its tokens and outputs: counts them, or raises
        LimitError, or UntrustedPeerError where the client was revoked."""
        self._identity.warn_of_expiry(peer)

        def spend(tokens: int, outputs: int) -> None:
            if why := self._identity.why_not(peer):
                raise UntrustedPeerError(why)
            self._accounts.spend(peer.name, self._limits().of(peer.name), tokens, outputs)

        return spend

    @cached_property
    def _accounts(self) -> Accounts:
        return Accounts(self._where)

    def _limits(self) -> LimitsOfAll:
        try:
            return LimitsOfAll.read(self._identity.folder)
        except ValueError as error:
            text = "this server cannot read its limits at the moment; try again later"
            raise LimitError(text, "", 30.0, str(error)) from None


def _refusal(error: LimitError) -> Refusal:
    if error.detail:
        log.warning("%s", error.detail)
    if error.retry is not None and error.retry < _SOON:
        return Refusal(f"busy: {error}")
    return Refusal(str(error), again=False)
