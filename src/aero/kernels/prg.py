"""Pseudorandom streams and sampling from them.

A stream is AES-128 in counter mode (NIST SP 800-38A) from block 0 on, under the key

    HKDF-SHA-256 (RFC 5869) of the seed, no salt, info "aero/prg/v1/" + label, 16 bytes.

Every purpose has its own label, so that masks, errors and public polynomials never share a stream, and two streams from
one seed with different labels are independent. Each call begins at the next unused block of the stream; no block is
used twice. Seeds come from the operating system (`Prg.from_os`); a seed is passed in only where both parties must
expand the same one, or by a test.

Tested against the `cryptography` package; not audited.
"""

import math
import os
import threading
from collections.abc import Callable
from typing import NoReturn, Self

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from aero.kernels import gaussian
from aero.kernels.native import _native

SEED_BYTES = (16, 32)

# A permutation's stream differs from random after many blocks: by at most blocks^2 / 2^129, here 2^-41.
MAX_BLOCKS = 2**44


def derive_key(seed: bytes, label: str) -> bytes:
    """The 16-byte AES key of the stream `label` of `seed`."""
    return HKDF(hashes.SHA256(), length=16, salt=None, info=b"aero/prg/v1/" + label.encode()).derive(seed)


class Prg:
    """One stream. Not copyable, not picklable, and refused in a forked child, which would repeat its parent's stream.

    Safe to call from several threads; what each of them gets then depends on their order.
    """

    def __init__(self, seed: bytes, label: str) -> None:
        """`seed`: 16 or 32 bytes, uniform and secret. `label`: the purpose, not empty."""
        if not isinstance(seed, bytes) or len(seed) not in SEED_BYTES:
            raise ValueError("a seed is 16 or 32 bytes: use Prg.from_os(label) for a fresh one")
        if not isinstance(label, str) or not label:
            raise ValueError("name the stream's purpose with a non-empty label")
        self.label = label
        self._key = derive_key(seed, label)
        self._next_block = 0
        self._pid = os.getpid()
        self._lock = threading.Lock()

    @classmethod
    def from_os(cls, label: str) -> Self:
        """A fresh stream, seeded with 32 bytes from the operating system."""
        return cls(os.urandom(32), label)

    def __repr__(self) -> str:
        return f"Prg(label={self.label!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Prg cannot be copied or pickled, because its copy would repeat its stream: make a new one")

    def random_bytes(self, count: int) -> bytes:
        """`count` bytes of the stream."""
        return self._draw(count, np.uint8, _native.sample_bytes).tobytes()

    def uniform(self, shape: int | tuple[int, ...], bits: int) -> np.ndarray:
        """Uniform in [0, 2^bits), 1 <= bits <= 64: uint64 of `shape`."""
        if not 1 <= bits <= 64:
            raise ValueError(f"a ring has 1 to 64 bits, not {bits}")
        return self._draw(shape, np.uint64, _native.sample_ring, int(bits))

    def uniform_below(self, shape: int | tuple[int, ...], q: int) -> np.ndarray:
        """Uniform in [0, q), 1 <= q <= 2^62, by rejection: uint64 of `shape`."""
        if not 1 <= q <= 2**62:
            raise ValueError(f"the bound must be 1 to 2^62, not {q}")
        return self._draw(shape, np.uint64, _native.sample_below, int(q))

    def ternary(self, shape: int | tuple[int, ...]) -> np.ndarray:
        """Uniform in {-1, 0, 1}, by rejection: int8 of `shape`."""
        return self._draw(shape, np.int8, _native.sample_ternary)

    def noise(self, shape: int | tuple[int, ...], eta: int = 21) -> np.ndarray:
        """Centred binomial: the difference of two sums of `eta` fair bits, 1 <= eta <= 32. int8 of `shape`.

        Its standard deviation is sqrt(eta / 2), 3.24 for the default, and no value exceeds eta.
        """
        if not 1 <= eta <= 32:
            raise ValueError(f"eta must be 1 to 32, not {eta}")
        return self._draw(shape, np.int8, _native.sample_binomial, int(eta))

    def gaussian(self, shape: int | tuple[int, ...], deviation: float) -> np.ndarray:
        """The discrete Gaussian over the integers, by `kernels.gaussian`, deviation 1 to 12: int8 of `shape`."""
        return self._draw(shape, np.int8, _native.sample_table, gaussian.table(deviation))

    def normal(self, shape: int | tuple[int, ...], deviation: float) -> np.ndarray:
        """Normal numbers of a standard deviation of 2^6 or more, rounded to integers: int64 of `shape`.

        Two from two words (Box and Muller 1958), in double precision. It ends at 9.4 deviations, beyond which a sample
        would lie with a probability of 2^-64; before, it is off by 2^-49 deviations on average at most. Rounding
        changes the density by less than 1 / (24 deviation^2) of itself where it matters. No branch and no table of ours
        depends on a sample; what NumPy's logarithm, sine and cosine do inside is theirs.
        """
        if not 64 <= deviation < 2**50:
            raise ValueError(f"normal numbers of deviation {deviation} are not rounded to integers: give 64 to 2^50")
        dimensions = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
        count = math.prod(dimensions)
        return gaussian.normal_from_words(self.uniform(count + count % 2, 64), deviation)[:count].reshape(dimensions)

    def bits(self, shape: int | tuple[int, ...]) -> np.ndarray:
        """Uniform in {0, 1}: uint8 of `shape`."""
        return self._draw(shape, np.uint8, _native.sample_bits)

    def _draw(
        self, shape: int | tuple[int, ...], dtype: type[np.generic], sample: Callable[..., int], *parameters: object
    ) -> np.ndarray:
        dimensions = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
        if any(size < 0 for size in dimensions):
            raise ValueError(f"a shape has no negative sizes: {dimensions}")
        if os.getpid() != self._pid:
            raise RuntimeError("this Prg was made before a fork: make a new one with Prg.from_os in the child process")
        with self._lock:
            # At most 8 bytes to a result, and rejection, which accepts at least half, takes about twice that.
            if self._next_block + 2 * math.prod(dimensions) > MAX_BLOCKS:
                raise RuntimeError("this Prg has used up its stream: make a new one with Prg.from_os")
            out = np.empty(math.prod(dimensions), dtype)
            self._next_block = sample(self._key, self._next_block, *parameters, out)
        return out.reshape(dimensions)
