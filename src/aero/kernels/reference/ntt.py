"""The transform in Python integers: the values of a polynomial at the odd powers of psi, by halving."""

import numpy as np
from numpy.typing import NDArray


def exponents(n: int) -> NDArray[np.uint32]:
    """The odd power of psi at each position: bit-reversed order, each run of 64 transposed as an 8 x 8 matrix."""
    bits = n.bit_length() - 1
    reversed_bits = np.array([int(format(i, f"0{bits}b")[::-1], 2) for i in range(n)])
    order = reversed_bits.reshape(-1, 8, 8).transpose(0, 2, 1).reshape(n)
    return (2 * order + 1).astype(np.uint32)


def find_psi(n: int, q: int) -> int:
    """The root of unity that the transform uses: g^((q-1)/2n) for the smallest g for which that has order 2n."""
    g = 2
    while pow(g, (q - 1) // 2, q) != q - 1:
        g += 1
    return pow(g, (q - 1) // (2 * n), q)


def forward(coefficients: NDArray[np.uint64], q: int) -> NDArray[np.uint64]:
    """Values of one polynomial [n] at psi^exponents(n)."""
    n = len(coefficients)
    psi = find_psi(n, q)
    powers = np.array([pow(psi, i, q) for i in range(2 * n)], dtype=object)

    def values(a: NDArray[np.object_]) -> NDArray[np.object_]:  # at the len(a)-th roots of -1, odd exponents ascending
        size = len(a)
        if size == 1:
            return a
        even, odd = values(a[0::2]), values(a[1::2])
        twisted = powers[n // size : n : 2 * n // size] * odd % q
        return np.concatenate([even + twisted, even - twisted]) % q

    ascending = values(coefficients.astype(object))
    return ascending[exponents(n) // 2].astype(np.uint64)


def inverse(values: NDArray[np.uint64], q: int) -> NDArray[np.uint64]:
    """Coefficients of one polynomial: each is the mean of the values times the inverse power, by the same halving."""
    n = len(values)
    psi = find_psi(n, q)
    ascending = np.empty(n, dtype=object)
    ascending[exponents(n) // 2] = values.astype(object)
    inverse_powers = np.array([pow(psi, -i, q) for i in range(2 * n)], dtype=object)

    def coefficients(v: NDArray[np.object_]) -> NDArray[np.object_]:
        size = len(v)
        if size == 1:
            return v
        half = pow(2, -1, q)
        even = (v[: size // 2] + v[size // 2 :]) * half % q
        odd = (v[: size // 2] - v[size // 2 :]) * half % q * inverse_powers[n // size : n : 2 * n // size] % q
        a = np.empty(size, dtype=object)
        a[0::2], a[1::2] = coefficients(even), coefficients(odd)
        return a

    return coefficients(ascending).astype(np.uint64)


def negacyclic_product(a: NDArray[np.uint64], b: NDArray[np.uint64], q: int) -> NDArray[np.uint64]:
    """a b modulo X^n + 1 and q by the definition, one row of the schoolbook at a time."""
    n = len(a)
    a, b = a.astype(object), b.astype(object)
    product = np.zeros(n, dtype=object)
    for i in np.flatnonzero(a):
        product[i:] += a[i] * b[: n - i]
        product[:i] -= a[i] * b[n - i :]
    return (product % q).astype(np.uint64)
