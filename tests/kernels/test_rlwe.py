"""Parameters, keys and encryption against their equations in Python integers."""

import math
import pickle

import numpy as np
import pytest

from aero.kernels import native
from aero.kernels.ntt import Ntt
from aero.kernels.prg import Prg
from aero.kernels.reference import rlwe as reference
from aero.kernels.rlwe import (
    DEVIATION,
    MAX_LOG_MODULUS,
    SHARES,
    WEIGHTS,
    WIDE,
    Ciphertexts,
    Params,
    PublicKeys,
    SecretKey,
)

LEVELS = native.available_levels()
PARAMS = [WEIGHTS, SHARES, WIDE]
SEED = bytes(range(16))


def stream(label: str) -> Prg:
    return Prg(b"test seed of 16.", label)


def coefficients(params: Params, transforms: np.ndarray) -> np.ndarray:
    """[..., residues, n] transforms to coefficients, as Python integers."""
    rows = transforms.reshape(-1, *transforms.shape[-2:])
    out = [Ntt(params.n, q).inverse(rows[:, i]) for i, q in enumerate(params.residues[: rows.shape[1]])]
    return np.stack(out, axis=1).reshape(transforms.shape).astype(object)


def combined(params: Params, residues: np.ndarray) -> np.ndarray:
    """[L, n] residues to integers modulo Q."""
    total = 0
    for row, q in zip(residues, params.primes, strict=False):
        others = params.modulus // q
        total = total + row * pow(others, -1, q) % q * others
    return total % params.modulus


@pytest.mark.parametrize("params", PARAMS)
def test_parameters_meet_the_standard(params: Params) -> None:
    assert math.log2(params.modulus * params.special) <= MAX_LOG_MODULUS[params.n]
    assert len(set(params.residues)) == len(params.residues)
    assert all(q % (2 * params.n) == 1 for q in params.residues)


@pytest.mark.parametrize("n, primes, special", [(4096, (50, 50), 50), (2048, (30,), 30), (8192, (50, 50, 50), 49)])
def test_insecure_or_unequal_parameters_are_refused(n: int, primes: tuple[int, ...], special: int) -> None:
    if n == 8192:
        with pytest.raises(ValueError, match="one size"):
            Params(n, primes, special).lattice  # noqa: B018
    else:
        with pytest.raises(ValueError, match="insecure"):
            Params(n, primes, special)


@pytest.mark.parametrize(
    "n, primes, special", [(1024, (20,), 20), (4096, (), 50), (4096, (51,), 50), (8192, (40,) * 4, 40)]
)
def test_other_bad_parameters(n: int, primes: tuple[int, ...], special: int) -> None:
    with pytest.raises(ValueError):
        Params(n, primes, special)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("params, ring_bits", [(WEIGHTS, 1), (WEIGHTS, 41), (SHARES, 37), (WIDE, 64)])
