"""2^x for a shared exponent x, as one product in a prime field: no wrap to repair, no table, no comparison.

Modulo the primes used here 2 has the order 2^13, so that powers of 2 take their exponents modulo 2^13, and shares of an
exponent modulo 2^(13+f), f its fractional bits, add up in the exponent as they are. For E = E_0 + E_1 modulo 2^(13+f),
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
from dataclasses import dataclass

from aero.kernels.field_power import EXPONENT_BITS, MAX_FRACTION_BITS, MAX_MANTISSA_BITS, field_power
from aero.kernels.slots import Field
from aero.mpc.party import Party
from aero.mpc.share import Words

_KERNEL_ERROR = 2.0**-26
"""Of a mantissa, relative, beyond its rounding (kernels/field_power.py)."""


@dataclass(frozen=True)
class Exponential:
    """field: modulo p. fraction_bits: f. mantissa_bits: m_0 of the client's powers, m_1 of the server's."""

    field: Field
    fraction_bits: int
    mantissa_bits: tuple[int, int]

    def __post_init__(self) -> None:
        if not 0 <= self.fraction_bits <= MAX_FRACTION_BITS:
            raise ValueError(f"exponents have 0 to {MAX_FRACTION_BITS} fractional bits, not {self.fraction_bits}")
        if not all(1 <= m <= MAX_MANTISSA_BITS for m in self.mantissa_bits):
            raise ValueError(f"mantissas have 1 to {MAX_MANTISSA_BITS} bits, not {self.mantissa_bits}")
        if pow(2, 2**EXPONENT_BITS, self.field.p) != 1:
            raise ValueError(f"2 does not have the order 2^{EXPONENT_BITS} modulo {self.field.p}: use P50 or P37")

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
        return math.log2((self.field.p - 1) / 2 / terms / (1 + self.error) / (1 + excess)) - self.scale_bits

    def power(self, party: Party, exponents: Words) -> Words:
        """u_i of this party's part of exponents: uint64 of any shape, modulo 2^ring_bits -> below p."""
        return field_power(exponents, self.fraction_bits, self.mantissa_bits[party.role], self.field.p)
