"""What can go wrong on the wire: one class per cause, each message one line that says what to do or where to look.

Every class is a `ConnectionError`, so a caller who only wants to know "the session is over" catches that. No message
contains data that was received: an error may be shown, logged or sent to the other side without leaking a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aero.wire.frame import Reason


class WireError(ConnectionError):
    """Base class; raised itself when a channel is used after it ended."""


class ProtocolError(WireError, ValueError):
    """The other side sent something that this side did not expect: malformed, oversized, out of order, wrong type."""


class VersionError(ProtocolError):
    """The other side speaks another version of the wire format."""


class PeerClosedError(WireError):
    """The other side ended the session and said so; the message gives its reason, as does `reason`."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


class PeerVanishedError(WireError):
    """The connection ended without a goodbye: the other process died, or the network cut it."""


class PeerSilentError(WireError, TimeoutError):
    """The other side is connected but sent nothing, or took nothing, within the timeout."""


class PeerBusyError(WireError):
    """The server is there, knows this client, and has no place for another session; a later try may find a place."""


class StoppingError(WireError):
    """This party is being stopped; the other side is told so."""


class TimeUpError(StoppingError):
    """The session has lasted as long as one may; the other side is told so."""


class PeerAbsentError(WireError):
    """Nothing answers at the address."""


class AddressError(WireError):
    """The address is none, or cannot be listened on: in use, or another machine's."""


class UntrustedPeerError(WireError):
    """We refuse the other side: it presents no certificate, another one than the pinned one, or no TLS 1.3."""


class RefusedByPeerError(WireError):
    """The other side refuses us: our certificate is not the one it pinned, or it accepts no such connection."""
