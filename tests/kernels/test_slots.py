"""Products in slots against their equations in Python integers, and failures against the derived probability."""

import math
import pickle

import numpy as np
import pytest

from aero.kernels import _native, native
from aero.kernels.ntt import Ntt, find_primes
from aero.kernels.prg import Prg
from aero.kernels.reference import slots as reference
from aero.kernels.reference.rlwe import centred, multiply
from aero.kernels.rlwe import MAX_LOG_MODULUS
from aero.kernels.slots import (
    MAX_FAILURE,
    P37,
    P50,
    SLOTS,
    Field,
    SlotCiphertexts,
    SlotPublicKey,
    SlotSecret,
    _failure,
)

LEVELS = native.available_levels()
FIELDS = [P50, P37]
SEED = bytes(range(16))
N = 128  # of the tests in Python integers


def stream(label: str) -> Prg:
    return Prg(b"test seed of 16.", label)


class Small:
    """The native kernels at n = 128, and conversions between their arrays and integers modulo Q."""

    def __init__(self, p: int, kept_bits: int, last_bits: int) -> None:
        self.p = p
        self.primes = find_primes(kept_bits, N, 3)
        self.primes.append(next(q for q in find_primes(last_bits, N, 4) if q not in self.primes))
        self.modulus = math.prod(self.primes)
        self.ring = _native.SlotRing(N, p, self.primes)
        self.s = stream("secret").ternary(N)
        self.secret = np.empty(4 * N, np.uint64)
        self.ring.secret(self.s, self.secret)

    def transforms(self, label: str, count: int) -> np.ndarray:
        """Uniform [4, count, n]."""
        return np.stack([stream(f"{label} {q}").uniform_below((count, N), q) for q in self.primes])

    def integers(self, residues: np.ndarray, *, transforms: bool = True) -> np.ndarray:
        """[primes, count, n] to coefficients modulo the product of the primes, [count, n]."""
        primes = self.primes[: len(residues)]
        product = math.prod(primes)
        total = 0
        for rows, q in zip(residues, primes, strict=True):
            coefficients = Ntt(N, q).inverse(rows) if transforms else rows
            total = total + coefficients.astype(object) * pow(product // q, -1, q) % q * (product // q)
        return total % product

    def encrypt(self, a: np.ndarray, noise: np.ndarray, slots: np.ndarray | None) -> np.ndarray:
        b = np.empty_like(a)
        flat = None if slots is None else slots.reshape(-1)
        self.ring.encrypt(self.secret, a.reshape(-1), noise.reshape(-1), flat, b.reshape(-1))
        return b

    def respond(self, b, a, slots, total, public, u, e):
        results = 1 if total else len(slots)
        response, share = np.empty((3, results, N), np.uint64), np.empty((results, N), np.uint64)
        arrays = [np.ascontiguousarray(x).reshape(-1) for x in (b, a, slots)]
        key = [np.ascontiguousarray(x).reshape(-1) for x in public]
        self.ring.respond(*arrays, total, *key, u.reshape(-1), e.reshape(-1), response.reshape(-1), share.reshape(-1))
        return response, share

    def decrypt(self, response: np.ndarray, secret: np.ndarray | None = None) -> np.ndarray:
        out = np.empty(response.shape[1:], np.uint64)
        secret = self.secret if secret is None else secret
        self.ring.decrypt(secret, np.ascontiguousarray(response).reshape(-1), out.reshape(-1))
        return out


def edges(p: int, count: int) -> np.ndarray:
    """Slots [count, n]: random, but the first all p - 1 and the second half 0, half (p - 1) / 2."""
    values = stream("slots").uniform_below((count, N), p)
    values[0] = p - 1
    if count > 1:
        values[1] = np.where(np.arange(N) < N // 2, 0, p // 2)
    return values


@pytest.mark.parametrize("p", [P50.p, P37.p])
def test_fields_are_as_described(p: int) -> None:
    assert pow(2, 2**13, p) == 1 and pow(2, 2**12, p) == p - 1  # the order of 2 is 2^13
    assert p % 2**14 == 1 and _native.is_prime(p)
    flint = pytest.importorskip("flint")
    assert flint.fmpz(p).is_prime()


@pytest.mark.parametrize("field", FIELDS)
def test_parameters(field: Field) -> None:
    assert len(set(field.primes)) == 4 and all(q % (2 * SLOTS) == 1 for q in field.primes)
    assert math.prod(field.primes) < 2 ** MAX_LOG_MODULUS[SLOTS]
    assert 2.0**-75 < field.failure() < MAX_FAILURE == 2.0**-70
    assert field.failure(4) <= 2.01 * field.failure()  # noise of a sum grows with the root
    assert field == Field(field.p) and hash(field) == hash(Field(field.p))


@pytest.mark.parametrize("p", [2**51 - 1, 97, P50.p + 2, 2**14 + 1, 12289 * 40961, (1 << 60) + 1])
def test_other_moduli_are_refused(p: int) -> None:
    with pytest.raises(ValueError, match="not a prime of"):
        Field(p)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("p, kept, last", [(P50.p, 43, 50), (P37.p, 38, 41), (P37.p, 50, 20)])
def test_every_step_is_its_equation(p: int, kept: int, last: int, level: str) -> None:
    small = Small(p, kept, last)
    s, q_last = small.s.astype(object), small.primes[-1]
    with native.use_level(level):
        secret = np.empty(4 * N, np.uint64)
        small.ring.secret(small.s, secret)
        assert np.array_equal(secret, small.secret)
        u, v = edges(p, 3), edges(p, 3)[::-1]
        a, public_a = small.transforms("a", 3), small.transforms("public", 1)
        noise, public_noise = stream("noise").noise((3, N)), stream("public noise").noise((1, N))
        b, public_b = small.encrypt(a, noise, u), small.encrypt(public_a, public_noise, None)
        masks, errors = stream("u").ternary((3, N)), stream("e").noise((3, N))
        responses = [
            small.respond(b, a, v, False, (public_b, public_a), masks, errors),
            small.respond(b, a, v, True, (public_b, public_a), masks[:1], errors[:1]),
            small.respond(b[:, 1:2], a[:, 1:2], v, False, (public_b, public_a), masks, errors),
        ]
        decrypted = [small.decrypt(response) for response, _ in responses]

    a_int, b_int = small.integers(a), small.integers(b)
    zero = small.integers(public_b)[0], small.integers(public_a)[0]
    for i in range(3):
        expected = reference.encrypt(u[i], p, small.modulus, s, a_int[i], noise[i].astype(object))
        assert np.array_equal(b_int[i], expected)
    expected = reference.encrypt(None, p, small.modulus, s, zero[1], public_noise[0].astype(object))
    assert np.array_equal(zero[0], expected)
    pairs = list(zip(b_int, a_int, strict=True))
    jobs = [([pairs[i]], [v[i]], 0, i) for i in range(3)]
    jobs += [(pairs, list(v), 1, 0)] + [([pairs[1]], [v[i]], 2, i) for i in range(3)]
    for ciphertexts, factors, which, i in jobs:
        response, share = responses[which]
        found = small.integers(response, transforms=False)[i]
        mask, error = masks[i].astype(object), errors[i].astype(object)
        expected = reference.respond(ciphertexts, factors, p, small.modulus, q_last, zero, mask, error)
        assert np.array_equal(found, expected[0])
        assert np.array_equal(share[i], expected[1])
        assert np.array_equal(decrypted[which][i], reference.decrypt(found, p, small.modulus // q_last, s))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("p, kept", [(P50.p, 43), (P50.p, 47), (P37.p, 38)])
def test_rounding_is_right_beside_every_boundary(p: int, kept: int, level: str) -> None:
    """With the secret 1, a response's coefficients are rounded themselves: those on both sides of half steps.
    Two integers are p/q' apart, at least 2^-91 here; fractions are taken to 2^-98."""
    small = Small(p, kept, 40)
    modulus = math.prod(small.primes[:3])
    one = np.empty(4 * N, np.uint64)
    small.ring.secret(np.eye(1, N, dtype=np.int8)[0], one)
    steps = [0, 1, p // 2, p - 1, *stream("steps").uniform_below(N // 4 - 4, p).tolist()]
    # the last integer below (k + 1/2) q' / p and the first above; both ends of the range
    below = [((2 * int(k) + 1) * modulus // (2 * p)) % modulus for k in steps]
    values = np.array([*below, *(x + 1 for x in below), *((modulus - 1, 0) * (N // 4))], dtype=object) % modulus
    response = np.stack([(values % q).astype(np.uint64) for q in small.primes[:3]])[:, None]
    with native.use_level(level):
        share = small.decrypt(response, one)[0]
    expected = reference.decrypt(values, p, modulus, np.eye(1, N, dtype=np.int8)[0].astype(object))
    assert np.array_equal(share, expected)


@pytest.mark.parametrize("kept, last", [(21, 22), (15, 50)])
def test_failures_are_as_frequent_as_derived(kept: int, last: int) -> None:
    """With moduli so small that one of the two kinds of noise is seen: the upload's times v, or the rounding of a."""
    p, count = P37.p, 1500
    small = Small(p, kept, last)
    u, v = (stream(label).uniform_below((count, N), p) for label in ("u slots", "v slots"))
    a, public_a = small.transforms("a", count), small.transforms("public", 1)
    b = small.encrypt(a, stream("noise").noise((count, N)), u)
    public = small.encrypt(public_a, stream("public noise").noise((1, N)), None), public_a
    masks, errors = stream("u").ternary((count, N)), stream("e").noise((count, N))
    response, share = small.respond(b, a, v, False, public, masks, errors)
    sums = (share + small.decrypt(response)) % np.uint64(p)
    exact = (u.astype(object) * v.astype(object) % p).astype(np.uint64)
    wrong = centred(Ntt(N, p).inverse((sums + np.uint64(p) - exact) % np.uint64(p)).astype(object), p)
    assert np.abs(wrong).max() == 1
    measured = np.count_nonzero(wrong) / wrong.size
    large = small.modulus
    product = math.sqrt((10.5 + 1 / 12) * N) * p / 12**0.5  # v is uniform here, and 12^-0.5 instead of 1/2
    rounding = math.sqrt(N / 18)  # s has two thirds of its coefficients
    expected = (2 / math.pi) ** 0.5 * p * math.hypot(product / large, rounding * small.primes[-1] / large)
    assert abs(measured - expected) < 6 * math.sqrt(expected / wrong.size) + 0.02 * expected
    assert expected < _failure(p, tuple(small.primes), 1)  # which counts for n = 8192


def test_the_bound_covers_the_noise_of_a_product() -> None:
    """The phase of an upload times a factor, all of whose coefficients are as large as they can be."""
    field, rng = P50, np.random.default_rng(3)
    modulus, p = math.prod(field.primes), field.p
    secret = SlotSecret.generate(field, stream("secret"))
    m = rng.integers(0, p, SLOTS, dtype=np.uint64)
    coefficients = rng.choice(np.array([p // 2, p - p // 2], np.uint64), SLOTS)
    upload = secret.encrypt(Ntt(SLOTS, p).forward(m)[None], SEED, stream("errors"))

    def integers(residues: np.ndarray) -> np.ndarray:
        total = 0
        for rows, q in zip(residues[:, 0], field.primes, strict=True):
            others = modulus // q
            total = total + Ntt(SLOTS, q).inverse(rows).astype(object) * pow(others, -1, q) % q * others
        return total % modulus

    s, v = stream("secret").ternary(SLOTS).astype(object), centred(coefficients.astype(object), p)
    phase = centred(integers(upload.b) + multiply(integers(upload.a), s, modulus), modulus)
    noise = phase - centred((modulus * m.astype(object) + p // 2) // p, modulus)
    assert np.array_equal(centred(noise, modulus), stream("errors").noise((1, SLOTS))[0].astype(object))
    exact_noise = p * phase - modulus * m.astype(object)  # p times what is off from Q/p m, modulo p Q
    product = centred(multiply(exact_noise, v, p * modulus), p * modulus).astype(float) / p
    bound = field.failure() * modulus / p
    assert 0.8 * bound < product.std() < 1.1 * bound


@pytest.mark.parametrize("field", FIELDS)
def test_products(field: Field) -> None:
    secret = SlotSecret.generate(field, stream("secret"))
    key = secret.public_key(SEED, stream("errors"))
    assert SlotPublicKey.byte_size(field) == len(key.to_bytes())
    key = SlotPublicKey.from_bytes(field, key.to_bytes())
    u, v = (stream(label).uniform_below((2, SLOTS), field.p) for label in ("u", "v"))
    v[0] = field.p - 1
    upload = secret.encrypt(u, bytes(16), stream("upload"))
    data = upload.to_bytes()
    assert len(data) == SlotCiphertexts.byte_size(field, 2)
    upload = SlotCiphertexts.from_bytes(field, data, 2)
    exact = u.astype(object) * v.astype(object) % field.p
    response, share = key.respond(upload, v, stream("respond"))
    packed = field.pack(response)
    assert len(packed) == field.polynomial_bytes(3, 2)
    assert np.array_equal((secret.decrypt(field.unpack(packed, 3, 2)) + share) % np.uint64(field.p), exact)
    response, share = key.respond(upload, v, stream("respond"), total=True)
    assert np.array_equal((secret.decrypt(response) + share)[0] % np.uint64(field.p), exact.sum(axis=0) % field.p)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 11), (8,), (64, 5), (0,)])
def test_elementwise_products(field: Field, shape: tuple[int, ...], level: str) -> None:
    x, y = (stream(label).uniform_below(shape, field.p) for label in "xy")
    if x.size:
        x.flat[0] = y.flat[0] = field.p - 1
    with native.use_level(level):
        product = field.multiply(x, y)
    assert np.array_equal(product.astype(object), x.astype(object) * y.astype(object) % field.p)


@pytest.mark.parametrize("p", [P50.p, P37.p, 2**19 + 2**15 + 1])
def test_reductions_are_those_of_integers(p: int) -> None:
    field = Field(p)
    near = [k * p + d for k in (0, 1, 2, 3, (2**64 - 1) // p) for d in (-1, 0, 1)]
    edges = [x for x in (*near, 2**32 - 1, 2**32, 2**63, 2**64 - 1) if 0 <= x < 2**64]
    x = np.concatenate([np.array(edges, np.uint64), np.random.default_rng(1).integers(0, 2**64, 1000, np.uint64)])
    assert field.reduce(x).tolist() == [int(v) % p for v in x]
    below = np.array([0, 1, p - 1, p, p + 1, 2 * p - 1], np.uint64)
    assert field.reduce_once(below).tolist() == [int(v) % p for v in below]


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match="below p"):
        P37.multiply(np.array([P37.p], np.uint64), np.zeros(1, np.uint64))
    with pytest.raises(ValueError, match="uint64"):
        P37.multiply(np.zeros(1), np.zeros(1, np.uint64))
    with pytest.raises(ValueError, match="one shape"):
        P37.multiply(np.zeros(2, np.uint64), np.zeros(1, np.uint64))
    for shape in ((SLOTS,), (1, SLOTS + 1), (0, 4)):
        with pytest.raises(ValueError, match="1 to 8192 slots"):
            P37.padded(np.zeros(shape, np.uint64))


def test_damaged_data_is_refused() -> None:
    field = P37
    secret = SlotSecret.generate(field, stream("secret"))
    key, upload = (
        secret.public_key(SEED, stream("errors")),
        secret.encrypt(np.ones((1, 1), np.uint64), SEED, stream("e")),
    )
    for read, data in (
        (lambda d: SlotPublicKey.from_bytes(field, d), key.to_bytes()),
        (lambda d: SlotCiphertexts.from_bytes(field, d, 1), upload.to_bytes()),
        (lambda d: field.unpack(d[16:], 4, 1), upload.to_bytes()),
    ):
        read(data)
        with pytest.raises(ValueError, match="take"):
            read(data[:-1])
        with pytest.raises(ValueError, match="take"):
            read(b"")
        with pytest.raises(ValueError, match="below its modulus"):
            read(data[:16] + b"\xff" * (len(data) - 16))


def test_secrets_stay_out_of_sight() -> None:
    secret = SlotSecret.generate(P37, stream("secret"))
    assert str(int(secret.transform[0])) not in repr(secret)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(ValueError, match="-1 to 1"):
        SlotSecret(P37, np.full(SLOTS, 2, dtype=np.int8))
    with pytest.raises(ValueError, match="no inverse"):
        SlotSecret(P37, np.zeros(SLOTS, dtype=np.int8))
