"""The RLWE kernels in Python integers, coefficient by coefficient: no transform, no lazy sum, no Shoup quotient.

Polynomials are object arrays of n coefficients. A ciphertext under packing is ({prime index: a}, {prime index: b}),
b multiplied by P and with the special prime as last index, as in csrc/rlwe.h.
"""

import math

import numpy as np
from numpy.typing import NDArray

Poly = NDArray[np.object_]
Residues = dict[int, Poly]


def multiply(a: Poly, b: Poly, q: int) -> Poly:
    """a b modulo X^n + 1 and q: one product of integers that hold the coefficients in separate bit fields."""
    n = len(a)
    width = (2 * q.bit_length() + n.bit_length() + 8) // 8  # bytes of a field
    fields = [b"".join(int(c).to_bytes(width, "little") for c in poly % q) for poly in (a, b)]
    packed = [int.from_bytes(field, "little") for field in fields]
    data = (packed[0] * packed[1]).to_bytes(2 * n * width, "little")
    full = [int.from_bytes(data[i * width : (i + 1) * width], "little") for i in range(2 * n)]
    return (np.array(full[:n], dtype=object) - np.array(full[n:], dtype=object)) % q


def shift(a: Poly, h: int) -> Poly:
    """X^h a modulo X^n + 1."""
    return np.concatenate([-a[len(a) - h :], a[: len(a) - h]]) if h else a


def automorphism(a: Poly, log_galois: int) -> Poly:
    """a(X^(2^log_galois + 1)) modulo X^n + 1."""
    n, galois = len(a), (1 << log_galois) + 1
    out = np.zeros(n, dtype=object)
    for i in range(n):
        e = i * galois % (2 * n)
        out[e % n] = a[i] if e < n else -a[i]
    return out


def centred(a: Poly, p: int) -> Poly:
    """The representatives between -p/2 and p/2."""
    a = a % p
    return np.where(a > p // 2, a - p, a)


def scaled_message(message: int, modulus: int, ring_bits: int) -> int:
    """round(Q m / 2^ring_bits)."""
    return (modulus * (message % (1 << ring_bits)) + (1 << (ring_bits - 1))) >> ring_bits


def packing_key(
    secret: Poly, log_galois: int, a: list[Residues], noise: list[Poly], residues: list[int]
) -> list[Residues]:
    """b of the key that brings ciphertexts back after the automorphism: one set of residues for each digit."""
    special, keys = residues[-1], []
    for digit in range(len(residues) - 1):
        b = {}
        for r, q in enumerate(residues):
            b[r] = (noise[digit] - multiply(a[digit][r], secret, q)) % q
        own = residues[digit]
        b[digit] = (b[digit] + special * automorphism(secret, log_galois)) % own
        keys.append(b)
    return keys


def merge(
    x: tuple[Residues, Residues],
    y: tuple[Residues, Residues],
    log_galois: int,
    key: tuple[list[Residues], list[Residues]],
    residues: list[int],
) -> tuple[Residues, Residues]:
    """x + X^h y + automorphism(x - X^h y) with h = n / 2^log_galois, switched back by `key` (its b and a)."""
    n, special = len(x[0][0]), residues[-1]
    zero = np.zeros(n, dtype=object)
    sums: tuple[Residues, Residues] = ({}, {})
    turned: tuple[Residues, Residues] = ({}, {})
    for part in range(2):
        for r in x[part]:
            moved = shift(y[part][r], n >> log_galois)
            sums[part][r] = x[part][r] + moved
            turned[part][r] = automorphism(x[part][r] - moved, log_galois)
    b = {r: sums[1][r] + turned[1][r] for r in range(len(residues))}
    switched = {r: zero for r in range(len(residues))}
    for digit in range(len(residues) - 1):
        d = centred(turned[0][digit], residues[digit])
        for r, q in enumerate(residues):
            b[r] = b[r] + multiply(d, key[0][digit][r], q)
            switched[r] = switched[r] + multiply(d, key[1][digit][r], q)
    rest = centred(switched[len(residues) - 1], special)
    a = {r: (sums[0][r] + (switched[r] - rest) * pow(special, -1, q)) % q for r, q in enumerate(residues[:-1])}
    return a, {r: b[r] % q for r, q in enumerate(residues)}


def twice(x: tuple[Residues, Residues], residues: list[int]) -> tuple[Residues, Residues]:
    a, b = ({r: 2 * part[r] % residues[r] for r in part} for part in x)
    return a, b


def pack(
    ciphertexts: list[tuple[Residues, Residues]],
    count: int,
    spacing: int,
    keys: dict[int, tuple[list[Residues], list[Residues]]],
    residues: list[int],
) -> tuple[Residues, Residues]:
    """Packs ciphertexts modulo Q to one, as if they were the first of `count` (a power of two)."""
    special, n = residues[-1], len(ciphertexts[0][0][0])
    nodes: list[tuple[Residues, Residues]] = []
    for a, b in ciphertexts:
        scale = {r: pow(count, -1, q) for r, q in enumerate(residues[:-1])}
        scaled_b = {r: b[r] * special * scale[r] % residues[r] for r in b}
        scaled_b[len(residues) - 1] = np.zeros(n, dtype=object)
        nodes.append(({r: a[r] * scale[r] % residues[r] for r in a}, scaled_b))
    log_galois = (n // spacing).bit_length() - 1
    while count > 1:
        count, log_galois = count // 2, log_galois + 1
        pairs = [nodes[i : i + 2] for i in range(0, len(nodes), 2)]
        nodes = [
            merge(pair[0], pair[1], log_galois, keys[log_galois], residues) if pair[1:] else twice(pair[0], residues)
            for pair in pairs
        ]
    return nodes[0]


def switch_modulus(x: Residues, moduli: list[int], bits: int) -> Poly:
    """round(2^bits x / (the product of the moduli)), with x / product taken as a sum of fractions cut to 64 bits."""
    product = math.prod(moduli)
    total: Poly = np.zeros(len(x[0]), dtype=object)
    for r, q in enumerate(moduli):
        others = product // q
        total = total + (x[r] * pow(others, -1, q) % q << 64) // q
    rounded: Poly = (total + (1 << (63 - bits))) >> (64 - bits)
    return rounded % (1 << bits)
