"""Into a larger ring: [x mod 2^l] to [x mod 2^m]; and between rings and the field of a prime p.

All repair one wrap, and know from a public range of x when it happened: if x, as a number from 0 up to its
modulus, stays in the lower half, then x_0 + x_1 wraps exactly when a share lies in the upper half. So the wrap is the
OR of one bit of each party, u_0 + u_1 - u_0 u_1: a single product of bits (ot/transfer.py).

`extend`, for -2^(l-2) <= x < 2^(l-2):
1. [y] = [x + 2^(l-2)], a number below 2^(l-1); u_i the top bit of y_i.
2. [u_0 u_1] modulo 2^(m-l).
3. [x] = y_i - 2^l (u_i - [u_0 u_1]_i) - 2^(l-2), modulo 2^m. Exact.

`from_field`, for z_0 + z_1 = z modulo p, and v = z - offset with 0 <= z < p / 2:
1. u_i = [z_i > p / 2]. Each party rounds z_i - p u_i to a multiple of 2^s: y_i, in units of 2^s.
2. Where both u are 1 there is one p too little: [u_0 t], t with the server being u_1 times the difference of z_1
   rounded and z_1 - p rounded.
3. [v / 2^s] = y_i + [u_0 t]_i - offset / 2^s. Two numbers were rounded to the nearest, halves up with one party and
   down with the other: off by less than one unit of the last place, and on average over the shares by nothing.

`to_field`, for -2^(l-2) <= x < 2^(l-2): as `extend`, with [u_0 u_1] modulo 2^64. As u_0 u_1 is a bit, its two parts, as
numbers, add up to u_0 u_1 + 2^64, unless one of them is 0 or 1, which has a probability of at most 2^-63. So they also
share u_0 u_1 modulo p, after 2^64 is taken away.

1 round each. Known-MSB extension: Rathee et al. 2021 (SIRNN), section 3.2; Huang et al. 2022 (Cheetah), section 5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aero.kernels.slots import Field
from aero.mpc.cost import ProtocolCost
from aero.mpc.fixed_point import reduce_ring
from aero.mpc.ot.transfer import BitProduct, OneRound, ProductShape, products_cost, together
from aero.mpc.party import Party, Role
from aero.mpc.share import Share, Words


def extend(party: Party, x: Share, bits: int) -> Share:
    """[x] in the ring of 2^bits, for x from -2^(l-2) to 2^(l-2) - 1, half of what its ring of 2^l holds; a number
    beyond comes out wrong by 2^l."""
    [result] = together(party, extension(party, x, bits))
    return result


def extend_cost(count: int, bits_from: int, bits: int) -> ProtocolCost:
    return products_cost(extension_shapes(count, bits_from, bits))


def extension(party: Party, x: Share, bits: int) -> OneRound[Share]:
    """`extend`, for `together`."""
    _check_rings(x.bits, bits)
    half = np.uint64(1 << (x.bits - 2))
    y = reduce_ring(x.values + half * np.uint64(party.is_client), x.bits)
    top = y >> np.uint64(x.bits - 1)
    mine = top.astype(np.uint8) if party.is_client else top

    def finish(shares: list[NDArray[Any]]) -> Share:
        wraps = (top - shares[0].reshape(x.shape)) << np.uint64(x.bits)
        return x.of(y - wraps - half * np.uint64(party.is_client), bits=bits)

    return OneRound((BitProduct(Role.CLIENT, bits - x.bits, mine),), finish)


def extension_shapes(count: int, bits_from: int, bits: int) -> list[ProductShape]:
    _check_rings(bits_from, bits)
    return [ProductShape(Role.CLIENT, count, bits - bits_from)]


def _check_rings(bits_from: int, bits: int) -> None:
    if not 2 <= bits_from < bits <= 64:
        raise ValueError(f"cannot extend from {bits_from} to {bits} bits: give 2 or more, and more, up to 64")


def from_field(
    party: Party, z: Words, p: int, *, bits: int, dropped: int = 0, fraction_bits: int = 0, offset: int = 0
) -> Share:
    """[v / 2^dropped] in the ring of 2^bits, off by less than one.

    z: this party's part of v + offset modulo p, odd and below 2^62; v + offset lies in 0 .. (p - 1) / 2. Any shape.
    offset: public, for v that may be negative: a multiple of 2^dropped, which the caller has added to one party's part.
    fraction_bits: of the result, for what comes after.
    """
    [result] = together(
        party, field_conversion(party, z, p, bits=bits, dropped=dropped, fraction_bits=fraction_bits, offset=offset)
    )
    return result


def from_field_cost(count: int, bits: int) -> ProtocolCost:
    return products_cost(field_shapes(count, bits))


def field_conversion(
    party: Party, z: Words, p: int, *, bits: int, dropped: int = 0, fraction_bits: int = 0, offset: int = 0
) -> OneRound[Share]:
    """`from_field`, for `together`."""
    if not 2 < p < 2**62 or p % 2 == 0:
        raise ValueError(f"the modulus is odd and below 2^62, not {p}")
    if not 0 <= dropped < 61 or offset % 2**dropped:
        raise ValueError(f"drop 0 to 60 bits, and give an offset that is a multiple of 2^{dropped}, not {offset}")
    assert not (z >= np.uint64(p)).any(), "a share lies outside its field"
    upper = z > np.uint64(p // 2)
    down = not party.is_client
    near = _rounded(z - np.uint64(p) * upper, dropped, down)
    mine: NDArray[Any] = upper.astype(np.uint8)
    if not party.is_client:
        mine = reduce_ring((_rounded(z, dropped, down) - near) * upper, bits)
    shift = np.uint64((offset >> dropped) % 2**64 if party.is_client else 0)

    def finish(shares: list[NDArray[Any]]) -> Share:
        return Share(reduce_ring(near + shares[0].reshape(z.shape) - shift, bits), bits, fraction_bits)

    return OneRound((BitProduct(Role.CLIENT, bits, mine),), finish)


def field_shapes(count: int, bits: int) -> list[ProductShape]:
    return [ProductShape(Role.CLIENT, count, bits)]


def to_field(party: Party, x: Share, field: Field) -> Words:
    """This party's part of x modulo p, for x from -2^(l-2) to 2^(l-2) - 1. Wrong with a probability of 2^-63."""
    [result] = together(party, ring_conversion(party, x, field))
    return result