def test_encryption_is_its_equation(params: Params, ring_bits: int, level: str) -> None:
    n, q = params.n, params.modulus
    rng = np.random.default_rng(1)
    messages = rng.integers(0, 2**64, (2, n), dtype=np.uint64)  # the high bits must not count
    messages[1, : n // 2] = 2**64 - 1
    messages[1, n // 2 :] = 0
    with native.use_level(level):
        secret = SecretKey.generate(params, stream("secret"))
        ciphertexts = secret.encrypt(messages, ring_bits, SEED, stream("errors"))
    s = stream("secret").gaussian(n, DEVIATION).astype(object)
    noise = stream("errors").gaussian((2, n), DEVIATION).astype(object)
    a, b = coefficients(params, ciphertexts.a), coefficients(params, ciphertexts.b)
    for i in range(2):
        phase = combined(params, b[i]) + reference.multiply(combined(params, a[i]), s, q)
        expected = np.array([reference.scaled_message(int(m), q, ring_bits) for m in messages[i]], dtype=object)
        assert np.array_equal(phase % q, (expected + noise[i]) % q)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("params", [WEIGHTS, SHARES])
def test_public_keys_are_their_equations(params: Params, level: str) -> None:
    n, residues = params.n, list(params.residues)
    with native.use_level(level):
        secret = SecretKey.generate(params, stream("secret"))
        keys = secret.public_keys(SEED, stream("errors"), max_spacing=4)
    assert keys.max_spacing == 4
    s = stream("secret").gaussian(n, DEVIATION).astype(object)
    errors = stream("errors")
    noise = errors.gaussian((1, n), DEVIATION).astype(object)
    b = combined(params, coefficients(params, keys.encryption_b))
    a = combined(params, coefficients(params, keys.encryption_a))
    q = params.modulus
    assert np.array_equal((b + reference.multiply(a, s, q)) % q, noise[0] % q)
    for i, step in enumerate((n.bit_length() - 2, n.bit_length() - 1)):
        noise = errors.gaussian((len(params.primes), n), DEVIATION).astype(object)
        a = coefficients(params, params.expand(SEED, f"packing-key/{step}", len(residues), len(params.primes)))
        expected = reference.packing_key(s, step, [dict(enumerate(digit)) for digit in a], list(noise), residues)
        actual = coefficients(params, keys.packing_b[i])
        for digit, rows in enumerate(expected):
            for r, row in rows.items():
                assert np.array_equal(actual[digit, r], row)


def test_serialization() -> None:
    params = SHARES
    secret = SecretKey.generate(params, stream("secret"))
    ciphertexts = secret.encrypt(np.zeros((2, params.n), dtype=np.uint64), 37, SEED, stream("errors"))
    data = ciphertexts.to_bytes()
    assert len(data) == Ciphertexts.byte_size(params, 2) == 16 + 2 * 2 * params.n * 36 // 8
    again = Ciphertexts.from_bytes(params, data, 2)
    assert np.array_equal(again.b, ciphertexts.b) and np.array_equal(again.a, ciphertexts.a)
    keys = secret.public_keys(SEED, stream("errors"), max_spacing=8)
    data = keys.to_bytes()
    assert len(data) == PublicKeys.byte_size(params, 8)
    again_keys = PublicKeys.from_bytes(params, data, 8)
    assert np.array_equal(again_keys.packing_b, keys.packing_b)
    assert np.array_equal(again_keys.encryption_b, keys.encryption_b)
    assert again_keys.max_spacing == 8


def test_damaged_data_is_refused() -> None:
    params = WEIGHTS
    secret = SecretKey.generate(params, stream("secret"))
    data = secret.encrypt(np.zeros((1, params.n), dtype=np.uint64), 37, SEED, stream("errors")).to_bytes()
    with pytest.raises(ValueError, match="take"):
        Ciphertexts.from_bytes(params, data[:-1], 1)
    with pytest.raises(ValueError, match="take"):
        Ciphertexts.from_bytes(params, data, 2)
    with pytest.raises(ValueError, match="modulus"):
        Ciphertexts.from_bytes(params, data[:16] + b"\xff" * (len(data) - 16), 1)
    q = params.primes[0]
    for value, fine in ((q - 1, True), (q, False)):
        coefficient = np.zeros((1, 1, params.n), dtype=np.uint64)
        coefficient[0, 0, 77] = value
        altered = data[:16] + params.pack(coefficient)
        if fine:
            Ciphertexts.from_bytes(params, altered, 1)
        else:
            with pytest.raises(ValueError, match="modulus"):
                Ciphertexts.from_bytes(params, altered, 1)
    keys = secret.public_keys(SEED, stream("errors"), max_spacing=2).to_bytes()
    with pytest.raises(ValueError, match="modulus"):
        PublicKeys.from_bytes(params, keys[:-9] + b"\xff" * 9, 2)
    with pytest.raises(ValueError, match="take"):
        PublicKeys.from_bytes(params, keys, 4)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize("bits", [13, 44, 63])
def test_times_secret(params: Params, bits: int, level: str) -> None:
    n = params.n
    a = np.random.default_rng(bits).integers(0, 1 << bits, (2, n), dtype=np.uint64)
    a[1] = (1 << bits) - 1
    s = stream("secret").gaussian(n, DEVIATION)
    with native.use_level(level):
        product = SecretKey(params, s).times(a, bits)
    for i in range(2):
        expected = reference.multiply(a[i].astype(object), s.astype(object), 1 << bits)
        assert np.array_equal(product[i].astype(object), expected)


def test_secrets_stay_out_of_sight() -> None:
    secret = SecretKey.generate(WEIGHTS, stream("secret"))
    assert str(int(secret.transform[0])) not in repr(secret)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(ValueError, match="-37 to 37"):
        SecretKey(WEIGHTS, np.full(WEIGHTS.n, 38, dtype=np.int8))


def test_sizes_of_the_table() -> None:
    """One upload ciphertext costs n log2 q bits and the seed is shared by all of them."""
    assert Ciphertexts.byte_size(WEIGHTS, 48) == 16 + 48 * 4096 * 50 // 8
    assert math.isclose(math.log2(WEIGHTS.modulus * WEIGHTS.special), 100, abs_tol=0.01)
