"""Base oblivious transfer: the few OTs from elliptic curves that all others grow from.

Masny and Rindal, "Endemic Oblivious Transfer" (2019, ePrint 2019/706, section 5), in one round, over the subgroup of
edwards25519 of prime order L, with base point G. H hashes to that subgroup; for OT number i and the receiver's bit c:

1. Sender: a uniform modulo L; sends A = a G.
1. Receiver, at the same time: r_(1-c) = x G and r_c = b G - H(i, c, r_(1-c)) for uniform x, b; sends (r_0, r_1).
2. Sender: key_j = KDF(i, j, a (r_j + H(i, j, r_(1-j)))) for j = 0, 1.
2. Receiver: key_c = KDF(i, c, b A).

r_0 and r_1 are uniform and independent whatever c is, so nothing computed from them tells c. The other key takes
a H(i, 1-c, r_c): a Diffie-Hellman value of A and a point of which nobody knows the logarithm. H is the sum of two maps
to the curve (RFC 9380, section 3, on why two), KDF is SHA-256 with the role of the sender and a session identifier
that covers all messages. Both are random oracles in the argument, docs/security/ot.md.

The group comes from libsodium through PyNaCl, which multiplies in constant time. Points from the wire are checked to be
canonical and in the subgroup, which excludes those of small order.
"""

from __future__ import annotations

import hashlib

import numpy as np
from nacl import bindings
from nacl.exceptions import CryptoError
from numpy.typing import NDArray

from aero.kernels.prg import Prg
from aero.mpc.ot.random_ot import Blocks
from aero.wire import ProtocolError

POINT_BYTES = 32
KEY_BYTES = 16


class BaseOtSender:
    """One batch, used once. `message` goes to the receiver."""

    def __init__(self, stream: Prg, label: str) -> None:
        """`stream`: where the secret comes from. `label`: what the batch is for; the same at the receiver."""
        self._label = label
        self._a = _scalar(stream)
        self.message = bindings.crypto_scalarmult_ed25519_base_noclamp(self._a)

    def keys(self, points: NDArray[np.uint8], session: bytes) -> Blocks:
        """Both keys of each OT [count, 2, 16], from the receiver's points [count, 2, 32]. ProtocolError for what are no
        points of the group. `session`: a digest of all messages, the same at the receiver."""
        out = np.empty((len(points), 2, KEY_BYTES), np.uint8)
        for i, pair in enumerate(points):
            r = [_checked(point.tobytes()) for point in pair]
            for j in (0, 1):
                point = bindings.crypto_core_ed25519_add(r[j], _hash_to_point(self._label, i, j, r[1 - j]))
                out[i, j] = _key(self._label, session, i, j, _multiply(self._a, point))
        return out


class BaseOtReceiver:
    """One batch, used once. `points`, uint8 [count, 2, 32], go to the sender."""

    def __init__(self, stream: Prg, label: str, bits: NDArray[np.uint8]) -> None:
        """`bits`: which key to get of each OT, uint8 0 or 1 [count]. Others as for the sender."""
        self._label = label
        self._bits = bits
        self._scalars = [_scalar(stream) for _ in bits]
        self.points = np.empty((len(bits), 2, POINT_BYTES), np.uint8)
        for i, (c, b) in enumerate(zip(bits.tolist(), self._scalars, strict=True)):
            other = bindings.crypto_scalarmult_ed25519_base_noclamp(_scalar(stream))
            chosen = bindings.crypto_core_ed25519_sub(
                bindings.crypto_scalarmult_ed25519_base_noclamp(b), _hash_to_point(label, i, c, other)
            )
            self.points[i, c] = np.frombuffer(chosen, np.uint8)
            self.points[i, 1 - c] = np.frombuffer(other, np.uint8)

    def keys(self, message: bytes, session: bytes) -> Blocks:
        """The chosen key of each OT [count, 16]. ProtocolError if the sender's message is no point of the group."""
        point = _checked(message)
        keys = [
            _key(self._label, session, i, c, _multiply(b, point))
            for i, (c, b) in enumerate(zip(self._bits.tolist(), self._scalars, strict=True))
        ]
        return np.array(keys, np.uint8).reshape(-1, KEY_BYTES)


def _scalar(stream: Prg) -> bytes:
    """Uniform modulo L, up to 2^-259."""
    return bindings.crypto_core_ed25519_scalar_reduce(stream.random_bytes(64))


def _checked(point: bytes) -> bytes:
    if not bindings.crypto_core_ed25519_is_valid_point(point):
        raise ProtocolError("the other side sent what is no point of the prime-order group of edwards25519")
    return point


def _multiply(scalar: bytes, point: bytes) -> bytes:
    try:
        return bindings.crypto_scalarmult_ed25519_noclamp(scalar, point)
    except (CryptoError, RuntimeError):  # the neutral element, which no honest party's points lead to
        raise ProtocolError("the other side sent points that no party of this protocol sends") from None


def _hash_to_point(label: str, index: int, j: int, point: bytes) -> bytes:
    digest = hashlib.sha512(_prefix("point", label, index, j) + point).digest()
    halves = (bindings.crypto_core_ed25519_from_uniform(digest[at : at + 32]) for at in (0, 32))
    return bindings.crypto_core_ed25519_add(*halves)


def _key(label: str, session: bytes, index: int, j: int, point: bytes) -> NDArray[np.uint8]:
    digest = hashlib.sha256(_prefix("key", label, index, j) + session + point).digest()
    return np.frombuffer(digest[:KEY_BYTES], np.uint8)


def _prefix(use: str, label: str, index: int, j: int) -> bytes:
    """Of fixed length but for the label, which ends with a zero byte."""
    return f"aero/base-ot/v1/{use}/{label}".encode() + bytes([0]) + index.to_bytes(4, "little") + bytes([j])
