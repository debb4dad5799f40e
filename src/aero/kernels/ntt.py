"""The negacyclic number-theoretic transform: products of polynomials modulo X^n + 1 and a prime.

A polynomial is an array of its n coefficients, a transform the array of its values at the odd powers of psi, a
primitive 2n-th root of unity modulo q; products are then taken value by value. Position p holds the value at
psi^exponents[p]: bit-reversed order with each run of 64 transposed as an 8 x 8 matrix. The order is part of the
format in which parties exchange ciphertexts, and equal for every instruction set.
"""

import numpy as np
from numpy.typing import NDArray

from aero.kernels import _native
from aero.kernels import native as native  # its import applies AERO_KERNELS

Words = NDArray[np.uint64]


def find_primes(bits: int, n: int, count: int) -> list[int]:
    """The `count` largest primes below 2^bits that are 1 modulo 2n, descending. ValueError if there are too few."""
    primes: list[int] = []
    candidate = (1 << bits) - 2 * n + 1
    while len(primes) < count:
        if candidate < 1 << (bits - 1):
            raise ValueError(f"there are not {count} primes of {bits} bits that are 1 modulo {2 * n}: use more bits")
        if _native.is_prime(candidate):
            primes.append(candidate)
        candidate -= 2 * n
    return primes


class Ntt:
    """Transforms of polynomials modulo X^n + 1 and q.

    n is a power of two from 128 to 32768, q a prime below 2^51 that is 1 modulo 2n; ValueError otherwise.
    """

    def __init__(self, n: int, q: int) -> None:
        if not 0 < n < 1 << 32 or not 0 < q < 1 << 64:
            raise ValueError(f"no transform for n = {n}, q = {q}: use a power of two and a prime that is 1 modulo 2n")
        self._native = _native.Ntt(n, q)
        self.n = n
        self.q = q
        self.psi: int = self._native.psi
        self.exponents: NDArray[np.uint32] = np.empty(n, dtype=np.uint32)
        self._native.exponents(self.exponents)
        self.exponents.flags.writeable = False

    def forward(self, coefficients: Words) -> Words:
        """Values of polynomials: uint64 [..., n] below q in, a new array of the same shape below q out."""
        a = self._checked(coefficients, self.n).copy()
        self._native.forward(a.reshape(-1, self.n))
        return a

    def forward_front(self, coefficients: Words) -> Words:
        """The same for polynomials given by their first coefficients only, the others being zero.

        uint64 [..., m] with m a power of two from 64 to n in, [..., n] out; the smaller m, the faster.
        """
        front = coefficients.shape[-1] if coefficients.ndim else 0
        if front < 64 or front > self.n or front & (front - 1):
            raise ValueError(f"{front} coefficients: pad them with zeros to a power of two from 64 to {self.n}")
        a = self._checked(coefficients, front)
        out = np.empty((*a.shape[:-1], self.n), dtype=np.uint64)
        self._native.forward_front(a.reshape(-1, front), out.reshape(-1, self.n))
        return out

    def inverse(self, values: Words) -> Words:
        """Coefficients of polynomials, the inverse of `forward`."""
        a = self._checked(values, self.n).copy()
        self._native.inverse(a.reshape(-1, self.n))
        return a

    def _checked(self, a: Words, last: int) -> Words:
        if not isinstance(a, np.ndarray) or a.dtype != np.uint64 or a.ndim < 1 or a.shape[-1] != last:
            raise ValueError(f"expected a uint64 array whose last axis is {last}")
        if a.size and int(a.max()) >= self.q:
            raise ValueError("coefficients must be below the modulus: reduce them first")
        return np.ascontiguousarray(a)
