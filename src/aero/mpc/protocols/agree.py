"""That both parties run the same thing: once for each graph, before anything depends on it.

1. Each: sends SHA-256 of every public thing that has to be equal, in order.                         both directions
2. Each: compares.

1 round. The digests are of public data; nothing is hidden, and nothing is proven about a party that deviates.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from aero.mpc.cost import ProtocolCost, message
from aero.mpc.party import Party, Role

DIGEST_BYTES = 32


def agree(party: Party, public: Mapping[str, Any]) -> None:
    """`public`: plain data (as for JSON) by what it is called. ValueError, at both parties, that names what differs."""
    digests = [_digest(data) for data in public.values()]
    party.channel.send(b"".join(digests))
    theirs = party.channel.recv(DIGEST_BYTES * len(digests), np.uint8).tobytes()
    differing = [
        name
        for i, (name, digest) in enumerate(zip(public, digests, strict=True))
        if theirs[i * DIGEST_BYTES : (i + 1) * DIGEST_BYTES] != digest
    ]
    if differing:
        raise ValueError(
            f"the two parties do not have the same {' and '.join(differing)}: give both what one `aero compile` made"
        )


def agree_cost(count: int) -> ProtocolCost:
    """Of `count` things that are compared."""
    return message(Role.CLIENT, DIGEST_BYTES * count) | message(Role.SERVER, DIGEST_BYTES * count)


def _digest(data: Any) -> bytes:
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).digest()
