"""Products of a bit and a word, each known to one party, from random OTs: what most protocols on shares are made of.

One party, the chooser, knows a bit b, the other a word x. They end with additive shares of b x, modulo 2^l, or with
XOR shares of it. Of one random OT the sender (who knows x) has r_0 and r_1, the chooser c and r_c:

1. Chooser: sends d = b xor c. Other party: sends e = x + r_0 - r_1.                  both directions, at the same time
2. c x is shared as -r_0 and r_c + c e. As b x = c x for d = 0 and x - c x for d = 1, each party turns its part: the
   sender takes -r_0 or x + r_0, the chooser its part or minus its part.

1 round: neither message waits for the other, because the correlation is made for c, and only then turned to b.
With XOR for addition, and no turn of signs, the same for XOR shares. d and e are uniform: c is not known to the
sender, r_(1-c) not to the chooser. Correlated OT: Asharov, Lindell, Schneider and Zohner 2013, section 5.1; that a
random choice can be corrected afterwards: Beaver 1995.

`multiply_bits` does many at once, of different rings and in both directions, in one message from each party.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from aero.kernels import bitpack
from aero.mpc.cost import ProtocolCost, message, ots_used
from aero.mpc.fixed_point import reduce_ring
from aero.mpc.party import Party, Role, parse

T = TypeVar("T")
Bits = NDArray[np.uint8]
MAX_XOR_BITS = 8


@dataclass(frozen=True)
class ProductShape:
    """How much a product costs: `count` bits of `chooser`, times words of `bits` bits."""

    chooser: Role
    count: int
    bits: int


@dataclass(frozen=True)
class BitProduct:
    """This party's side of many b x.

    chooser: who knows the bits. bits: l.
    mine: the chooser's bits, uint8 0 or 1; the other party's words, below 2^l: uint64, or uint8 for XOR shares.
    xor: shares are XORed instead of added; l is at most 8 then.
    """

    chooser: Role
    bits: int
    mine: NDArray[Any]
    xor: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= (MAX_XOR_BITS if self.xor else 64):
            raise ValueError(f"a product of {self.bits} bits: additive shares take 1 to 64, XOR shares 1 to 8")

    @property
    def shape(self) -> ProductShape:
        return ProductShape(self.chooser, self.mine.size, self.bits)


def multiply_bits(party: Party, products: Sequence[BitProduct]) -> list[NDArray[Any]]:
    """This party's shares of all products, flat: uint64 below 2^l, or uint8 for XOR shares. One round.

    The OTs have to be there (`RandomOts.reserve`): both parties draw them before either receives.
    """
    if not products:
        return []
    pending = [_Chosen(party, p) if p.chooser is party.role else _Offered(party, p) for p in products]
    party.channel.send(np.concatenate([side.outgoing for side in pending]))
    sizes = [_message_size(p.shape, p.chooser.other if p.chooser is party.role else p.chooser) for p in products]
    arrived = np.split(party.channel.recv(sum(sizes), np.uint8), np.cumsum(sizes)[:-1])
    return [side.finish(data) for side, data in zip(pending, arrived, strict=True)]


def products_cost(shapes: Sequence[ProductShape]) -> ProtocolCost:
    """Of one call of `multiply_bits`."""
    total = ProtocolCost()
    if not shapes:
        return total
    for role in Role:
        total |= message(role, sum(_message_size(shape, role) for shape in shapes))
        total |= ots_used(role, sum(shape.count for shape in shapes if shape.chooser is not role))
    return total


@dataclass(frozen=True)
class OneRound(Generic[T]):
    """A protocol that is some products of bits and what is made of them, not yet run: `together` runs it."""

    products: tuple[BitProduct, ...]
    finish: Callable[[list[NDArray[Any]]], T]


def together(party: Party, *protocols: OneRound[Any]) -> list[Any]:
    """Run several protocols of one round in the same round, and give their results in order."""
    shares = multiply_bits(party, [p for protocol in protocols for p in protocol.products])
    results, start = [], 0
    for protocol in protocols:
        stop = start + len(protocol.products)
        results.append(protocol.finish(shares[start:stop]))
        start = stop
    return results


class _Chosen:
    """The chooser's side of one product, between its message and the other's."""

    def __init__(self, party: Party, product: BitProduct) -> None:
        self.product = product
        self.choices, blocks = party.ots.receive(product.mine.size)
        self.pads = _pads(blocks, product)
        self.turned = product.mine.reshape(-1) ^ self.choices
        self.outgoing = pack_bits(self.turned)

    def finish(self, data: NDArray[np.uint8]) -> NDArray[Any]:
        p, c = self.product, self.choices
        if p.xor:
            return self.pads ^ (parse(unpack_small, data, c.size, p.bits) & (np.uint8(0) - c))
        offered = parse(bitpack.unpack, data, c.size, p.bits)
        share = self.pads + offered * c
        return reduce_ring(np.where(self.turned, np.uint64(0) - share, share), p.bits)


class _Offered:
    """The side of the party that knows the words."""

    def __init__(self, party: Party, product: BitProduct) -> None:
        self.product, self.words = product, product.mine.reshape(-1)
        blocks = party.ots.send(product.mine.size)
        self.pads, other = _pads(blocks[:, 0], product), _pads(blocks[:, 1], product)
        if product.xor:
            self.outgoing = pack_small(self.pads ^ other ^ self.words, product.bits)
        else:
            self.outgoing = bitpack.pack(reduce_ring(self.pads - other + self.words, product.bits), product.bits)

    def finish(self, data: NDArray[np.uint8]) -> NDArray[Any]:
        p = self.product
        turned = parse(unpack_small, data, self.words.size, 1)
        if p.xor:
            return self.pads ^ (self.words & (np.uint8(0) - turned))
        return reduce_ring(np.where(turned, self.words + self.pads, np.uint64(0) - self.pads), p.bits)


def _pads(blocks: NDArray[np.uint8], product: BitProduct) -> NDArray[Any]:
    """The first bits of each block [n, 16]."""
    if product.xor:
        return blocks[:, 0] & np.uint8((1 << product.bits) - 1)
    return reduce_ring(blocks.view(np.uint64)[:, 0], product.bits)


def _message_size(shape: ProductShape, sender: Role) -> int:
    return bitpack.packed_size(shape.count, 1 if sender is shape.chooser else shape.bits)


# Small values, one to a byte, on the wire: as `bitpack` packs them.


def pack_bits(bits: Bits) -> NDArray[np.uint8]:
    return np.packbits(bits.reshape(-1), bitorder="little")


def pack_small(values: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """uint8 below 2^width."""
    return pack_bits(values) if width == 1 else bitpack.pack(values.astype(np.uint64), width)


def unpack_small(data: NDArray[np.uint8], count: int, width: int) -> NDArray[np.uint8]:
    """What `pack_small` packed; ValueError where a bit after the last value is set."""
    if width > 1:
        return bitpack.unpack(data, count, width).astype(np.uint8)
    if count % 8 and data[-1] >> count % 8:
        raise ValueError("the bits after the last value are not zero: the data is damaged")
    return np.unpackbits(data, count=count, bitorder="little")
