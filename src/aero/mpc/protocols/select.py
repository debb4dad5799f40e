"""Bits that are XOR-shared, put to use: AND and OR, [b] as a number, and b x for a shared x.

b = b_0 xor b_1, and so on. All are products of a bit and a word that the parties know apart (ot/transfer.py):

- AND: x y = x_0 y_0 xor x_1 y_1 xor x_0 y_1 xor x_1 y_0; the last two take one product each, in opposite directions.
- OR: not (not x and not y).
- [b] = b_0 + b_1 - 2 b_0 b_1: one product, modulo 2^(l-1).
- b x = sum over i of b_i x_i + b_j (x_i - 2 b_i x_i), j the other party: one product each way.

1 round each, and several of them in the same round by `together`: `multiplexing` and `arithmetic` make what it takes.
Rathee et al. 2020 (CrypTFlow2), section 4.1, and Huang et al. 2022 (Cheetah), section 4.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aero.mpc.fixed_point import reduce_ring
from aero.mpc.ot.transfer import BitProduct, Bits, OneRound, ProductShape, together
from aero.mpc.party import Party, Role
from aero.mpc.share import Share


def and_bits(party: Party, x: Bits, y: Bits) -> Bits:
    """XOR shares of x and y: uint8 0 or 1, of any one shape."""
    [result] = together(party, conjunction(party, x, y))
    return result


def not_bits(party: Party, x: Bits) -> Bits:
    """XOR shares of not x: one party turns its share. No message."""
    return x ^ np.uint8(party.is_client)


def multiplex(party: Party, bit: Bits, x: Share) -> Share:
    """[b x]: x where the bit is 1, and 0 elsewhere; `bit` in the shape of x."""
    [result] = together(party, multiplexing(party, bit, x))
    return result


def conjunction(party: Party, x: Bits, y: Bits) -> OneRound[Bits]:
    """`and_bits`, for `together`."""
    if x.shape != y.shape:
        raise ValueError(f"bits of {x.shape} and {y.shape} do not go together")
    mine = {party.role: x, party.role.other: y}

    def finish(shares: list[NDArray[Any]]) -> Bits:
        return (x & y) ^ (shares[0] ^ shares[1]).reshape(x.shape)

    return OneRound(tuple(BitProduct(role, 1, mine[role], xor=True) for role in Role), finish)


def conjunction_shapes(count: int) -> list[ProductShape]:
    return [ProductShape(role, count, 1) for role in Role]


def arithmetic(party: Party, bit: Bits, bits: int) -> OneRound[Share]:
    """[b], 0 or 1, in the ring of 2^bits; for `together`."""
    mine = bit if party.is_client else bit.astype(np.uint64)
    products = (BitProduct(Role.CLIENT, bits - 1, mine),) if bits > 1 else ()

    def finish(shares: list[NDArray[Any]]) -> Share:
        crossed = shares[0].reshape(bit.shape) << np.uint64(1) if shares else np.uint64(0)
        return Share(reduce_ring(bit.astype(np.uint64) - crossed, bits), bits)

    return OneRound(products, finish)


def arithmetic_shapes(count: int, bits: int) -> list[ProductShape]:
    return [ProductShape(Role.CLIENT, count, bits - 1)] if bits > 1 else []


def multiplexing(party: Party, bit: Bits, x: Share) -> OneRound[Share]:
    """`multiplex`, for `together`."""
    if bit.shape != x.shape:
        raise ValueError(f"bits of {bit.shape} do not select from values of {x.shape}")
    own = bit.astype(np.uint64)
    turned = reduce_ring(x.values - (x.values * own << np.uint64(1)), x.bits)
    mine = {party.role: bit, party.role.other: turned}

    def finish(shares: list[NDArray[Any]]) -> Share:
        return x.of(x.values * own + (shares[0] + shares[1]).reshape(x.shape))

    return OneRound(tuple(BitProduct(role, x.bits, mine[role]) for role in Role), finish)


def multiplexing_shapes(count: int, bits: int) -> list[ProductShape]:
    return [ProductShape(role, count, bits) for role in Role]
