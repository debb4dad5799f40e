"""Products modulo a prime p, number by number: one factor encrypted, the other known, the product in two shares.

A polynomial modulo X^n + 1 and p, for p = 1 modulo 2n, is its n values, here called slots, and a product of polynomials
is the product of their slots (Smart and Vercauteren 2014). The owner of a secret s sends (b, a) with
b + a s = round(Q/p m) + noise (Brakerski 2012; Fan and Vercauteren 2012), a from a public seed. The other party
multiplies by its polynomial v, adds a fresh public-key encryption of zero, and sends back a alone, modulo q', which is
Q without its last prime. Then round(p/q' a s) and round(p/Q b) are shares of the product (rounding of shares: Dodis et
al. 2016; Boyle, Kohl and Scholl 2019), but for a failure in a coefficient with the probability `Field.failure`.

Semi-honest security under RLWE. Not audited. docs/security/ole.md.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from aero.kernels import bitpack
from aero.kernels.native import _native
from aero.kernels.ntt import find_primes
from aero.kernels.prg import Prg
from aero.kernels.rlwe import SEED_BYTES

Words = NDArray[np.uint64]

NOISE_ETA = 21
"""Of the noise, centred binomial: variance 10.5, standard deviation 3.24, never beyond 21."""
NOISE_VARIANCE = NOISE_ETA / 2
SLOTS = 8192
"""Numbers in a ciphertext, and the degree n of its ring."""
MAX_FAILURE = 2.0**-70
"""Of one coefficient: 2^-40 in 2^30 of them, 2^17 ciphertexts."""
MAX_LOG_MODULUS = 214
"""With a uniform ternary secret, as in rlwe.py."""
KEPT_PRIMES = 3
"""Ciphertext primes of a response."""


@dataclass(frozen=True)
class Field:
    """The integers modulo a prime p, and the ciphertext primes that products modulo p need.

    ValueError unless p is a prime, 1 modulo 2^14, of 20 to 51 bits.
    """

    p: int
    primes: tuple[int, ...] = field(init=False)
    """Of a ciphertext: KEPT_PRIMES of one size, and a last one that is dropped from responses. Their sizes are those
    that send the fewest bytes with a failure of at most MAX_FAILURE."""

    def __post_init__(self) -> None:
        if not 1 << 19 < self.p < 1 << 51 or self.p % (2 * SLOTS) != 1 or not _native.is_prime(self.p):
            raise ValueError(f"{self.p} is not a prime of 20 to 51 bits that is 1 modulo {2 * SLOTS}")
        object.__setattr__(self, "primes", _choose_primes(self.p))
        if math.prod(self.primes) > 1 << MAX_LOG_MODULUS:
            raise ValueError(f"products modulo {self.p} need primes beyond 128-bit security: use a smaller field")

    def failure(self, groups: int = 1) -> float:
        """The probability that one coefficient of a product, or of a sum of `groups` products, comes out wrong by 1.

        An average over the noise of the encryption and over the random part of the response, for the worst factor.
        One wrong coefficient makes all slots of its ciphertext wrong.
        """
        return _failure(self.p, self.primes, groups)

    @cached_property
    def ring(self) -> _native.SlotRing:
        """The native tables."""
        return _native.SlotRing(SLOTS, self.p, list(self.primes))

    def multiply(self, x: Words, y: Words) -> Words:
        """x y modulo p, element by element: uint64 below p, of one shape."""
        x, y = self.checked(x), self.checked(y)
        if x.shape != y.shape:
            raise ValueError(f"factors of shapes {x.shape} and {y.shape}: bring them to one shape")
        out = np.empty(x.shape, dtype=np.uint64)
        _native.field_multiply(self.p, x.reshape(-1), y.reshape(-1), out.reshape(-1))
        return out

    def reduce(self, x: Words) -> Words:
        """x modulo p, for any uint64 x: products, shifts and masks (Barrett 1986). NumPy's % is the processor's
        division, which takes longer for some x than for others."""
        quotient = _high_word(x, (1 << 64) // self.p)  # right, or too small by 1
        return self.reduce_once(x - quotient * np.uint64(self.p))

    def reduce_once(self, x: Words) -> Words:
        """x modulo p, for uint64 x below 2p."""
        return x - np.uint64(self.p) * (x >= np.uint64(self.p))

    def checked(self, values: Words) -> Words:
        """The same array, contiguous. ValueError unless it is uint64 and below p."""
        if not isinstance(values, np.ndarray) or values.dtype != np.uint64:
            raise ValueError("values of a field are a uint64 array")
        if (values >= np.uint64(self.p)).any():
            raise ValueError("a value is not below p: reduce it first")
        return np.ascontiguousarray(values)

    def padded(self, values: Words) -> Words:
        """[count, slots] with zeros up to [count, SLOTS]. ValueError for other shapes, types or values."""
        values = self.checked(values)
        if values.ndim != 2 or not 1 <= values.shape[1] <= SLOTS or not len(values):
            raise ValueError(f"expected an array [count, slots] with 1 to {SLOTS} slots, not {values.shape}")
        if values.shape[1] == SLOTS:
            return values
        out = np.zeros((len(values), SLOTS), dtype=np.uint64)
        out[:, : values.shape[1]] = values
        return out

    def polynomial_bytes(self, primes: int, count: int) -> int:
        """What `count` polynomials modulo each of the first `primes` primes take on the wire."""
        return sum(bitpack.packed_size(count * SLOTS, q.bit_length()) for q in self.primes[:primes])

    def pack(self, polynomials: Words) -> bytes:
        """Polynomials [primes, count, n] as bytes, prime by prime."""
        return b"".join(
            bitpack.pack(part, q.bit_length()).tobytes() for part, q in zip(polynomials, self.primes, strict=False)
        )

    def unpack(self, data: bytes | memoryview, primes: int, count: int) -> Words:
        """The inverse of `pack`. ValueError unless length and every coefficient are in range."""
        if len(data) != self.polynomial_bytes(primes, count):
            raise ValueError(f"{count} polynomials take {self.polynomial_bytes(primes, count)} bytes, not {len(data)}")
        view = memoryview(data)
        out = np.empty((primes, count, SLOTS), dtype=np.uint64)
        for i, q in enumerate(self.primes[:primes]):
            size = bitpack.packed_size(count * SLOTS, q.bit_length())
            values = bitpack.unpack(view[:size], count * SLOTS, q.bit_length())
            if values.size and int(values.max()) >= q:
                raise ValueError("a coefficient is not below its modulus: the data is damaged")
            out[i] = values.reshape(count, SLOTS)
            view = view[size:]
        return out

    def expand(self, seed: bytes, label: str, count: int) -> Words:
        """Uniform polynomials [L, count, n] from a public seed: the same for everybody."""
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a public seed has {SEED_BYTES} bytes, not {len(seed)}")
        out = np.empty((len(self.primes), count, SLOTS), dtype=np.uint64)
        for i, q in enumerate(self.primes):
            out[i] = Prg(seed, f"slots/{label}/{i}").uniform_below((count, SLOTS), q)
        return out


def _high_word(x: Words, c: int) -> Words:
    """floor(x c / 2^64) of uint64 x and 0 <= c < 2^64."""
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    x_low, x_high, c_low, c_high = x & low, x >> half, np.uint64(c & 0xFFFFFFFF), np.uint64(c >> 32)
    first = x_low * c_high + (x_low * c_low >> half)
    second = x_high * c_low + (first & low)
    return x_high * c_high + (first >> half) + (second >> half)


def _failure(p: int, primes: tuple[int, ...], groups: int) -> float:
    """docs/security/ole.md derives it."""
    large = math.prod(primes)
    small = large // primes[-1]
    product = math.sqrt((NOISE_VARIANCE + 1 / 12) * SLOTS * groups) * p / 2  # noise of the upload times v
    zero = 2 * NOISE_ETA * SLOTS  # of the encryption of zero, at its largest
    rounding = math.sqrt(SLOTS / 12)  # of a, times s
    return p * (product + zero) / large + p * rounding / small


def _choose_primes(p: int) -> tuple[int, ...]:
    best: tuple[int, tuple[int, ...]] | None = None
    for bits in range(20, 51):
        for last in range(20, 51):
            size = 2 * KEPT_PRIMES * bits + last
            powers = (*(1 << bits,) * KEPT_PRIMES, 1 << last)  # the primes are a little smaller: hence half
            if (best and size >= best[0]) or _failure(p, powers, 1) > MAX_FAILURE / 2:
                continue
            kept = [q for q in find_primes(bits, SLOTS, KEPT_PRIMES + 1) if q != p]
            other = [q for q in find_primes(last, SLOTS, KEPT_PRIMES + 2) if q != p and q not in kept[:KEPT_PRIMES]]
            best = size, (*kept[:KEPT_PRIMES], other[0])
    if best is None:
        raise ValueError(f"no four primes are large enough for products modulo {p}: use a smaller field")
    return best[1]


P50 = Field(1256132134125569)
"""50.2 bits; 2 has order 2^13, so that powers of 2 with shared exponents multiply without a wrap."""
P37 = Field(190274191361)
"""37.5 bits; 2 has order 2^13."""


class SlotSecret:
    """A uniform ternary secret that is invertible modulo q', and what its owner does with it."""

    def __init__(self, field: Field, coefficients: NDArray[np.int8]) -> None:
        """`coefficients`: int8 [n] in {-1, 0, 1}; use `SlotSecret.generate` for a fresh secret."""
        if coefficients.shape != (SLOTS,) or coefficients.dtype != np.int8 or np.abs(coefficients).max() > 1:
            raise ValueError(f"a secret key is {SLOTS} int8 coefficients from -1 to 1")
        self.field = field
        self.transform: Words = np.empty(len(field.primes) * SLOTS, dtype=np.uint64)
        field.ring.secret(np.ascontiguousarray(coefficients), self.transform)
        if not self.transform.all():
            raise ValueError("this secret has no inverse, which shares need to be uniform: draw another one")

    @classmethod
    def generate(cls, field: Field, secrets: Prg) -> "SlotSecret":
        while True:  # one in 2^28 has no inverse
            try:
                return cls(field, secrets.ternary(SLOTS))
            except ValueError:
                continue

    def __repr__(self) -> str:
        return f"SlotSecret({self.field})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret key is not to be pickled")

    def _encrypt(self, a: Words, errors: Prg, slots: Words | None) -> Words:
        b = np.empty_like(a)
        noise = errors.noise((a.shape[1], SLOTS), NOISE_ETA).reshape(-1)
        flat = None if slots is None else slots.reshape(-1)
        self.field.ring.encrypt(self.transform, a.reshape(-1), noise, flat, b.reshape(-1))
        return b

    def encrypt(self, values: Words, seed: bytes, errors: Prg) -> "SlotCiphertexts":
        """Encrypt uint64 [count, slots] below p, at most `SLOTS` of them in each ciphertext.

        `seed`: 16 bytes that become public, never used before. `errors`: the owner's private stream.
        """
        slots = self.field.padded(values)
        a = self.field.expand(seed, "upload", len(slots))
        return SlotCiphertexts(self.field, seed, self._encrypt(a, errors, slots), a)

    def public_key(self, seed: bytes, errors: Prg) -> "SlotPublicKey":
        """`seed`: 16 bytes that become public, never used before."""
        b = self._encrypt(self.field.expand(seed, "public-key", 1), errors, None)
        return SlotPublicKey(self.field, seed, b[:, 0])

    def decrypt(self, response: Words) -> Words:
        """The owner's shares, uint64 [count, SLOTS] below p, from a response [KEPT_PRIMES, count, n]."""
        out = np.empty(response.shape[1:], dtype=np.uint64)
        self.field.ring.decrypt(self.transform, response.reshape(-1), out.reshape(-1))
        return out


