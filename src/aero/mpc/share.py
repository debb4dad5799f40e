"""Additive shares: [x] is a pair of integers, one with each party, that add up to x modulo 2^bits.

One party's part is a `Share`. What needs no message is a method; `input_shares` makes shares of what one party knows,
and `open_shares` is the only place in the package where a shared value is revealed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aero.kernels import bitpack
from aero.kernels.prg import Prg
from aero.kernels.rlwe import SEED_BYTES
from aero.mpc.cost import ProtocolCost, message
from aero.mpc.fixed_point import reduce_ring
from aero.mpc.party import Opening, Party, Role, parse

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Share:
    """This party's part of [x], x being a fixed-point number in the ring of 2^bits.

    values: uint64 of any shape, below 2^bits.
    bits: l, 1 to 64.
    fraction_bits: f; the number is x 2^-f, x taken from -2^(l-1) to 2^(l-1) - 1.
    """

    values: Words
    bits: int
    fraction_bits: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 64:
            raise ValueError(f"a ring has 1 to 64 bits, not {self.bits}")
        if not isinstance(self.values, np.ndarray) or self.values.dtype != np.uint64:
            raise ValueError("shares are uint64 arrays: make them with input_shares")
        assert self.values.size == 0 or int(self.values.max()) >> self.bits == 0, "a share lies outside its ring"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def of(self, values: Words, *, bits: int | None = None, fraction_bits: int | None = None) -> Share:
        """Other values in this ring, or in the ring and format given, reduced to it."""
        bits = self.bits if bits is None else bits
        fraction_bits = self.fraction_bits if fraction_bits is None else fraction_bits
        return Share(reduce_ring(values, bits), bits, fraction_bits)

    # [x] + [y], [x] - [y], -[x], [c x]: every party does the same to its own part.

    def __add__(self, other: Share) -> Share:
        self._check_like(other)
        return self.of(self.values + other.values)

    def __sub__(self, other: Share) -> Share:
        self._check_like(other)
        return self.of(self.values - other.values)

    def __neg__(self) -> Share:
        return self.of(np.uint64(0) - self.values)

    def times(self, factor: int, fraction_bits: int = 0) -> Share:
        """[factor x], for a public integer factor that stands for factor 2^-fraction_bits."""
        return self.of(self.values * np.uint64(factor % 2**64), fraction_bits=self.fraction_bits + fraction_bits)

    def __getitem__(self, rows: slice) -> Share:
        return replace(self, values=self.values[rows])

    def reshape(self, *shape: int) -> Share:
        return replace(self, values=self.values.reshape(*shape))

    def transpose(self, *axes: int) -> Share:
        return replace(self, values=np.ascontiguousarray(self.values.transpose(*axes)))

    def reduced(self, bits: int) -> Share:
        """[x mod 2^bits], for a ring that is not larger. The number is the same where it fits the smaller ring."""
        if bits > self.bits:
            raise ValueError(f"shares modulo 2^{self.bits} do not give shares modulo 2^{bits}: that takes a protocol")
        return self.of(self.values, bits=bits)

    def truncated(self, dropped: int) -> Share:
        """[y] with y = x / 2^dropped up to one step, in the ring of `dropped` fewer bits. No message.

        Both parties round their part to a multiple of 2^dropped. Floors alone would be off by (x_0 mod 2^dropped + x_1
        mod 2^dropped) / 2^dropped, 1 on average over uniform shares; the public halves that rounding adds take that
        bias away, which sums over hundreds of terms would let grow. Exactly: y is floor(x / 2^dropped) or one more, and
        the public constant and the error {0, -1} together make floor(x / 2^dropped + 1) - {0, 1}.

        The ring shrinks by the dropped bits, so that no wrap of x_0 + x_1 has to be repaired.
        """
        if not 0 <= dropped < min(self.bits, self.fraction_bits + 1):
            raise ValueError(f"cannot drop {dropped} of {self.fraction_bits} fractional bits in {self.bits} bits")
        if dropped == 0:
            return self
        rounded = reduce_ring(self.values + np.uint64(1 << (dropped - 1)), self.bits) >> np.uint64(dropped)
        return Share(rounded, self.bits - dropped, self.fraction_bits - dropped)

    def _check_like(self, other: Share) -> None:
        if (self.bits, self.fraction_bits) != (other.bits, other.fraction_bits):
            raise ValueError(
                f"shares of {self.bits} bits with {self.fraction_bits} fractional ones and of {other.bits} bits with "
                f"{other.fraction_bits} do not add up: bring them to one format first"
            )


def concatenate(several: Sequence[Share]) -> Share:
    """The rows of each, one after the other."""
    first, *others = several
    for other in others:
        first._check_like(other)
    return first.of(np.concatenate([x.values for x in several]))


def split(x: Share, rows: Sequence[int]) -> list[Share]:
    """So many rows each: what `concatenate` put together."""
    assert sum(rows) == len(x.values), "rows are left over"
    return [replace(x, values=part) for part in np.split(x.values, np.cumsum(rows)[:-1])]


def known(party: Party, owner: Role, values: Words, bits: int, fraction_bits: int = 0) -> Share:
    """[x] of what `owner` knows, without a message: x with the owner, zero with the other.

    Hides nothing by itself: for adding to other shares, and for public constants. `values`: the other party may give
    anything of the right shape.
    """
    own = reduce_ring(values, bits) if party.role is owner else np.zeros(np.shape(values), dtype=np.uint64)
    return Share(own, bits, fraction_bits)


def input_shares(
    party: Party, owner: Role, shape: tuple[int, ...], bits: int, fraction_bits: int, values: Words | None = None
) -> Share:
    """Make [x] of what one party knows.

    1. The owner draws a seed and sends it.
    2. [x]: x - G(seed) with the owner, G(seed) with the other, G a pseudorandom generator.

    `values`: uint64 modulo 2^bits, given by the owner alone. The other party learns the shape.
    """
    if party.role is owner:
        if values is None or values.shape != shape or values.dtype != np.uint64:
            raise ValueError(f"the owner of an input gives uint64 values of shape {shape}")
        seed = party.fresh_seed()
        party.channel.send(seed)
        return Share(reduce_ring(values - _expand(seed, shape, bits), bits), bits, fraction_bits)
    seed = party.channel.recv(SEED_BYTES, np.uint8).tobytes()
    return Share(_expand(seed, shape, bits), bits, fraction_bits)


def open_shares(party: Party, x: Share, to: Role | None, what: str) -> Words | None:
    """Reveal [x] to one party, or to both (None). The only place where shares are put together.

    1. Who is not to learn x, or both, send their part, packed to the ring's bits.
    2. x = [x]_0 + [x]_1 modulo 2^bits.

    The receiver also learns the errors of what made x, which may be a function of the sender's secrets: a product of
    shares is not to be opened to a party that may know it exactly, a product with weights not to the server
    (docs/security/index.md, "Errors"). Whoever calls this sees to that.

    `what` names the value; it is kept with its shape and receiver in `party.openings`. Returns x modulo 2^bits, and
    None to a party that learns nothing.
    """
    party.openings.append(Opening(what, x.shape, to))
    if to is not party.role:
        party.channel.send(bitpack.pack(x.values, x.bits))
    if to is party.role.other:
        return None
    count = math.prod(x.shape)
    data = party.channel.recv(bitpack.packed_size(count, x.bits), np.uint8)
    theirs = parse(bitpack.unpack, data, count, x.bits).reshape(x.shape)
    return reduce_ring(x.values + theirs, x.bits)


def open_cost(shape: tuple[int, ...], bits: int, to: Role | None) -> ProtocolCost:
    size = bitpack.packed_size(math.prod(shape), bits)
    if to is None:
        return message(Role.CLIENT, size) | message(Role.SERVER, size)
    return message(to.other, size)


def _expand(seed: bytes, shape: tuple[int, ...], bits: int) -> Words:
    return Prg(seed, "input").uniform(shape, bits)
