"""The inner loops of oblivious transfer: sums over leaves, trees, the code of LPN, and the hash to pads.

A *session* key is 16 public bytes that are fresh for each session; keys for trees, codes and pads are derived from it,

    derived(session, domain, index) = AES_session(2^56 domain + index),     domain below 256, index below 2^56,

so that nothing which is hashed or expanded in one place ever meets the same key and tweak in another. The hash of pads
is that of `block_hash`, H(x, t) = pi(pi(x) ^ t) ^ pi(x), with pi = AES under a derived key. Blocks are uint8 [..., 16];
their *lowest bit* is bit 0 of byte 0. ValueError for other shapes or dtypes. Tested against `reference/ot.py`; not
audited.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aero.kernels.native import _native

Blocks = NDArray[np.uint8]

BLOCK_BYTES = 16
_HUGE_PAGE = 1 << 21


def leaf_sums(leaves: Blocks, first_block: int, row_bytes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The leaves [groups, 2^k, 16] are keys of AES-CTR streams; r_x is the piece of leaf x's stream of `row_bytes`, a
    multiple of 16, from `first_block` on. Returns, per group, the XOR of all r_x [groups, row_bytes], and for each bit
    b of x the XOR of those whose bit b is one [groups k, row_bytes]."""
    if leaves.ndim != 3 or leaves.shape[1] & (leaves.shape[1] - 1):
        raise ValueError("the leaves are a uint8 array of shape (groups, 2^k, 16)")
    groups, k = leaves.shape[0], leaves.shape[1].bit_length() - 1
    sums, rows = np.empty((groups, row_bytes), np.uint8), np.empty((groups * k, row_bytes), np.uint8)
    _native.leaf_sums(np.ascontiguousarray(leaves), k, first_block, sums, rows)
    return sums, rows


def sender_pads(session: bytes, domain: int, first: int, delta: Blocks, k: Blocks, out: Blocks | None = None) -> Blocks:
    """Both pads of correlated OTs number first, first + 1, ...: H(k, t) and H(k ^ delta, t), t = 2^56 domain + number,
    under the key derived(session, domain, number div 256). k [n, 16] -> [n, 2, 16], in `out` if it is given."""
    out = np.empty((len(k), 2, BLOCK_BYTES), np.uint8) if out is None else out
    _native.sender_pads(session, domain, first, delta, np.ascontiguousarray(k), out)
    return out


def receiver_pads(
    session: bytes,
    domain: int,
    first: int,
    m: Blocks,
    bits: NDArray[np.uint8] | None = None,
    out: Blocks | None = None,
) -> tuple[NDArray[np.uint8], Blocks]:
    """The lowest bits of m [n, 16], and the pads H(m, t) [n, 16] with t and key as in `sender_pads`; in `bits` and
    `out` if they are given."""
    bits = np.empty(len(m), np.uint8) if bits is None else bits
    out = np.empty((len(m), BLOCK_BYTES), np.uint8) if out is None else out
    _native.receiver_pads(session, domain, first, np.ascontiguousarray(m), bits, out)
    return bits, out


@dataclass(frozen=True, repr=False)
class LocalCode:
    """A public sparse matrix, given by a key of 16 bytes, times a secret `table` [2^s, 16], s at most 21: output number
    n is the XOR of ten blocks of the table. Place l is the s bits from bit 21 (l mod 3) on of the 64-bit word
    4 n + l div 3 of the key's stream."""

    key: bytes
    table: Blocks


def code_table(blocks: Blocks) -> Blocks:
    """A copy [n, 16] for a code to read from: on pages of 2 MB where the system has them, as its places lie far
    apart."""
    room = np.empty(blocks.nbytes + 2 * _HUGE_PAGE, np.uint8)  # large enough for NumPy to ask for such pages
    start = -room.ctypes.data % _HUGE_PAGE
    table = room[start : start + blocks.nbytes].reshape(-1, BLOCK_BYTES)
    table[:] = blocks
    return table


def tree_sums(session: bytes, domain: int, first_tree: int, depth: int, delta: Blocks, roots: Blocks) -> Blocks:
    """Of correlated GGM trees (`tree_leaves`), the sum of the left children on each level: [trees, depth, 16]."""
    sums = np.empty((len(roots), depth, BLOCK_BYTES), np.uint8)
    _native.grow_trees(session, domain, first_tree, depth, delta, np.ascontiguousarray(roots), sums, None, None, None)
    return sums


def tree_leaves(
    session: bytes,
    domain: int,
    first_tree: int,
    depth: int,
    delta: Blocks,
    roots: Blocks,
    code: LocalCode | None = None,
    out: Blocks | None = None,
) -> Blocks:
    """Leaves of correlated GGM trees number first_tree, ..., their lowest bits cleared: [trees, 2^depth, 16], in `out`
    if it is given. With a code, its output number 2^depth tree + j is added to leaf j of each tree.

    Level 1 of a tree is root, root ^ delta. A node x has the children h and x ^ h for h = pi(s(x)) ^ s(x), pi = AES
    under derived(session, domain, tree) and s(low, high) = (high, low ^ high) on halves of 64 bits (Guo, Katz, Wang and
    Yu 2020, section 7.3), so that every level adds up to delta. roots [trees, 16]; depth 2 to 16.
    """
    leaves = _room(out, len(roots), depth)
    code_key, table = (None, None) if code is None else (code.key, code.table)
    roots = np.ascontiguousarray(roots)
    _native.grow_trees(session, domain, first_tree, depth, delta, roots, None, leaves, code_key, table)
    return leaves


def punctured_leaves(
    session: bytes,
    domain: int,
    first_tree: int,
    bits: NDArray[np.uint8],
    sums: Blocks,
    code: LocalCode | None = None,
    out: Blocks | None = None,
) -> Blocks:
    """Leaves of the trees of `tree_leaves`, all but one of each tree, from the sums on the side that `bits`, uint8
    [trees, depth], name on each level (0 left): sums [trees, depth, 16] -> [trees, 2^depth, 16]. `code` and `out` as
    there.

    The unknown leaf is the one whose place has the complements of `bits` as its binary digits, the first on top; there
    the result is the leaf ^ delta, delta's lowest bit being one. That place is this party's secret, and tells in the
    addresses which the kernel touches.
    """
    leaves = _room(out, *bits.shape)
    code_key, table = (None, None) if code is None else (code.key, code.table)
    sums = np.ascontiguousarray(sums)
    _native.grow_punctured_trees(session, domain, first_tree, bits, sums, leaves, code_key, table)
    return leaves


def _room(out: Blocks | None, trees: int, depth: int) -> Blocks:
    shape = (trees, 1 << depth, BLOCK_BYTES)
    if out is None:
        return np.empty(shape, np.uint8)
    if not out.flags.c_contiguous or out.size != np.prod(shape):
        raise ValueError(f"`out` is a contiguous array of {np.prod(shape)} bytes")
    return out.reshape(shape)


def derived_key(session: bytes, domain: int, index: int) -> bytes:
    """AES_session(2^56 domain + index)."""
    key = np.empty(BLOCK_BYTES, np.uint8)
    _native.sample_bytes(session, (domain << 56) + index, key)
    return key.tobytes()
