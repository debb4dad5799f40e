"""Powers of two in a prime field modulo which 2 has the order 2^13: what a party makes of its share of an exponent."""

import numpy as np

from aero.kernels.native import _native

EXPONENT_BITS = 13
MAX_FRACTION_BITS = 32
MAX_MANTISSA_BITS = 16


def field_power(exponents: np.ndarray, fraction_bits: int, mantissa_bits: int, p: int) -> np.ndarray:
    """2^e m mod p for each exponent x = e + t, e whole and 0 <= t < 1: uint64 of any shape -> uint64 below p.

    exponents: x 2^fraction_bits; bits of e above the 13th are not looked at. fraction_bits: 0 to 32.
    m is 2^t 2^mantissa_bits, rounded: off by at most 1/2 + 2^(mantissa_bits - 27). mantissa_bits: 1 to 16.
    p: an odd prime below 2^51 that divides 2^(2^13) - 1.

    Constant time in the exponents. ValueError for anything else.
    """
    if not isinstance(exponents, np.ndarray) or exponents.dtype != np.uint64:
        raise ValueError("exponents are a uint64 array: shares of a ring")
    if p < 3 or pow(2, 2**EXPONENT_BITS, p) != 1:
        raise ValueError(f"2 does not have the order 2^{EXPONENT_BITS} modulo {p}: use a prime field made for powers")
    out = np.empty(exponents.size, np.uint64)
    _native.field_power(np.ascontiguousarray(exponents).reshape(-1), fraction_bits, mantissa_bits, p, out)
    return out.reshape(exponents.shape)
