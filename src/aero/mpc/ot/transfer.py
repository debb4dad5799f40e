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

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from aero.kernels import bitpack
from aero.mpc.cost import ProtocolCost, message, ots_used
from aero.mpc.party import Party, Role, parse

T = TypeVar("T")
Bits = NDArray[np.uint8]
MAX_XOR_BITS = 8
AT_ONCE = 1 << 16
"""OTs that several products draw at once."""


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
    batches = _batches(products)
    sides: list[_Chosen | _Offered] = []
    for batch in batches:
        alike = [products[i] for i in batch]
        sides.append(_Chosen(party, alike) if alike[0].chooser is party.role else _Offered(party, alike))
    party.channel.send(np.concatenate(_in_order(batches, [side.outgoing for side in sides])))
    sizes = [bitpack.packed_size(p.mine.size, p.bits if p.chooser is party.role else 1) for p in products]
    arrived = pieces(party.channel.recv(sum(sizes), np.uint8), sizes)
    shares = [side.finish([arrived[i] for i in batch]) for batch, side in zip(batches, sides, strict=True)]
    return _in_order(batches, shares)


def products_cost(shapes: Sequence[ProductShape]) -> ProtocolCost:
    """Of a call of `multiply_bits`."""
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


def _batches(products: Sequence[BitProduct]) -> list[list[int]]:
    """Which products are made as one: of one direction, kind and size, in order, and as few that their blocks take
    little memory."""
    batches: list[list[int]] = []
    for chooser in Role:
        alike, room = None, 0
        for i, p in enumerate(products):
            if p.chooser is not chooser:
                continue
            size = p.mine.size
            if (p.xor, size) != alike or size > room:
                batches.append([])
                alike, room = (p.xor, size), AT_ONCE
            batches[-1].append(i)
            room -= size
    return batches


def _in_order(batches: list[list[int]], parts: Iterable[Iterable[NDArray[Any]]]) -> list[NDArray[Any]]:
    """One part for each product of each batch, in the order of all products."""
    placed: dict[int, NDArray[Any]] = {}
    for batch, several in zip(batches, parts, strict=True):
        placed.update(zip(batch, several, strict=True))
    return [placed[i] for i in range(len(placed))]


class _Chosen:
    """The chooser's side of products of one kind and size, between its message and the other's. Arrays are [products,
    size]."""

    def __init__(self, party: Party, products: list[BitProduct]) -> None:
        self.products, sizes = products, [p.mine.size for p in products]
        choices, blocks = party.ots.receive_several(sizes)
        self.choices, self.pads = choices.reshape(len(products), -1), _pads(blocks, products)
        self.turned = _rows([p.mine for p in products]) ^ self.choices
        self.outgoing = list(_pack_bits(self.turned))

    def finish(self, data: list[NDArray[np.uint8]]) -> NDArray[Any]:
        offered = _rows([_read(part, p) for part, p in zip(data, self.products, strict=True)])
        if self.products[0].xor:
            return self.pads ^ (offered & -self.choices)
        share = self.pads + offered * self.choices
        return np.where(self.turned, -share, share) & _masks(self.products)


class _Offered:
    """The side of the party that knows the words."""

    def __init__(self, party: Party, products: list[BitProduct]) -> None:
        self.products, sizes = products, [p.mine.size for p in products]
        self.words = _rows([p.mine for p in products])
        blocks = party.ots.send_several(sizes)
        self.pads, other = _pads(blocks[:, 0], products), _pads(blocks[:, 1], products)
        if products[0].xor:
            offered, write = self.pads ^ other ^ self.words, pack_small
        else:
            offered, write = (self.pads - other + self.words) & _masks(products), bitpack.pack
        self.outgoing = [write(row, p.bits) for row, p in zip(offered, products, strict=True)]

    def finish(self, data: list[NDArray[np.uint8]]) -> NDArray[Any]:
        turned = parse(_unpack_bits, _rows(data), self.words.shape[1])
        if self.products[0].xor:
            return self.pads ^ (self.words & -turned)
        return np.where(turned, self.words + self.pads, -self.pads) & _masks(self.products)


def _pads(blocks: NDArray[np.uint8], products: list[BitProduct]) -> NDArray[Any]:
    """The first bits of each block [n, 16]; those beyond l may be anything where shares are added."""
    if products[0].xor:
        return blocks[:, 0].reshape(len(products), -1) & _masks(products)
    return blocks.view(np.uint64)[:, 0].copy().reshape(len(products), -1)


def _masks(products: list[BitProduct]) -> NDArray[Any]:
    """2^l - 1 for each product: [products, 1]."""
    return np.array([[(1 << p.bits) - 1] for p in products], np.uint8 if products[0].xor else np.uint64)


def _read(data: NDArray[np.uint8], p: BitProduct) -> NDArray[Any]:
    """The words that were offered to the chooser."""
    return parse(unpack_small if p.xor else bitpack.unpack, data, p.mine.size, p.bits)


def _rows(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Arrays of the same size as the rows of a single array."""
    return parts[0].reshape(1, -1) if len(parts) == 1 else np.concatenate(parts, axis=None).reshape(len(parts), -1)


def pieces(data: NDArray[Any], sizes: Sequence[int]) -> list[NDArray[Any]]:
    """`data` [sum of sizes] cut into parts of these sizes."""
    return [data[stop - size : stop] for size, stop in zip(sizes, itertools.accumulate(sizes), strict=True)]


def _message_size(shape: ProductShape, sender: Role) -> int:
    return bitpack.packed_size(shape.count, 1 if sender is shape.chooser else shape.bits)


# Small values, one to a byte, on the wire: as `bitpack` packs them.


def _pack_bits(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bits [rows, n], each row by itself."""
    return np.packbits(rows, axis=1, bitorder="little")


def _unpack_bits(data: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    if count % 8 and (data[:, -1] >> count % 8).any():
        raise ValueError("the bits after the last value are not zero: the data is damaged")
    return np.unpackbits(data, axis=1, count=count, bitorder="little")


def pack_small(values: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """uint8 below 2^width."""
    return _pack_bits(values.reshape(1, -1))[0] if width == 1 else bitpack.pack(values.astype(np.uint64), width)


def unpack_small(data: NDArray[np.uint8], count: int, width: int) -> NDArray[np.uint8]:
    """What `pack_small` packed; ValueError where a bit after the last value is set."""
    if width == 1:
        return _unpack_bits(data.reshape(1, -1), count)[0]
    return bitpack.unpack(data, count, width).astype(np.uint8)