class SlotPublicKey:
    """What the owner of a secret publishes once: an encryption of zero. b and a are transforms uint64 [L, n]."""

    def __init__(self, field: Field, seed: bytes, b: Words) -> None:
        self.field = field
        self.seed = seed
        self.b = np.ascontiguousarray(b)
        self.a = np.ascontiguousarray(field.expand(seed, "public-key", 1)[:, 0])

    def respond(
        self, uploads: "SlotCiphertexts", values: Words, errors: Prg, *, total: bool = False
    ) -> tuple[Words, Words]:
        """The response to send, uint64 [KEPT_PRIMES, results, n], and this party's shares of the products, uint64
        [results, SLOTS] below p.

        `values`: [count, slots] below p; there are as many ciphertexts, or one for all. With `total`, the only result
        is the sum of all products. Each result has a fresh encryption of zero from `errors`, a private stream of this
        party; without it the response would be a known multiple of the values.
        """
        slots = self.field.padded(values)
        if uploads.field != self.field or len(uploads) not in (1, len(slots)):
            raise ValueError(f"{len(slots)} factors for {len(uploads)} ciphertexts: give one each, of the key's field")
        results = 1 if total else len(slots)
        u, e = errors.ternary(results * SLOTS), errors.noise(results * SLOTS, NOISE_ETA)
        response = np.empty((KEPT_PRIMES, results, SLOTS), dtype=np.uint64)
        share = np.empty((results, SLOTS), dtype=np.uint64)
        arrays = (uploads.b.reshape(-1), uploads.a.reshape(-1), slots.reshape(-1))
        key = self.b.reshape(-1), self.a.reshape(-1)
        self.field.ring.respond(*arrays, total, *key, u, e, response.reshape(-1), share.reshape(-1))
        return response, share

    def to_bytes(self) -> bytes:
        return self.seed + self.field.pack(self.b[:, None])

    @classmethod
    def byte_size(cls, field: Field) -> int:
        """The length of `to_bytes`."""
        return SEED_BYTES + field.polynomial_bytes(len(field.primes), 1)

    @classmethod
    def from_bytes(cls, field: Field, data: bytes | memoryview) -> "SlotPublicKey":
        """ValueError unless the length is right and every coefficient below its prime."""
        b = field.unpack(memoryview(data)[SEED_BYTES:], len(field.primes), 1)
        return cls(field, bytes(data[:SEED_BYTES]), b[:, 0])


