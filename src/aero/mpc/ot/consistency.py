"""What both OT extensions' checks against a party that deviates are made of.

A universal hash is linear, over GF(2^128), with coefficients that come from all that was sent before it (Fiat and
Shamir): they are pseudorandom, and nobody knows them before the message is complete. Two different inputs that the
message determines have the same hash with a probability of 2^-127 at most for each message that is tried.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from aero.kernels.gf128 import BLOCK_BYTES
from aero.kernels.native import _native
from aero.mpc.ot.random_ot import Blocks
from aero.wire import ProtocolError

DIGEST_BYTES = 32


def digest(use: str, *parts: bytes | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """SHA-256 of what it is for and of parts whose lengths are public and fixed: uint8 [32]."""
    found = hashlib.sha256(f"aero/ot/v2/{use}".encode() + bytes(1))
    for part in parts:
        found.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else part)
    return np.frombuffer(found.digest(), np.uint8)


def coefficients(seed: NDArray[np.uint8], count: int) -> Blocks:
    """Of a universal hash [count, 16], from a digest."""
    out = np.empty(count * BLOCK_BYTES, np.uint8)
    _native.sample_bytes(seed[:BLOCK_BYTES].tobytes(), 0, out)
    return out.reshape(count, BLOCK_BYTES)


def require_equal(theirs: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    """ProtocolError unless the other party's digest is the expected one."""
    if not np.array_equal(theirs, expected):
        raise ProtocolError("the other side's oblivious transfers failed their check: it does not follow the protocol")
