"""SoftSpokenOT: OT extension from a hash alone, with 31 bits of communication each.

Roy, "SoftSpokenOT" (2022, ePrint 2022/192, sections 3 to 5), with its checks, over the field of 2^k elements, k = 4.
Delta, 128 bits, is cut into 32 digits D_g of k bits.

Once (32 trees of 2^k leaves each; the receiver of the correlated OTs is the sender of the base OTs):
1. Receiver: grows each tree from a uniform root; node x has the children AES_x(0), AES_x(1). For each level and side,
   the XOR of all nodes there, masked with a base OT's key: sent. So are, to check them, the XOR of the digests
   s_x = SHA-256(leaf x) of each tree, and the digest of all s_x.                          to the sender
2. Sender: it chose in base OT k g + i the complement of bit i of D_g, so it gets of tree g all leaves but that
   number D_g. It computes the s_x that it lacks from their XOR, and compares the digest.

For n OTs, n + 128 columns (r_x: the next n + 128 bits of leaf x's AES-CTR stream):
1. Receiver: u_g = XOR of all r_x;  v_g,i = XOR of the r_x with bit i of x set.  Its bits are u = u_0;  d_g = u_g ^ u
   for g = 1, ..., 31: sent, and to check them h(u) and the digest of all h(v_g,i), where h, linear, takes n + 128 bits
   to 128, its coefficients come from all d_g, and that of the last 128 bits is one.       to the sender
2. Sender: w_g,i = XOR of the r_x with bit i of x ^ D_g set, D_g's own leaf having none; ^ d_g where bit i of D_g is
   set. It compares the digest of all h(w_g,i) ^ h(u) (bit i of D_g).

Then w_g,i = v_g,i ^ u (bit i of D_g): row k g + i of K = w and M = v, read in columns of 128 bits. Clearing the lowest
bit of K and setting that of M to u keeps K ^ M = u Delta, as Delta's lowest bit is one. The last 128 columns mask h(u)
and are used for nothing else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aero.kernels.block_hash import transpose_128
from aero.kernels.gf128 import BLOCK_BYTES, POWERS, dot
from aero.kernels.native import _native
from aero.kernels.ot import leaf_sums
from aero.kernels.prg import Prg
from aero.mpc.ot.consistency import DIGEST_BYTES, coefficients, digest, require_equal
from aero.mpc.ot.correlated import CorrelatedOts, Queue
from aero.mpc.ot.random_ot import Blocks

BASE_OTS = 128
FIELD_BITS = 4
GROUPS = BASE_OTS // FIELD_BITS
LEAVES = 1 << FIELD_BITS

_SUMS_BYTES = BASE_OTS * 2 * BLOCK_BYTES
OPENING_BYTES = _SUMS_BYTES + (GROUPS + 1) * DIGEST_BYTES
_MASK = 128
"""Columns that are made to mask the check."""
UNIT = 1 << 16
"""Correlated OTs that one unit of message makes."""


def message_bytes(count: int) -> int:
    """Of `count` OTs, a multiple of 128."""
    assert count % 128 == 0, "columns come in blocks of 128"
    return (GROUPS - 1) * (count + _MASK) // 8 + BLOCK_BYTES + DIGEST_BYTES


class SoftSpokenReceiver(CorrelatedOts):
    """The end that has bits and M. `opening`, uint8 [OPENING_BYTES], goes to the other end before everything else."""

    speaks = True
    at_once = UNIT

    def __init__(self, base_keys: Blocks, stream: Prg) -> None:
        """`base_keys` [128, 2, 16]: both keys of each base OT. `stream`: where the roots come from."""
        nodes = np.frombuffer(stream.random_bytes(GROUPS * 16), np.uint8).reshape(GROUPS, 1, 16)
        masked = np.empty((GROUPS, FIELD_BITS, 2, 16), np.uint8)
        keys = base_keys.reshape(GROUPS, FIELD_BITS, 2, 16)
        for i in reversed(range(FIELD_BITS)):  # the first level decides the top bit
            nodes = _children(nodes)
            for side in (0, 1):
                masked[:, i, side] = np.bitwise_xor.reduce(nodes[:, side::2], axis=1) ^ keys[:, i, side]
        digests = _leaf_digests(nodes)
        xors = np.bitwise_xor.reduce(digests, axis=1)
        self.opening = np.concatenate([masked.reshape(-1), xors.reshape(-1), digest("leaves", digests)])
        self._opening = digest("opening", self.opening)
        self._leaves = nodes
        self._block = 0
        self._queue = Queue()

    def speak(self, units: int) -> NDArray[np.uint8]:
        message = np.empty((units, message_bytes(UNIT)), np.uint8)
        for part in message:
            part[:], m = self.extend(UNIT)
            self._queue.put(m)
        return message.reshape(-1)

    def extend(self, count: int) -> tuple[NDArray[np.uint8], Blocks]:
        """`count` OTs, a multiple of 128: the message [message_bytes(count)], and M [count, 16]."""
        columns = count + _MASK
        sums, rows = leaf_sums(self._leaves, self._block, columns // 8)
        bits = sums[0]
        corrections = (sums[1:] ^ bits).reshape(-1)
        hashing = _hashing(self._opening, self._block, corrections)
        self._block += columns // 128
        message = np.concatenate([corrections, _hash(hashing, bits), digest("rows", _hash(hashing, rows))])
        m = transpose_128(rows)[:count]
        m[:, 0] = m[:, 0] & 0xFE | np.unpackbits(bits, count=count, bitorder="little")
        return message, m

    def take(self, count: int) -> Blocks:
        return self._queue.take(count)


class SoftSpokenSender(CorrelatedOts):
    """The end that has Delta and K."""

    speaks = False
    at_once = UNIT

    def __init__(self, delta: Blocks, base_keys: Blocks, opening: NDArray[np.uint8]) -> None:
        """`delta` uint8 [16]. `base_keys` [128, 16], chosen by `base_choices(delta)`. `opening`: of the other end;
        ProtocolError if its trees are not what it says they are."""
        bits = _bits(delta)
        self._masks = (np.uint8(0) - bits)[:, None]  # 0 or 255 for each row
        choices = base_choices(delta).reshape(GROUPS, FIELD_BITS)
        keys = base_keys.reshape(GROUPS, FIELD_BITS, 16)
        masked = opening[:_SUMS_BYTES].reshape(GROUPS, FIELD_BITS, 2, 16)
        every, unknown = np.arange(GROUPS), np.zeros(GROUPS, np.int64)
        nodes = np.zeros((GROUPS, 1, 16), np.uint8)
        for i in reversed(range(FIELD_BITS)):
            side = choices[:, i].astype(np.int64)
            known = masked[every, i, side] ^ keys[:, i]
            nodes = _children(nodes)
            nodes[every, 2 * unknown] = nodes[every, 2 * unknown + 1] = 0
            others = np.stack([np.bitwise_xor.reduce(nodes[:, s::2], axis=1) for s in (0, 1)], axis=1)
            nodes[every, 2 * unknown + side] = known ^ others[every, side]
            unknown = 2 * unknown + 1 - side
        digests = _leaf_digests(nodes)
        digests[every, unknown] = 0
        xors = opening[_SUMS_BYTES:-DIGEST_BYTES].reshape(GROUPS, DIGEST_BYTES)
        digests[every, unknown] = np.bitwise_xor.reduce(digests, axis=1) ^ xors
        require_equal(opening[-DIGEST_BYTES:], digest("leaves", digests))
        self._opening = digest("opening", opening)
        # Leaf x ^ D_g at place x: the place of the leaf that is missing is 0, which is part of no row.
        self._leaves = np.take_along_axis(nodes, (np.arange(LEAVES) ^ unknown[:, None])[:, :, None], axis=1)
        self._block = 0
        self._queue = Queue()

    def hear(self, units: int, message: NDArray[np.uint8]) -> None:
        for part in message.reshape(units, message_bytes(UNIT)):
            self._queue.put(self.extend(UNIT, part))

    def extend(self, count: int, message: NDArray[np.uint8]) -> Blocks:
        """K [count, 16] for `count` OTs, a multiple of 128, from the other end's message about them. ProtocolError if
        it fails the check."""
        columns = count + _MASK
        corrections, hashed, theirs = np.split(message, [-BLOCK_BYTES - DIGEST_BYTES, -DIGEST_BYTES])
        _, rows = leaf_sums(self._leaves, self._block, columns // 8)
        hashing = _hashing(self._opening, self._block, corrections)
        self._block += columns // 128
        by_row = np.repeat(corrections.reshape(GROUPS - 1, columns // 8), FIELD_BITS, axis=0)
        rows[FIELD_BITS:] ^= by_row & self._masks[FIELD_BITS:]
        require_equal(theirs, digest("rows", _hash(hashing, rows) ^ hashed & self._masks))
        k = transpose_128(rows)[:count]
        k[:, 0] &= 0xFE
        return k

    def take(self, count: int) -> Blocks:
        return self._queue.take(count)


def base_choices(delta: Blocks) -> NDArray[np.uint8]:
    """What the sender chooses in the base OTs: uint8 0 or 1 [128]."""
    return _bits(delta) ^ np.uint8(1)


def _bits(delta: Blocks) -> NDArray[np.uint8]:
    return np.unpackbits(delta, bitorder="little")


def _children(nodes: Blocks) -> Blocks:
    """[groups, nodes, 16] -> [groups, 2 nodes, 16]: the first two blocks of each node's AES-CTR stream."""
    out = np.empty((nodes.shape[0] * nodes.shape[1], 32), np.uint8)
    for node, children in zip(nodes.reshape(-1, 16), out, strict=True):
        _native.sample_bytes(node.tobytes(), 0, children)
    return out.reshape(nodes.shape[0], -1, 16)


def _leaf_digests(leaves: Blocks) -> NDArray[np.uint8]:
    """[groups, leaves, 16] -> [groups, leaves, 32]."""
    found = [digest("leaf", leaf) for leaf in leaves.reshape(-1, BLOCK_BYTES)]
    return np.array(found).reshape(*leaves.shape[:2], DIGEST_BYTES)


def _hashing(opening: NDArray[np.uint8], block: int, corrections: NDArray[np.uint8]) -> Blocks:
    """Coefficients of h, which takes as many bits as a correction has: one for every 128."""
    count = corrections.size // (GROUPS - 1) // BLOCK_BYTES
    found = coefficients(digest("corrections", opening, block.to_bytes(8, "little"), corrections), count)
    found[-1] = POWERS[0]
    return found


def _hash(hashing: Blocks, rows: NDArray[np.uint8]) -> Blocks:
    """h of each row, packed in bytes: [..., bytes] -> [..., 16]."""
    found, _ = dot(hashing, rows.reshape(-1, len(hashing), BLOCK_BYTES))
    return found.reshape(*rows.shape[:-1], BLOCK_BYTES)
