"""SoftSpokenOT: OT extension from a hash alone, with 31 bits of communication each.

Roy, "SoftSpokenOT" (2022, ePrint 2022/192, sections 3 and 4), semi-honest, over the field of 2^k elements, k = 4.
Delta, 128 bits, is cut into 32 digits D_g of k bits.

Once (32 trees of 2^k leaves each; the receiver of the correlated OTs is the sender of the base OTs):
1. Receiver: grows each tree from a uniform root; node x has the children AES_x(0), AES_x(1). For each level and side,
   the XOR of all nodes there, masked with a base OT's key: sent.                          to the sender
2. Sender: it chose in base OT k g + i the complement of bit i of D_g, so it gets of tree g all leaves but that
   number D_g.

For n OTs (r_x: the next n bits of leaf x's AES-CTR stream):
1. Receiver: u_g = XOR of all r_x;  v_g,i = XOR of the r_x with bit i of x set.  Its bits are u = u_0;  d_g = u_g ^ u
   for g = 1, ..., 31: sent.                                                               to the sender
2. Sender: w_g,i = XOR of the r_x with bit i of x ^ D_g set, D_g's own leaf having none; ^ d_g where bit i of D_g is
   set.

Then w_g,i = v_g,i ^ u (bit i of D_g): row k g + i of K = w and M = v, read in columns of 128 bits. Clearing the lowest
bit of K and setting that of M to u keeps K ^ M = u Delta, as Delta's lowest bit is one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aero.kernels.block_hash import transpose_128
from aero.kernels.native import _native
from aero.kernels.ot import leaf_sums
from aero.kernels.prg import Prg
from aero.mpc.ot.correlated import CorrelatedOts, Queue
from aero.mpc.ot.random_ot import Blocks

BASE_OTS = 128
FIELD_BITS = 4
GROUPS = BASE_OTS // FIELD_BITS
LEAVES = 1 << FIELD_BITS

OPENING_BYTES = BASE_OTS * 2 * 16
UNIT = 1 << 16
"""Correlated OTs that one unit of message makes."""


def message_bytes(count: int) -> int:
    """Of `count` OTs, a multiple of 128."""
    assert count % 128 == 0, "columns come in blocks of 128"
    return (GROUPS - 1) * count // 8


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
        self.opening = masked.reshape(-1)
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
        sums, rows = leaf_sums(self._leaves, self._block, count // 8)
        self._block += count // 128
        bits = sums[0]
        m = transpose_128(rows)
        m[:, 0] = m[:, 0] & 0xFE | np.unpackbits(bits, bitorder="little")
        return (sums[1:] ^ bits).reshape(-1), m

    def take(self, count: int) -> Blocks:
        return self._queue.take(count)


class SoftSpokenSender(CorrelatedOts):
    """The end that has Delta and K."""

    speaks = False
    at_once = UNIT

    def __init__(self, delta: Blocks, base_keys: Blocks, opening: NDArray[np.uint8]) -> None:
        """`delta` uint8 [16]. `base_keys` [128, 16], chosen by `base_choices(delta)`. `opening`: of the other end."""
        bits = _bits(delta)
        self._masks = (np.uint8(0) - bits)[:, None]  # 0 or 255 for each row
        choices = base_choices(delta).reshape(GROUPS, FIELD_BITS)
        keys = base_keys.reshape(GROUPS, FIELD_BITS, 16)
        masked = opening.reshape(GROUPS, FIELD_BITS, 2, 16)
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
        # Leaf x ^ D_g at place x: the place of the leaf that is missing is 0, which is part of no row.
        self._leaves = np.take_along_axis(nodes, (np.arange(LEAVES) ^ unknown[:, None])[:, :, None], axis=1)
        self._block = 0
        self._queue = Queue()

    def hear(self, units: int, message: NDArray[np.uint8]) -> None:
        for part in message.reshape(units, message_bytes(UNIT)):
            self._queue.put(self.extend(UNIT, part))

    def extend(self, count: int, message: NDArray[np.uint8]) -> Blocks:
        """K [count, 16] for `count` OTs, a multiple of 128, from the other end's message about them."""
        _, rows = leaf_sums(self._leaves, self._block, count // 8)
        self._block += count // 128
        corrections = np.repeat(message.reshape(GROUPS - 1, count // 8), FIELD_BITS, axis=0)
        rows[FIELD_BITS:] ^= corrections & self._masks[FIELD_BITS:]
        k = transpose_128(rows)
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
