"""The transform against its definition, against python-flint, and every instruction set against every other."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero.kernels import native
from aero.kernels.ntt import Ntt, find_primes
from aero.kernels.reference import ntt as reference

SIZES = [128, 256, 512, 1024, 2048, 4096, 8192]
LEVELS = native.available_levels()


def modulus(n: int, bits: int = 50) -> int:
    return find_primes(bits, n, 1)[0]


def edge_polynomials(n: int, q: int) -> np.ndarray:
    """Random coefficients, all q - 1, all zero, a random mixture of 0, 1 and q - 1, and single coefficients."""
    rng = np.random.default_rng(n)
    rows = [rng.integers(0, q, n, dtype=np.uint64), np.full(n, q - 1, dtype=np.uint64), np.zeros(n, dtype=np.uint64)]
    rows.append(rng.choice(np.array([0, 1, q - 1], dtype=np.uint64), n))
    for position in (0, 1, n - 1):
        rows.append(np.eye(1, n, position, dtype=np.uint64)[0] * np.uint64(q - 1))
    return np.stack(rows)


@cache
def expected_transforms(n: int, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some polynomials, their transforms, and their inverse transforms, by the reference."""
    q = modulus(n, bits)
    a = edge_polynomials(n, q)[: 7 if n < 2048 else 2]
    return a, np.stack([reference.forward(row, q) for row in a]), np.stack([reference.inverse(row, q) for row in a])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n, bits", [*((n, 50) for n in SIZES), (128, 51), (512, 51), (8192, 51)])
def test_equals_the_reference(n: int, bits: int, level: str) -> None:
    """Primes of 51 bits have steps of their own."""
    q = modulus(n, bits)
    transform = Ntt(n, q)
    assert transform.psi == reference.find_psi(n, q)
    assert np.array_equal(transform.exponents, reference.exponents(n))
    a, forward, inverse = expected_transforms(n, bits)
    edges = edge_polynomials(n, q)
    with native.use_level(level):
        assert np.array_equal(transform.forward(a), forward)
        assert np.array_equal(transform.inverse(a), inverse)
        assert np.array_equal(transform.inverse(transform.forward(edges)), edges)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("bits", [30, 35, 50, 51])
def test_product_equals_flint(bits: int, level: str) -> None:
    flint = pytest.importorskip("flint")
    n = 2048
    q = modulus(n, bits)
    transform = Ntt(n, q)
    a, b = edge_polynomials(n, q)[:2]
    with native.use_level(level):
        fa, fb = transform.forward(a).astype(object), transform.forward(b).astype(object)
        product = transform.inverse((fa * fb % q).astype(np.uint64))
    negacyclic = flint.nmod_poly([1] + [0] * (n - 1) + [1], q)
    expected = flint.nmod_poly([int(x) for x in a], q) * flint.nmod_poly([int(x) for x in b], q) % negacyclic
    assert [int(x) for x in product] == [int(expected[i]) for i in range(n)]


def test_reference_product_is_the_schoolbook() -> None:
    n = 128
    q = modulus(n)
    a, b = edge_polynomials(n, q)[[0, 3]]
    fa, fb = reference.forward(a, q).astype(object), reference.forward(b, q).astype(object)
    product = reference.inverse((fa * fb % q).astype(np.uint64), q)
    assert np.array_equal(product, reference.negacyclic_product(a, b, q))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n, bits", [(128, 50), (2048, 50), (2048, 51), (4096, 50), (8192, 50)])
def test_short_polynomials(n: int, bits: int, level: str) -> None:
    q = modulus(n, bits)
    transform = Ntt(n, q)
    with native.use_level(level):
        for front in (64, 128, n // 2, n):
            a = edge_polynomials(n, q)[:, :front]
            padded = np.zeros((len(a), n), dtype=np.uint64)
            padded[:, :front] = a
            assert np.array_equal(transform.forward_front(a), transform.forward(padded))


@settings(max_examples=20)
@given(st.integers(20, 51), st.integers(0, 2**32), st.sampled_from(SIZES))
def test_levels_agree_for_any_prime(bits: int, seed: int, n: int) -> None:
    transform = Ntt(n, modulus(n, bits))
    a = np.random.default_rng(seed).integers(0, transform.q, (3, n), dtype=np.uint64)
    results = []
    for level in LEVELS:
        with native.use_level(level):
            results.append((transform.forward(a), transform.inverse(a)))
    for forward, inverse in results:
        assert np.array_equal(forward, results[0][0])
        assert np.array_equal(inverse, results[0][1])


def test_primes_are_what_they_should_be() -> None:
    primes = find_primes(50, 4096, 3)
    assert primes == sorted(primes, reverse=True)
    for q in primes:
        assert q < 1 << 50 and q % 8192 == 1
        assert all(q % d for d in range(3, 10000, 2))
    with pytest.raises(ValueError, match="use more bits"):
        find_primes(14, 4096, 5)


@pytest.mark.parametrize(
    "n, q", [(4095, 65537), (64, 257), (4096, 65537 * 8193), (4096, (1 << 51) + 17 * 8192 + 1), (-1, 5)]
)
def test_bad_parameters(n: int, q: int) -> None:
    with pytest.raises(ValueError):
        Ntt(n, q)


def test_bad_input() -> None:
    transform = Ntt(128, modulus(128))
    with pytest.raises(ValueError, match="below the modulus"):
        transform.forward(np.full(128, transform.q, dtype=np.uint64))
    with pytest.raises(ValueError, match="uint64"):
        transform.forward(np.zeros(128, dtype=np.int64))
    with pytest.raises(ValueError, match="last axis"):
        transform.inverse(np.zeros(127, dtype=np.uint64))
    with pytest.raises(ValueError, match="pad"):
        transform.forward_front(np.zeros(65, dtype=np.uint64))
