"""Which of two numbers is smaller, and whether a shared number is negative: XOR shares of a bit.

`less_than`: the client has a, the server b, both below 2^k. Their numbers are cut into digits of 4 bits.

1. Client: for each digit of a, its correction of a 1-of-16 OT (kernels/leaf_ot.py).              client -> server
2. Server: for each digit, draws a mask of two bits, which become its shares of [a's digit < b's digit] and [a's digit =
   b's digit], and sends the table of the OT, in which the client finds its own shares. The least digit needs no
   [equal].                                                                                       server -> client
   Of many numbers, both messages go in parts, and the client does not wait for an answer between them.
3. A tree over the digits: of two neighbours, less = less_high xor equal_high less_low and equal = equal_high equal_low.
   Each level is one round of products of bits (ot/transfer.py), for both products from one OT in each direction.

2 + ceil(log2 ceil(k / 4)) rounds: 3 for up to 8 bits, 4 for up to 16, 5 for up to 32.

`negative`: x = x_0 + x_1 modulo 2^l. The top bit of x is the XOR of both shares' top bits and of the carry out of the
l - 1 bits below, [x_0 low + x_1 low >= 2^(l-1)] = [2^(l-1) - 1 - x_0 low < x_1 low]: one comparison of l - 1 bits.

Rathee et al. 2020 (CrypTFlow2), section 3, with the products of Huang et al. 2022 (Cheetah), section 4.2, in one round.
docs/security/nonlinear.md has the argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from aero.kernels import bitpack, leaf_ot
from aero.mpc.cost import ProtocolCost, message, ots_used
from aero.mpc.fixed_point import reduce_ring
from aero.mpc.ot.transfer import (
    BitProduct,
    Bits,
    ProductShape,
    multiply_bits,
    pack_small,
    pieces,
    products_cost,
    unpack_small,
)
from aero.mpc.party import Party, Role, parse
from aero.mpc.share import Share, Words

DIGIT_BITS = 4
PART = 1 << 14
"""Numbers whose corrections, and whose tables, are one message: of more, both parties compute at the same time."""


class _Digit(NamedTuple):
    """start, width: which bits of the number. size: bits of a message, 1 where [equal] is not needed."""

    start: int
    width: int
    size: int


def less_than(party: Party, mine: Words, bits: int) -> Bits:
    """XOR shares of [the client's number < the server's], in the shape of `mine`: uint64 below 2^bits."""
    if not 1 <= bits <= 64 or (mine.size and int(mine.max()) >> bits):
        raise ValueError(f"numbers to compare have 1 to 64 bits and fit them, here {bits}")
    digits, values = _digits(bits), mine.reshape(-1)
    # Before the first message: a server that waits for the client's corrections cannot make OTs with it.
    party.ots.reserve(*((0, values.size * bits) if party.is_client else (values.size * bits, 0)))
    leaves = (_choose if party.is_client else _offer)(party, digits, values)
    less = [leaf & np.uint8(1) for leaf in leaves]
    equal = [leaf >> np.uint8(1) for leaf in leaves]
    while len(less) > 1:
        less, equal = _merge(party, less, equal)
    return less[0].reshape(mine.shape)


def less_than_cost(count: int, bits: int) -> ProtocolCost:
    digits = _digits(bits)
    total = ots_used(Role.SERVER, count * bits)
    for part in _parts(count):
        n = part.stop - part.start
        asked = message(Role.CLIENT, sum(bitpack.packed_size(n, d.width) for d in digits))
        answered = message(Role.SERVER, sum(bitpack.packed_size(n, d.size << d.width) for d in digits))
        total |= asked + answered
    groups = len(digits)
    while groups > 1:
        pairs = groups // 2
        low = [ProductShape(role, count, 1) for role in Role]
        high = [ProductShape(role, (pairs - 1) * count, 2) for role in Role if pairs > 1]
        total += products_cost(low + high)
        groups -= pairs
    return total


def negative(party: Party, x: Share) -> Bits:
    """XOR shares of [x < 0], x taken from -2^(l-1) to 2^(l-1) - 1.

    For fewer rounds and bytes, give a share of fewer bits: `x.reduced(...)` where x is known to fit a smaller ring,
    `x.truncated(...)` where numbers within a larger step of zero may come out either way.
    """
    top = (x.values >> np.uint64(x.bits - 1)).astype(np.uint8)
    if x.bits == 1:
        return top
    low = reduce_ring(x.values, x.bits - 1)
    mine = np.uint64((1 << (x.bits - 1)) - 1) - low if party.is_client else low
    return less_than(party, mine, x.bits - 1) ^ top


def negative_cost(count: int, bits: int) -> ProtocolCost:
    """Of `count` numbers in the ring of 2^bits."""
    return less_than_cost(count, bits - 1) if bits > 1 else ProtocolCost()


@lru_cache(maxsize=64)
def _digits(bits: int) -> tuple[_Digit, ...]:
    """From the least; a last one that is not whole is at the top."""
    starts = range(0, bits, DIGIT_BITS)
    return tuple(_Digit(start, min(DIGIT_BITS, bits - start), 2 if start else 1) for start in starts)


def _of(values: Words, digit: _Digit) -> Bits:
    return (values >> np.uint64(digit.start)).astype(np.uint8) & np.uint8((1 << digit.width) - 1)


def _parts(count: int) -> list[slice]:
    return [slice(start, min(start + PART, count)) for start in range(0, count, PART)] or [slice(0, 0)]


def _joined(parts: list[list[Bits]]) -> list[Bits]:
    """Shares of every digit, of all numbers."""
    return parts[0] if len(parts) == 1 else [np.concatenate(several) for several in zip(*parts, strict=True)]


def _choose(party: Party, digits: Sequence[_Digit], values: Words) -> list[Bits]:
    """The client's part of steps 1 and 2: its shares, [less] in bit 0 and [equal] in bit 1. It asks for all parts
    before it reads an answer."""
    asked, opened = [], []
    for part in _parts(values.size):
        several, packed = [], []
        for digit in digits:
            own = _of(values[part], digit)
            shape = (own.size, digit.width)
            bits, blocks = party.ots.receive(own.size * digit.width)
            corrections, pads = leaf_ot.choices(bits.reshape(shape), blocks.reshape(*shape, 16), own, digit.size)
            several.append((own, corrections, pads))
            packed.append(pack_small(corrections, digit.width))
        party.channel.send(np.concatenate(packed))
        asked.append(several)
    for several in asked:
        n = several[0][0].size
        sizes = [bitpack.packed_size(n, d.size << d.width) for d in digits]
        arrived = pieces(party.channel.recv(sum(sizes), np.uint8), sizes)
        tables = [parse(bitpack.unpack, data, n, d.size << d.width) for d, data in zip(digits, arrived, strict=True)]
        opened.append([leaf_ot.open_entries(t, *of, d.size) for d, t, of in zip(digits, tables, several, strict=True)])
    return _joined(opened)


def _offer(party: Party, digits: Sequence[_Digit], values: Words) -> list[Bits]:
    """The server's part: it answers each part of the numbers when it comes."""
    answered = []
    for part in _parts(values.size):
        own, tables, masks = values[part], [], []
        n = own.size
        sizes = [bitpack.packed_size(n, d.width) for d in digits]
        arrived = pieces(party.channel.recv(sum(sizes), np.uint8), sizes)
        for digit, data in zip(digits, arrived, strict=True):
            corrections = parse(unpack_small, data, n, digit.width)
            blocks = party.ots.send(n * digit.width).reshape(n, digit.width, 2, 16)
            mask = _random_bits(party, n, digit.size)
            table = leaf_ot.tables(blocks, _of(own, digit), corrections, mask, digit.size)
            tables.append(bitpack.pack(table, digit.size << digit.width))
            masks.append(mask)
        party.channel.send(np.concatenate(tables))
        answered.append(masks)
    return _joined(answered)


