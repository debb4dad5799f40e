"""Powers of two in a prime field, by definition (see `aero.kernels.field_power`)."""

import numpy as np

# 2^t on [0, 1] in 30 fractional bits, lowest power first.
COEFFICIENTS = (1073741824, 744261126, 257941089, 59598342, 10322487, 1441968, 153573, 23239)


def mantissa(t: int, mantissa_bits: int) -> int:
    """2^(t / 2^32) with `mantissa_bits` fractional bits, t below 2^32."""
    power = COEFFICIENTS[-1]
    for c in COEFFICIENTS[-2::-1]:
        power = c + (power * t >> 32)
    dropped = 30 - mantissa_bits
    return power + (1 << dropped - 1) >> dropped


def field_power(exponents: np.ndarray, fraction_bits: int, mantissa_bits: int, p: int) -> np.ndarray:
    """uint64 of any shape -> uint64 below p."""
    out = []
    for x in exponents.reshape(-1).tolist():
        whole, t = divmod(x, 1 << fraction_bits)
        out.append(pow(2, whole % 2**13, p) * mantissa(t << 32 - fraction_bits, mantissa_bits) % p)
    return np.array(out, dtype=np.uint64).reshape(exponents.shape)