class SlotCiphertexts:
    """Fresh ciphertexts from the owner of a secret. b and a are transforms uint64 [L, count, n]."""

    def __init__(self, field: Field, seed: bytes, b: Words, a: Words) -> None:
        self.field = field
        self.seed = seed
        self.b = b
        self.a = a

    def __len__(self) -> int:
        return self.b.shape[1]

    def part(self, start: int, stop: int) -> "SlotCiphertexts":
        """The ciphertexts start:stop, for products; not for sending."""
        b, a = (np.ascontiguousarray(polynomials[:, start:stop]) for polynomials in (self.b, self.a))
        return SlotCiphertexts(self.field, self.seed, b, a)

    def to_bytes(self) -> bytes:
        """The seed, then b."""
        return self.seed + self.field.pack(self.b)

    @classmethod
    def byte_size(cls, field: Field, count: int) -> int:
        """The length of `to_bytes`."""
        return SEED_BYTES + field.polynomial_bytes(len(field.primes), count)

    @classmethod
    def from_bytes(cls, field: Field, data: bytes | memoryview, count: int) -> "SlotCiphertexts":
        """ValueError unless the length is right and every coefficient below its prime."""
        b = field.unpack(memoryview(data)[SEED_BYTES:], len(field.primes), count)
        seed = bytes(data[:SEED_BYTES])
        return cls(field, seed, b, field.expand(seed, "upload", count))
