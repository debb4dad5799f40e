"""RLWE encryption: parameters, keys, and the ciphertexts that a client uploads.

A ciphertext modulo Q = q_0 ... q_{L-1} is a pair of polynomials (b, a) with b + a s = round(Q/2^l m) + noise, where
the message's n coefficients m are integers modulo 2^l (Brakerski 2012; Fan and Vercauteren 2012, with coefficients
instead of slots). Secret and noise are discrete Gaussians of deviation 4 (gaussian.py). The owner of the secret draws a
from a public seed, so that only b is sent. Keys that turn results into compact ones (lattice_matmul.py) live modulo QP
with a special prime P.

Semi-honest security under RLWE, and circular security for the packing keys. Not audited.
docs/understand/kernels-lattice.md.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from aero.kernels import bitpack
from aero.kernels.gaussian import largest
from aero.kernels.native import _native
from aero.kernels.ntt import find_primes
from aero.kernels.prg import Prg

Words = NDArray[np.uint64]

# The largest log2 of the modulus QP that keeps 128-bit security with a discrete Gaussian secret and error of standard
# deviation 3.19: Security Guidelines for Implementing Homomorphic Encryption (Bossuat et al. 2024, ePrint 2024/463),
# classical attacks. The older Standard (Albrecht et al. 2018) allows 56, 111, 220.
MAX_LOG_MODULUS = {2048: 55, 4096: 108, 8192: 216}

SEED_BYTES = 16  # public seeds
DEVIATION = 4.0
"""Standard deviation of the discrete Gaussian that secrets and noise are drawn from: more than the customary 3.2, as
hints take some of it (docs/security/errors.md)."""
NOISE_VARIANCE = DEVIATION**2
LARGEST = largest(DEVIATION)
"""No coefficient of a secret or of noise is larger."""


@dataclass(frozen=True)
class Params:
    """Ring degree and moduli. ValueError where they would fall short of 128 bits of security."""

    n: int
    """Degree: polynomials are taken modulo X^n + 1. 2048, 4096 or 8192."""
    prime_bits: tuple[int, ...]
    """Bits of each ciphertext prime q_i, at most 50: the largest primes of that size that are 1 modulo 2n."""
    special_bits: int
    """Bits of the special prime P that only keys use."""
    primes: tuple[int, ...] = field(init=False)
    special: int = field(init=False)

    def __post_init__(self) -> None:
        if self.n not in MAX_LOG_MODULUS:
            raise ValueError(
                f"degree {self.n} is not in the security table: use {' or '.join(map(str, MAX_LOG_MODULUS))}"
            )
        sizes = (*self.prime_bits, self.special_bits)
        if not 1 <= len(self.prime_bits) <= 3 or not all(20 <= bits <= 50 for bits in sizes):
            raise ValueError(f"moduli of {sizes} bits: use 1 to 3 ciphertext primes of 20 to 50 bits and a special one")
        remaining = {bits: find_primes(bits, self.n, sizes.count(bits)) for bits in set(sizes)}
        chosen = [remaining[bits].pop(0) for bits in sizes]
        if math.prod(chosen) > 1 << MAX_LOG_MODULUS[self.n]:
            raise ValueError(
                f"moduli of {sum(sizes)} bits are insecure at degree {self.n}, where 128-bit security ends at "
                f"{MAX_LOG_MODULUS[self.n]}: use smaller primes or a larger degree"
            )
        object.__setattr__(self, "primes", tuple(chosen[:-1]))
        object.__setattr__(self, "special", chosen[-1])

    @property
    def modulus(self) -> int:
        """Q, the product of the ciphertext primes."""
        return math.prod(self.primes)

    @property
    def residues(self) -> tuple[int, ...]:
        """All primes, the special one last."""
        return (*self.primes, self.special)

    @cached_property
    def lattice(self) -> _native.Lattice:
        """The native tables."""
        return _native.Lattice(self.n, list(self.primes), self.special)

    def polynomial_bytes(self, residues: int, count: int) -> int:
        """What `count` polynomials modulo each of the first `residues` primes take on the wire."""
        return sum(bitpack.packed_size(count * self.n, q.bit_length()) for q in self.residues[:residues])

    def pack(self, polynomials: Words) -> bytes:
        """Polynomials [..., residues, n] as bytes, prime by prime."""
        rows = polynomials.reshape(-1, *polynomials.shape[-2:])
        return b"".join(
            bitpack.pack(np.ascontiguousarray(rows[:, i]), q.bit_length()).tobytes()
            for i, q in enumerate(self.residues[: rows.shape[1]])
        )

    def unpack(self, data: bytes | memoryview, residues: int, count: int) -> Words:
        """The inverse of `pack`: [count, residues, n]. ValueError unless length and every coefficient are in range."""
        if len(data) != self.polynomial_bytes(residues, count):
            raise ValueError(
                f"{count} polynomials take {self.polynomial_bytes(residues, count)} bytes, not {len(data)}"
            )
        view = memoryview(data)
        out = np.empty((count, residues, self.n), dtype=np.uint64)
        for i, q in enumerate(self.residues[:residues]):
            size = bitpack.packed_size(count * self.n, q.bit_length())
            values = bitpack.unpack(view[:size], count * self.n, q.bit_length())
            if values.size and int(values.max()) >= q:
                raise ValueError("a coefficient is not below its modulus: the data is damaged")
            out[:, i] = values.reshape(count, self.n)
            view = view[size:]
        return out

    def expand(self, seed: bytes, label: str, residues: int, count: int) -> Words:
        """Uniform polynomials [count, residues, n] from a public seed: the same for everybody."""
        out = np.empty((count, residues, self.n), dtype=np.uint64)
        for i, q in enumerate(self.residues[:residues]):
            out[:, i] = Prg(seed, f"rlwe/{label}/{i}").uniform_below((count, self.n), q)
        return out


# The parameter table.
WEIGHTS = Params(4096, (50,), 50)
"""Small plaintexts (weights) times activations in rings up to 43 bits."""
SHARES = Params(4096, (36, 36), 36)
"""Plaintexts that are themselves shares, in rings up to 45 bits; and products with weights that are opened."""
WIDE = Params(8192, (50, 50, 50), 50)
"""Shares or weights in rings up to 64 bits."""


class SecretKey:
    """A discrete Gaussian secret, and what its owner does with it: encrypt, and multiply by it to decrypt."""

    def __init__(self, params: Params, coefficients: NDArray[np.int8]) -> None:
        """`coefficients`: int8 [n], small; use `SecretKey.generate` for a fresh key."""
        if coefficients.shape != (params.n,) or coefficients.dtype != np.int8 or np.abs(coefficients).max() > LARGEST:
            raise ValueError(f"a secret key is {params.n} int8 coefficients from -{LARGEST} to {LARGEST}")
        self.params = params
        self.transform: Words = np.empty(len(params.residues) * params.n, dtype=np.uint64)
        params.lattice.transform_small(np.ascontiguousarray(coefficients), self.transform)

    @classmethod
    def generate(cls, params: Params, secrets: Prg) -> "SecretKey":
        return cls(params, secrets.gaussian(params.n, DEVIATION))

    def __repr__(self) -> str:
        return f"SecretKey({self.params})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret key is not to be pickled")

    def _encrypt(self, a: Words, errors: Prg, messages: Words | None, ring_bits: int) -> Words:
        count, residues, n = a.shape
        b = np.empty_like(a)
        noise = errors.gaussian((count, n), DEVIATION).reshape(-1)
        flat = None if messages is None else messages.reshape(-1)
        self.params.lattice.encrypt(residues, self.transform, a.reshape(-1), noise, flat, ring_bits, b.reshape(-1))
        return b

    def encrypt(self, messages: Words, ring_bits: int, seed: bytes, errors: Prg) -> "Ciphertexts":
        """Encrypt polynomials uint64 [count, n], taken modulo 2^ring_bits.

        `seed`: 16 bytes that become public, never used before. `errors`: the owner's private stream.
        """
        if messages.dtype != np.uint64 or messages.ndim != 2 or messages.shape[1] != self.params.n:
            raise ValueError(f"messages are uint64 polynomials [count, {self.params.n}]")
        if not 1 <= ring_bits <= 64:
            raise ValueError(f"a ring has 1 to 64 bits, not {ring_bits}")
        a = self.params.expand(seed, "upload", len(self.params.primes), len(messages))
        b = self._encrypt(a, errors, np.ascontiguousarray(messages), ring_bits)
        return Ciphertexts(self.params, seed, b, a)

    def public_keys(self, seed: bytes, errors: Prg, max_spacing: int = 512) -> "PublicKeys":
        """The encryption key, and keys to pack results whose wanted coefficients stand up to `max_spacing` apart.

        `seed`: 16 bytes that become public, never used before.
        """
        if not 1 <= max_spacing <= self.params.n or max_spacing & (max_spacing - 1):
            raise ValueError(f"the spacing {max_spacing} is not a power of two up to {self.params.n}")
        steps = range((self.params.n // max_spacing).bit_length(), self.params.n.bit_length())
        primes, residues, n = len(self.params.primes), len(self.params.residues), self.params.n
        encryption = self._encrypt(self.params.expand(seed, "public-key", primes, 1), errors, None, 1)
        packing = np.empty((len(steps), primes, residues, n), dtype=np.uint64)
        for i, step in enumerate(steps):
            a = self.params.expand(seed, f"packing-key/{step}", residues, primes)
            noise = errors.gaussian((primes, n), DEVIATION).reshape(-1)
            self.params.lattice.packing_key(self.transform, step, a.reshape(-1), noise, packing[i].reshape(-1))
        return PublicKeys(self.params, seed, encryption[0], packing)

    def times(self, a: Words, bits: int) -> Words:
        """a s modulo 2^bits, at most 63, for polynomials uint64 [count, n] modulo 2^bits."""
        out = np.empty_like(a)
        self.params.lattice.times_secret(self.transform, a.reshape(-1), bits, out.reshape(-1))
        return out


class PublicKeys:
    """What the owner of a secret key publishes once: a public encryption key, and keys for packing results."""

    def __init__(self, params: Params, seed: bytes, encryption: Words, packing: Words) -> None:
        """`encryption`: b [L, n]. `packing`: b [steps, L, L + 1, n] of the packing's last steps."""
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a public seed has {SEED_BYTES} bytes, not {len(seed)}")
        primes, residues = len(params.primes), len(params.residues)
        self.params = params
        self.seed = seed
        self.encryption_b = np.ascontiguousarray(encryption)
        self.encryption_a = params.expand(seed, "public-key", primes, 1)[0]
        self.packing_b = packing
        self.native = _native.PackingKeys(params.lattice)
        last = params.n.bit_length() - 1
        for i, step in enumerate(range(last - len(packing) + 1, last + 1)):
            a = params.expand(seed, f"packing-key/{step}", residues, primes)
            self.native.add(step, a.reshape(-1), np.ascontiguousarray(packing[i]).reshape(-1))

    @property
    def max_spacing(self) -> int:
        """The largest distance of wanted coefficients that these keys can pack."""
        return 1 << len(self.packing_b)

    def to_bytes(self) -> bytes:
        p = self.params
        return self.seed + p.pack(self.encryption_b) + b"".join(p.pack(step) for step in self.packing_b)

    @classmethod
    def byte_size(cls, params: Params, max_spacing: int = 512) -> int:
        """The length of `to_bytes`."""
        primes, steps = len(params.primes), max_spacing.bit_length() - 1
        return SEED_BYTES + params.polynomial_bytes(primes, 1) + steps * params.polynomial_bytes(primes + 1, primes)

    @classmethod
    def from_bytes(cls, params: Params, data: bytes | memoryview, max_spacing: int = 512) -> "PublicKeys":
        """ValueError unless the length is right and every coefficient below its prime."""
        if len(data) != cls.byte_size(params, max_spacing):
            raise ValueError(f"public keys take {cls.byte_size(params, max_spacing)} bytes, not {len(data)}")
        primes, residues, steps = len(params.primes), len(params.residues), max_spacing.bit_length() - 1
        view = memoryview(data)
        seed, view = bytes(view[:SEED_BYTES]), view[SEED_BYTES:]
        size = params.polynomial_bytes(primes, 1)
        encryption, view = params.unpack(view[:size], primes, 1)[0], view[size:]
        size = params.polynomial_bytes(residues, primes)
        packing = np.empty((steps, primes, residues, params.n), dtype=np.uint64)
        for i in range(steps):
            packing[i] = params.unpack(view[i * size : (i + 1) * size], residues, primes)
        return cls(params, seed, encryption, packing)


class Ciphertexts:
    """Fresh ciphertexts from the owner of a secret key. b and a are transforms uint64 [count, L, n]."""

    def __init__(self, params: Params, seed: bytes, b: Words, a: Words) -> None:
        self.params = params
        self.seed = seed
        self.b = b
        self.a = a

    def __len__(self) -> int:
        return len(self.b)

    def to_bytes(self) -> bytes:
        """The seed, then b."""
        return self.seed + self.params.pack(self.b)

    @classmethod
    def byte_size(cls, params: Params, count: int) -> int:
        """The length of `to_bytes`."""
        return SEED_BYTES + params.polynomial_bytes(len(params.primes), count)

    @classmethod
    def from_bytes(cls, params: Params, data: bytes | memoryview, count: int) -> "Ciphertexts":
        """ValueError unless the length is right and every coefficient below its prime."""
        if len(data) != cls.byte_size(params, count):
            raise ValueError(f"{count} ciphertexts take {cls.byte_size(params, count)} bytes, not {len(data)}")
        view = memoryview(data)
        seed, primes = bytes(view[:SEED_BYTES]), len(params.primes)
        b = params.unpack(view[SEED_BYTES:], primes, count)
        return cls(params, seed, b, params.expand(seed, "upload", primes, count))