def _merge(party: Party, less: list[Bits], equal: list[Bits]) -> tuple[list[Bits], list[Bits]]:
    """One level of the tree. The lowest pair needs no [equal]; a top group without a partner waits for the next."""
    n, pairs = less[0].size, len(less) // 2
    high = np.concatenate([equal[2 * i + 1] for i in range(pairs)])
    low = np.concatenate([less[0], *(less[2 * i] | equal[2 * i] << np.uint8(1) for i in range(1, pairs))])
    products = []
    for bits, part in ((1, slice(0, n)), (2, slice(n, None))):
        if part.start < high.size:
            mine = {party.role: high[part], party.role.other: low[part]}
            products += [BitProduct(role, bits, mine[role], xor=True) for role in Role]
    shares = multiply_bits(party, products)
    crossed = [shares[i] ^ shares[i + 1] for i in range(0, len(shares), 2)]
    both = np.concatenate(crossed) ^ (low & -high)
    merged_less = [less[2 * i + 1] ^ (both[i * n : (i + 1) * n] & np.uint8(1)) for i in range(pairs)]
    merged_equal = [both[i * n : (i + 1) * n] >> np.uint8(1) for i in range(pairs)]
    return merged_less + less[2 * pairs :], merged_equal + equal[2 * pairs :]


def _random_bits(party: Party, count: int, width: int) -> Bits:
    """`count` uniform numbers of `width` bits, at most 8."""
    drawn = np.frombuffer(party.stream("masks").random_bytes(count), np.uint8)
    return drawn & np.uint8((1 << width) - 1)
