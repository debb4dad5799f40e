"""Products and public tables for few numbers: what is done on rows, after sums over them.

`multiply`: x y = x_0 y_0 + x_1 y_1 + x_0 y_1 + x_1 y_0 modulo 2^m. Each of the last two is a sum over the bits of one
party's part of y, sum over j of 2^j (bit j of y_i) x_(1-i), and each term a product of a bit and a word modulo 2^(m-j)
(ot/transfer.py). All terms in both directions go at once: 1 round, m OTs and m (m + 3) / 2 bits each way. Gilboa 1999,
section 4.

`square`: x^2 = x_0^2 + x_1^2 + (2 x_0) x_1, of which the last takes the bits of the client's 2 x_0 alone: its lowest is
zero, so m - 1 OTs in one direction.

`look_up`: the entry of a public table of N = 2^k, k up to 8, at the shared index i_0 + i_1 modulo N.

1. Client: holding k random OTs whose bits make the number c, sends i_0 xor c.                     client -> server
2. Server: draws its shares r of the entries, turns the table by i_1, and sends for every v the entry that belongs to
   i_0 = v xor i_0 xor c, minus r, plus a pad made from the blocks of v's bits.                    server -> client
3. Client: takes off the pad of c, the only one that it can compute.

2 rounds. The pad of v is the XOR over bits i of F(r[i, bit i of v], v), F the tweaked hash of kernels/block_hash.py:
Naor and Pinkas 1999, section 3. Nothing reads memory at an address that depends on a share: the table is turned in k
steps, each for every row, and the client's entry is found by looking at all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aero.kernels import bitpack
from aero.kernels.block_hash import hash_blocks
from aero.mpc.cost import ProtocolCost, message, ots_used
from aero.mpc.fixed_point import reduce_ring
from aero.mpc.ot.random_ot import Blocks
from aero.mpc.ot.transfer import (
    BitProduct,
    Bits,
    OneRound,
    ProductShape,
    pack_small,
    products_cost,
    together,
    unpack_small,
)
from aero.mpc.party import Party, Role, parse
from aero.mpc.share import Share, Words

MAX_INDEX_BITS = 8


def multiply(party: Party, x: Share, y: Share, bits: int) -> Share:
    """[x y] modulo 2^bits, element by element: exact, with the sum of both numbers of fractional bits.

    Signed numbers are right where their product fits the ring. Both factors are in rings of at least `bits`.
    """
    [result] = together(party, multiplication(party, x, y, bits))
    return result


def multiplication(party: Party, x: Share, y: Share, bits: int) -> OneRound[Share]:
    """`multiply`, for `together`."""
    if x.shape != y.shape:
        raise ValueError(f"shares of {x.shape} and {y.shape} are not multiplied element by element")
    words, factor = x.reduced(bits).values, y.reduced(bits).values
    own = x.of(words * factor, bits=bits, fraction_bits=x.fraction_bits + y.fraction_bits)
    return _bit_by_bit(party, own, words, factor, multiply_shapes(words.size, bits))


def multiply_cost(count: int, bits: int) -> ProtocolCost:
    return products_cost(multiply_shapes(count, bits))


def multiply_shapes(count: int, bits: int) -> list[ProductShape]:
    return [ProductShape(role, count, bits - j) for j in range(bits) for role in Role]


def square(party: Party, x: Share, bits: int) -> Share:
    """[x^2] modulo 2^bits, as `multiply` of x by itself, for half of the bytes."""
    words = x.reduced(bits).values
    own = x.of(words * words, bits=bits, fraction_bits=2 * x.fraction_bits)
    shapes = square_shapes(words.size, bits)
    [result] = together(party, _bit_by_bit(party, own, words, words << np.uint64(1), shapes))
    return result


def square_cost(count: int, bits: int) -> ProtocolCost:
    return products_cost(square_shapes(count, bits))


def square_shapes(count: int, bits: int) -> list[ProductShape]:
    return [ProductShape(Role.CLIENT, count, bits - 1 - j) for j in range(bits - 1)]


def _bit_by_bit(
    party: Party, own: Share, words: Words, factor: Words, shapes: Sequence[ProductShape]
) -> OneRound[Share]:
    """[own] in the ring of 2^m, plus for each shape of l bits 2^(m-l) (bit m - l of its chooser's factor) (the other's
    words).
    """
    shifts = np.array([[own.bits - shape.bits] for shape in shapes], np.uint64)
    bits = (factor.reshape(1, -1) >> shifts).astype(np.uint8) & np.uint8(1)
    masks = np.array([[(1 << shape.bits) - 1] for shape in shapes], np.uint64)
    reduced = words.reshape(1, -1) & masks
    products = [
        BitProduct(shape.chooser, shape.bits, bits[i] if shape.chooser is party.role else reduced[i])
        for i, shape in enumerate(shapes)
    ]

    def finish(shares: list[NDArray[Any]]) -> Share:
        terms = (np.stack(shares) << shifts).sum(axis=0, dtype=np.uint64)
        return own.of(own.values + terms.reshape(own.shape))

    return OneRound(tuple(products), finish)


def look_up(party: Party, index: Share, table: Words, bits: Sequence[int]) -> list[Share]:
    """[table[i, w]] for each column w, in the ring of 2^bits[w].

    index: [i] in the ring of 2^k. table: public, uint64 [2^k, columns], each column below 2^bits[w].
    """
    k, n = index.bits, math.prod(index.shape)
    _check_table(k, table, bits)
    own = index.values.reshape(-1).astype(np.uint8)
    values = (_find if party.is_client else _turn)(party, own, k, n, table, bits)
    shape = index.shape
    return [Share(column.reshape(shape), width) for column, width in zip(values, bits, strict=True)]


def look_up_cost(count: int, index_bits: int, bits: Sequence[int]) -> ProtocolCost:
    asked = message(Role.CLIENT, bitpack.packed_size(count, index_bits))
    answered = message(Role.SERVER, *(bitpack.packed_size(count << index_bits, width) for width in bits))
    return (asked + answered) | ots_used(Role.SERVER, count * index_bits)


def _check_table(k: int, table: Words, bits: Sequence[int]) -> None:
    if not 1 <= k <= MAX_INDEX_BITS:
        raise ValueError(f"an index has 1 to {MAX_INDEX_BITS} bits, not {k}: cut it into a table and a remainder")
    if table.dtype != np.uint64 or table.shape != (1 << k, len(bits)):
        raise ValueError(f"a table for {k} bits and {len(bits)} columns is uint64 of shape {(1 << k, len(bits))}")
    for width, column in zip(bits, table.T, strict=True):
        if not 1 <= width <= 64 or int(column.max()) >> width:
            raise ValueError(f"a column of the table does not fit its ring of {width} bits")


def _find(party: Party, own: Bits, k: int, n: int, table: Words, bits: Sequence[int]) -> list[Words]:
    """The client's part."""
    choices, blocks = party.ots.receive(n * k)
    chosen = (choices.reshape(n, k) << np.arange(k, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
    party.channel.send(pack_small(own ^ chosen, k))
    arrived = party.channel.recv_many(*((bitpack.packed_size(n << k, width), np.uint8) for width in bits))
    here = np.arange(1 << k, dtype=np.uint8) == chosen[:, None]
    pads = _pads(blocks.reshape(n, k, 1, 16), chosen[:, None].astype(np.uint64), len(bits))[:, 0]
    out = []
    for w, (width, data) in enumerate(zip(bits, arrived, strict=True)):
        entries = parse(bitpack.unpack, data, n << k, width).reshape(n, 1 << k)
        out.append(reduce_ring((entries * here).sum(axis=1) - pads[:, w], width))
    return out


def _turn(party: Party, own: Bits, k: int, n: int, table: Words, bits: Sequence[int]) -> list[Words]:
    """The server's part."""
    blocks = party.ots.send(n * k).reshape(n, k, 2, 16)
    data = party.channel.recv(bitpack.packed_size(n, k), np.uint8)
    corrections = parse(unpack_small, data, n, k)
    positions = np.arange(1 << k, dtype=np.uint8)
    by_position = np.stack([blocks[:, i, positions >> i & 1] for i in range(k)], axis=1)
    pads = _pads(by_position, np.broadcast_to(positions.astype(np.uint64), (n, 1 << k)), len(bits))
    shares, messages = [], []
    for w, width in enumerate(bits):
        mask = party.stream("masks").uniform(n, width)
        turned = _turned(table[:, w], own, k)
        entries = np.take_along_axis(turned, (positions ^ corrections[:, None]).astype(np.intp), axis=1)
        messages.append(bitpack.pack(reduce_ring(entries - mask[:, None] + pads[:, :, w], width), width))
        shares.append(mask)
    party.channel.send(*messages)
    return shares


def _turned(column: Words, by: Bits, k: int) -> Words:
    """[n, 2^k]: entry j of row r is column[(j + by[r]) mod 2^k], without an address that depends on `by`."""
    rows = np.broadcast_to(column, (len(by), 1 << k))
    for i in range(k):
        everywhere = np.uint64(0) - (by >> np.uint8(i) & np.uint8(1)).astype(np.uint64)
        rows = rows ^ ((rows ^ np.roll(rows, -(1 << i), axis=1)) & everywhere[:, None])
    return rows


def _pads(blocks: Blocks, positions: Words, columns: int) -> Words:
    """What hides the entries: uint64 [n, places, columns], from blocks [n, k, places, 16] at positions [n, places]."""
    n, k, places = blocks.shape[:3]
    calls = (columns + 1) // 2  # a hash gives two words
    pads = np.zeros((n * places, 2 * calls), np.uint64)
    for i in range(k):
        keys = np.ascontiguousarray(blocks[:, i]).reshape(-1, 16)
        for call in range(calls):
            tweaks = positions.reshape(-1) * np.uint64(calls) + np.uint64(call)
            pads[:, 2 * call : 2 * call + 2] ^= hash_blocks(keys, tweaks).view(np.uint64)
    return pads.reshape(n, places, 2 * calls)