def to_field_cost(count: int) -> ProtocolCost:
    return products_cost(ring_shapes(count))


def ring_conversion(party: Party, x: Share, field: Field) -> OneRound[Words]:
    """`to_field`, for `together`."""
    p, bits = field.p, x.bits
    if bits < 2:
        raise ValueError(f"a ring of {bits} bits has no room for the known range of `to_field`: give 2 or more")
    half = np.uint64(1 << (bits - 2))
    y = reduce_ring(x.values + half * np.uint64(party.is_client), bits)
    top = y >> np.uint64(bits - 1)
    mine = top.astype(np.uint8) if party.is_client else top
    step = np.uint64((1 << bits) % p)
    public = (-(1 << bits) * (1 << 64) - (1 << (bits - 2))) % p if party.is_client else 0

    def finish(shares: list[NDArray[Any]]) -> Words:
        both = field.reduce(shares[0].reshape(x.shape))
        missing = field.multiply(both, np.full(x.shape, step))
        return field.reduce(field.reduce(y) + (np.uint64(p) - step * top) + missing + np.uint64(public))

    return OneRound((BitProduct(Role.CLIENT, 64, mine),), finish)


def ring_shapes(count: int) -> list[ProductShape]:
    return [ProductShape(Role.CLIENT, count, 64)]


def _rounded(signed: Words, dropped: int, down: bool) -> Words:
    """Numbers from -2^62 to 2^62, modulo 2^64, divided by 2^dropped and rounded. One party rounds halves up, the other
    down, so that the sum of both has no bias."""
    if dropped == 0:
        return signed
    return ((signed.view(np.int64) + ((1 << (dropped - 1)) - down)) >> dropped).view(np.uint64)
