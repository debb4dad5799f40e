"""The wire between two parties: typed messages, counted once, over memory or mutually authenticated TLS 1.3.

    errors.py    what can go wrong, one class per cause
    frame.py     one message as bytes: header, description, data; strict limits
    traffic.py   what was counted: bytes, messages, rounds, by op
    channel.py   Channel: send and receive arrays and control objects; the only counter
    link.py      Link: the ordered byte pipe under a channel, and the queue that keeps senders from blocking
    memory.py    two channels joined in memory, for two threads
    tcp.py       connect and Listener: TCP with TLS 1.3
    certificates.py  certificates read with care, and the names of clients
    clients.py   who may come in to a server
    keys.py      key pairs, and what a party presents and expects
    peer_text.py what a peer says, made safe to show
    network.py   LAN and WAN profiles, and a link that emulates them

This package knows nothing of models, graphs or protocols. docs/reference/wire.md specifies the bytes.
"""

from aero.wire.channel import Channel
from aero.wire.errors import (
    AddressError,
    PeerAbsentError,
    PeerBusyError,
    PeerClosedError,
    PeerSilentError,
    PeerVanishedError,
    ProtocolError,
    RefusedByPeerError,
    StoppingError,
    TimeUpError,
    UntrustedPeerError,
    VersionError,
    WireError,
)
from aero.wire.frame import Reason, read_json
from aero.wire.peer_text import one_line, safe_text
from aero.wire.traffic import Traffic

__all__ = [
    "AddressError",
    "Channel",
    "PeerAbsentError",
    "PeerBusyError",
    "PeerClosedError",
    "PeerSilentError",
    "PeerVanishedError",
    "ProtocolError",
    "Reason",
    "RefusedByPeerError",
    "StoppingError",
    "TimeUpError",
    "Traffic",
    "UntrustedPeerError",
    "VersionError",
    "WireError",
    "one_line",
    "read_json",
    "safe_text",
]
