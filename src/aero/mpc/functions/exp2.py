"""2^x for a shared exponent x, as one product modulo p: no wrap to repair, no table, no comparison.

p is a prime modulo which 2 has the order 2^13, or the product of two. Powers of 2 take their exponents modulo 2^13
there, and shares of an exponent modulo 2^(13+f), f its fractional bits, add up in the exponent as they are. For
E = E_0 + E_1 modulo 2^(13+f),
party i computes alone (kernels/field_power.py), with e_i and t_i the whole and the fractional part of E_i,

    u_i = 2^(e_i) F_i modulo p,    F_i = 2^(t_i) 2^(m_i), rounded.

Then u_0 u_1 = 2^(E + m_0 + m_1) (1 + error) modulo p, exactly the integer 2^(e_0 + e_1) F_0 F_1, if

    1 <= E                               so that e_0 + e_1 = E - t_0 - t_1 > -1 is not negative,
    2^(E + m_0 + m_1) (1 + error) < p    so that it is below p; and below p / 2 where it goes on to `from_field`.

`Exponential.largest` says how far E may go. |error| <= `Exponential.error`. An exponent outside gives an arbitrary
element of the field: whoever calls this takes it out by a multiplexer, or proves that none occurs.

The exponential by a product of powers of shares: Kelkar, Le, Raykova and Seth 2022; over a prime field without
conversion: docs/security/softmax.md has the proof.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aero.kernels.field_power import EXPONENT_BITS, MAX_FRACTION_BITS, MAX_MANTISSA_BITS, field_power
from aero.kernels.slots import Field
from aero.mpc.party import Party
from aero.mpc.protocols.extend import from_field
from aero.mpc.share import Share, Words

_CUT = 26
"""Bits of a share modulo two primes that are dropped at once, so that it fits a word."""
LEAST_DROPPED = _CUT + 9
"""Bits that `to_ring` drops of shares modulo two primes, at least."""
_KERNEL_ERROR = 2.0**-26
"""Of a mantissa, relative, beyond its rounding (kernels/field_power.py)."""


@dataclass(frozen=True)
class Exponential:
    """fields: modulo p, the product of one prime or two; numbers modulo p are then held modulo each.
    fraction_bits: f. mantissa_bits: m_0 of the client's powers, m_1 of the server's."""

    fields: tuple[Field, ...]
    fraction_bits: int
    mantissa_bits: tuple[int, int]

    def __post_init__(self) -> None:
        if not 0 <= self.fraction_bits <= MAX_FRACTION_BITS:
            raise ValueError(f"exponents have 0 to {MAX_FRACTION_BITS} fractional bits, not {self.fraction_bits}")
        if not all(1 <= m <= MAX_MANTISSA_BITS for m in self.mantissa_bits):
            raise ValueError(f"mantissas have 1 to {MAX_MANTISSA_BITS} bits, not {self.mantissa_bits}")
        if len(set(self.fields)) != len(self.fields) or not 1 <= len(self.fields) <= 2:
            raise ValueError(f"powers are taken modulo one prime, or two different ones, not {len(self.fields)}")
        for field in self.fields:
            if pow(2, 2**EXPONENT_BITS, field.p) != 1:
                raise ValueError(f"2 does not have the order 2^{EXPONENT_BITS} modulo {field.p}: use P50 or P37")

    @property
    def modulus(self) -> int:
        """p."""
        return math.prod(field.p for field in self.fields)

    @property
    def ring_bits(self) -> int:
        """Of shares of exponents."""
        return EXPONENT_BITS + self.fraction_bits

    @property
    def scale_bits(self) -> int:
        """m_0 + m_1: a power comes out times 2^scale_bits."""
        return sum(self.mantissa_bits)

    @property
    def error(self) -> float:
        """Relative, of a product of two powers."""
        return math.prod(1 + 2.0 ** -(m + 1) + _KERNEL_ERROR for m in self.mantissa_bits) - 1

    def largest(self, terms: float = 1.0, excess: float = 0.0) -> float:
        """How large E may be for a sum of so many powers, each too large by `excess`, to stay below p / 2."""
        return math.log2((self.modulus - 1) / 2 / terms / (1 + self.error) / (1 + excess)) - self.scale_bits

    def power(self, party: Party, exponents: Words) -> list[Words]:
        """u_i of this party's part of exponents, uint64 of any shape, modulo 2^ring_bits: modulo each prime."""
        mantissa_bits = self.mantissa_bits[party.role]
        return [field_power(exponents, self.fraction_bits, mantissa_bits, field.p) for field in self.fields]

    def to_ring(self, party: Party, shares: Sequence[Words], *, bits: int, dropped: int, fraction_bits: int) -> Share:
        """[v / 2^dropped] in the ring of 2^bits, off by less than one, of this party's shares of v modulo each prime, v
        below p / 2. With two primes at least `LEAST_DROPPED` bits have to be dropped, and the error may reach one and
        2^-7.

        Shares modulo both primes are shares modulo their product. Of these only floor(y_i / 2^26) is used, as a share
        modulo p / 2^26 rounded to an odd number: off by a few units of 2^26.
        """
        if len(shares) == 1:
            p = self.fields[0].p
            return from_field(party, shares[0], p, bits=bits, dropped=dropped, fraction_bits=fraction_bits)
        if dropped < LEAST_DROPPED:
            raise ValueError(f"of shares modulo two primes at least {LEAST_DROPPED} bits are dropped, not {dropped}")
        first, second = self.fields
        a, b = shares
        inverse = np.full(a.shape, pow(first.p, -1, second.p), np.uint64)
        difference = second.reduce_once(b + np.uint64(second.p) - second.reduce(a))
        h = second.multiply(difference, inverse)  # y = a + p_1 h
        half = np.uint64(_CUT - 1)
        low = h * np.uint64(first.p % (1 << (_CUT - 1))) + a
        upper = (h * np.uint64(first.p >> (_CUT - 1)) + (low >> half)) >> np.uint64(1)
        modulus = (self.modulus >> _CUT) | 1
        cut = upper - (upper - np.uint64(modulus - 1)) * (upper >= np.uint64(modulus))  # the lesser of both
        return from_field(party, cut, modulus, bits=bits, dropped=dropped - _CUT, fraction_bits=fraction_bits)
