"""Matrix products under RLWE: one party's encrypted matrix times the other party's plaintext matrix, into shares.

    owner (has the secret key, X [batch, T, K])          evaluator (has W [batch, K, M])
    upload = plan.encrypt(secret, X, ...)           -->
                                                         x = plan.load(upload, addend)      X + addend from here on
                                                         packed = plan.evaluate(keys, x, Columns.of(W))
                                                    <--  response, fine = plan.respond(keys, packed, ...)
    fine = plan.decrypt(secret, response)
    share = plan.rounded(fine)                           share = plan.rounded(fine)

where `respond` and `decrypt` give each party its share at a finer scale, with guard_a bits more. Noise of a party's own
is added there, before it is rounded (docs/security/errors.md). The two shares add up to
X W 2^(output_bits - ring_bits), rounded, modulo 2^output_bits, up to a small error that `lattice_noise` bounds; with
output_bits = ring_bits that is X W modulo 2^ring_bits. Dropping low bits this way costs nothing and makes the response
smaller.

Encoding (Cheetah, Huang et al. 2022; packing as in BumbleBee, Lu et al. 2023). X is cut into tiles d0 x d1 and
W into tiles d1 x d2 with d0 d1 d2 = n:

    X[r, c]  at coefficient  r d1 d2 - c    (below zero: its negative at n + that, as X^n = -1)
    W[c, m]  at coefficient  m d1 + c       so only the first d1 d2 coefficients are not zero
    (X W)[r, m]  then stands at coefficient r d1 d2 + m d1 of the product, and junk between.

`merge` products (a power of two up to d1) are packed into one ciphertext by automorphisms: the wanted coefficients
of the j-th move up by d1/merge times the bits of j in reverse order.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aero.kernels import bitpack
from aero.kernels.native import _native
from aero.kernels.prg import Prg
from aero.kernels.rlwe import DEVIATION, Ciphertexts, Params, PublicKeys, SecretKey, Words

MAX_INNER_TILES: int = _native.MAX_INNER  # sums of more products would not fit the accumulators
MAX_GUARD = 20
PART_BYTES = (2, 3, 4, 8)
"""Of a number of a matrix."""
MIN_FRONT = 64  # coefficients of a plaintext polynomial that the transform takes at least


@dataclass(frozen=True)
class Columns:
    """W [K, M] by its columns: the rows of the parts [M_i, K], one part after the other. Each row in one piece, of
    integers of 2, 4 or 8 bytes, or of `packed_integers`. Every plan for [K, M] multiplies by it, however that cuts it
    into tiles."""

    parts: tuple[NDArray[Any], ...]

    def __post_init__(self) -> None:
        if len({part.shape[1] for part in self.parts}) != 1 or not all(map(_is_part, self.parts)):
            raise ValueError("the parts of a matrix are integers, of as many rows of W each")

    @classmethod
    def of(cls, w: NDArray[np.int64]) -> "Columns":
        """W, int64 [K, M], in as few bytes as hold it."""
        return cls((packed_integers(w.T, bytes_of(w.min(), w.max())),))

    @property
    def shape(self) -> tuple[int, int]:
        """K and M."""
        return self.parts[0].shape[1], sum(len(part) for part in self.parts)


def bytes_for(bits: int) -> int:
    """Bytes of a number in a part of `Columns` that hold so many bits, the sign included."""
    return next(size for size in PART_BYTES if bits <= 8 * size)


def bytes_of(low: int, high: int) -> int:
    """The same that hold the numbers from `low` to `high`."""
    return bytes_for(1 + max(~int(low), int(high), 0).bit_length())


def empty_part(shape: tuple[int, int], size: int) -> NDArray[Any]:
    """Zeros, of `size` bytes each, for `packed_integers`."""
    return np.zeros((*shape, 3), np.uint8) if size == 3 else np.zeros(shape, f"<i{size}")


def packed_integers(w: NDArray[np.int64], size: int) -> NDArray[Any]:
    """W as a part of `Columns` of `size` bytes a number: of its shape, or where they are 3, uint8 [..., 3]."""
    if size != 3:
        return np.ascontiguousarray(w, dtype=f"<i{size}")
    return np.ascontiguousarray(np.ascontiguousarray(w, dtype="<i4").view(np.uint8).reshape(*w.shape, 4)[..., :3])


def unpacked_integers(part: NDArray[Any]) -> NDArray[Any]:
    """The numbers of a part, or of some of its rows."""
    if part.dtype.kind == "i":
        return part
    wide = np.zeros((*part.shape[:-1], 4), np.uint8)
    wide[..., 1:] = part
    return wide.view("<i4")[..., 0] >> 8


def _is_part(part: NDArray[Any]) -> bool:
    return part.dtype.kind == "i" or (part.dtype == np.uint8 and part.shape[2:] == (3,))


@dataclass(frozen=True)
class MatmulPlan:
    """A product [batch, T, K] x [batch, K, M] and how it is cut. `lattice_cost.plan_matmul` chooses the tile."""

    params: Params
    rows: int
    """T."""
    inner: int
    """K."""
    columns: int
    """M."""
    ring_bits: int
    """X counts modulo 2^ring_bits, at most 64."""
    d0: int
    d1: int
    d2: int
    merge: int
    """Products packed into one ciphertext: 1 (no packing) to d1."""
    output_bits: int
    """The shares of the result count modulo 2^output_bits: ring_bits, or less to drop low bits. At most 54."""
    batch: int = 1
    digits: int = 1
    """W is split into that many digits, and X uploaded as often, so that large W add less noise."""
    guard_a: int = 9
    """The response's a counts modulo 2^(output_bits + guard_a): rounding it adds about n^(1/2) / 2^guard_a."""
    guard_b: int = 2
    """The response's b is sent with output_bits + guard_b bits."""

    def __post_init__(self) -> None:
        n = self.params.n
        sizes = (self.rows, self.inner, self.columns, self.batch, self.digits)
        if min(sizes) < 1:
            raise ValueError(f"an empty product: rows, inner, columns, batch, digits are {sizes}")
        tile = (self.d0, self.d1, self.d2)
        if min(tile) < 1 or math.prod(tile) != n or any(d & (d - 1) for d in tile):
            raise ValueError(f"the tile {tile} is not three powers of two with product {n}")
        if not 1 <= self.merge <= self.d1 or self.merge & (self.merge - 1):
            raise ValueError(f"merge is a power of two up to d1 = {self.d1}, not {self.merge}")
        if not 1 <= self.output_bits <= self.ring_bits <= 64 or not self.output_bits <= 54:
            raise ValueError(f"{self.ring_bits} ring bits to {self.output_bits}: at most 64, and the output at most 54")
        if not 1 <= self.guard_b <= self.guard_a <= min(MAX_GUARD, 63 - self.output_bits):
            raise ValueError(
                f"guard bits {self.guard_a}, {self.guard_b}: 1 to {MAX_GUARD}, guard_b at most guard_a, and the output "
                "with guard_a at most 63 bits"
            )
        if not 1 <= self.digits <= self.ring_bits:
            raise ValueError("digits are at most ring_bits")
        if self.inner_tiles > MAX_INNER_TILES:
            raise ValueError(f"{self.inner_tiles} inner tiles, and at most {MAX_INNER_TILES} are possible: raise d1")

    @property
    def row_tiles(self) -> int:
        return -(-self.rows // self.d0)

    @property
    def inner_tiles(self) -> int:
        """Tiles along K, those of all digits."""
        return -(-self.inner // self.d1) * self.digits

    @property
    def column_tiles(self) -> int:
        """Tiles along M."""
        return -(-self.columns // self.d2)

    @property
    def front(self) -> int:
        return max(self.d1 * self.d2, MIN_FRONT)

    @property
    def uploads(self) -> int:
        """Ciphertexts from the owner."""
        return self.batch * self.row_tiles * self.inner_tiles

    @property
    def packed(self) -> int:
        """Ciphertexts back."""
        if self.column_tiles >= self.merge:
            return self.batch * self.row_tiles * -(-self.column_tiles // self.merge)
        return -(-self.batch * self.row_tiles * self.column_tiles // self.merge)

    @property
    def response_bits(self) -> tuple[int, int]:
        """Bits of a coefficient of the response's b, and of its a."""
        return self.output_bits + self.guard_b, self.output_bits + self.guard_a

    @property
    def digit_bits(self) -> int:
        return -(-self.ring_bits // self.digits)

    @property
    def upload_bytes(self) -> int:
        return Ciphertexts.byte_size(self.params, self.uploads)

    @property
    def response_bytes(self) -> int:
        b_bits, a_bits = self.response_bits
        wanted = self.batch * self.rows * self.columns
        return bitpack.packed_size(wanted, b_bits) + bitpack.packed_size(self.packed * self.params.n, a_bits)

    # The owner of the secret key

    def encrypt(self, secret: SecretKey, x: Words, seed: bytes, errors: Prg) -> Ciphertexts:
        """X: uint64 [batch, T, K], or [T, K] for a batch of one, taken modulo 2^ring_bits.

        `seed`: 16 bytes that become public, never used before. `errors`: the owner's private stream.
        """
        if secret.params != self.params:
            raise ValueError("the secret key has other parameters than the plan")
        return secret.encrypt(self._messages(x), self.ring_bits, seed, errors)

    def decrypt(self, secret: SecretKey, response: "Response") -> Words:
        """The owner's share of the result in units of 2^-guard_a steps: uint64 [batch, T, M], whose lowest
        output_bits + guard_a bits count."""
        b_bits, a_bits = self.response_bits
        phase = response.b << np.uint64(a_bits - b_bits)
        phase += secret.times(response.a, a_bits).reshape(-1)[self._where()]
        return phase

    # The evaluator

    def load(self, uploads: Ciphertexts, addend: Words | None = None) -> Words:
        """Ciphertexts in the order in which `evaluate` reads them: uint64, flat.

        `addend`: the evaluator's own share of X, of X's shape; the product is then that of X + addend.
        """
        if len(uploads) != self.uploads or uploads.params != self.params:
            raise ValueError(f"this product takes {self.uploads} ciphertexts of its parameters, not {len(uploads)}")
        each = self.row_tiles * self.inner_tiles
        messages = None if addend is None else self._messages(addend).reshape(self.batch, -1)
        out = np.empty((self.batch, 2 * each * len(self.params.primes) * self.params.n), dtype=np.uint64)
        for i in range(self.batch):
            b, a = (part[i * each : (i + 1) * each].reshape(-1) for part in (uploads.b, uploads.a))
            own = None if messages is None else messages[i]
            self.params.lattice.arrange(self.row_tiles, self.inner_tiles, b, a, own, self.ring_bits, out[i])
        return out.reshape(-1)

    def encode_weights(self, w: NDArray[np.int64], *, joined: int = 1) -> NDArray[np.int64]:
        """W's tiles as polynomials [batch, column tiles, inner tiles, front]. W: int64 [batch, K, M] or [K, M]; or its
        `joined` blocks along the diagonal, [batch joined, K / joined, M / joined], where all others are zero.

        With one digit, W is taken as it is: small numbers of either sign. With more, it is taken modulo 2^ring_bits.
        """
        if joined < 1 or self.inner % joined or self.columns % joined:
            raise ValueError(f"{self.inner} x {self.columns} weights do not have {joined} blocks along the diagonal")
        rows, columns = self.inner // joined, self.columns // joined
        w = _checked(w, np.dtype(np.int64), (self.batch * joined, rows, columns))
        tiles = -(-self.inner // self.d1)
        out = np.zeros((self.batch, self.column_tiles, self.digits, tiles, self.front), dtype=np.int64)
        tiled = out[..., : self.d1 * self.d2].reshape(*out.shape[:4], self.d2, self.d1)
        for digit, part in enumerate(self.digits_of(w)):
            for i in range(joined):
                for tile, c, of_rows in _pieces(i * rows, rows, self.d1):
                    for column_tile, m, of_columns in _pieces(i * columns, columns, self.d2):
                        block = part[i::joined, of_rows, of_columns]
                        tiled[:, column_tile, digit, tile, m, c] = block.transpose(0, 2, 1)
        return out.reshape(self.batch, self.column_tiles, self.inner_tiles, self.front)

    def digits_of(self, w: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The parts that W is multiplied in: itself, with one digit."""
        return _balanced_digits(w, self.ring_bits, self.digit_bits, self.digits)

    def prepare_weights(self, weights: NDArray[np.int64] | Columns) -> Words:
        """Transforms of encoded weights, or of a matrix by its columns, to use them many times: n numbers for each tile
        and prime. uint64, flat."""
        out = np.empty((self.batch, self.prepared_size // self.batch), dtype=np.uint64)
        tiles = self.column_tiles, self.inner_tiles, self.front, self.d1, self.d2
        for i in range(self.batch):
            polynomials = None if isinstance(weights, Columns) else np.ascontiguousarray(weights[i]).reshape(-1)
            self.params.lattice.prepare(*tiles, polynomials, self._matrix(weights), out[i])
        return out.reshape(-1)

    @property
    def prepared_size(self) -> int:
        """How many words `prepare_weights` gives."""
        tiles = -(-self.column_tiles // 4) * 4 * self.inner_tiles
        return self.batch * len(self.params.primes) * tiles * self.params.n

    def evaluate(self, keys: PublicKeys, x: Words, weights: NDArray[np.int64] | Words | Columns) -> Words:
        """The packed products, in the form that `respond` takes: they must not be sent as they are.

        `weights`: what `encode_weights` (int64) or `prepare_weights` (uint64) gave; or a matrix by its columns.
        """
        if keys.params != self.params:
            raise ValueError("the public keys have other parameters than the plan")
        polynomials: NDArray[np.int64] | None = None
        prepared: Words | None = None
        if not isinstance(weights, Columns):
            if weights.dtype not in (np.int64, np.uint64):
                raise ValueError(f"weights of type {weights.dtype}: encode them with encode_weights")
            if weights.dtype == np.int64:
                polynomials = weights.reshape(-1).view(np.int64)
            else:
                prepared = weights.reshape(-1).view(np.uint64)
        if self.merge > 1 and keys.max_spacing < self.d1:
            raise ValueError(f"the public keys pack a spacing of {keys.max_spacing} at most, and d1 is {self.d1}")
        out = np.empty(self.packed * self.params.lattice.node_size, dtype=np.uint64)
        self.params.lattice.products(
            keys.native,
            self.batch,
            self.row_tiles,
            self.inner_tiles,
            self.column_tiles,
            self.merge,
            self.front,
            self.d1,
            self.d2,
            x,
            polynomials,
            self._matrix(weights),
            prepared,
            out,
        )
        return out

    def respond(self, keys: PublicKeys, packed: Words, errors: Prg, masks: Prg) -> tuple["Response", Words]:
        """The response to send, and the evaluator's share of the result, as `decrypt` gives the owner's.

        Adds a fresh public-key encryption of zero to every packed ciphertext, without which a would be a known
        multiple of the weights; switches it to the modulus 2^(output_bits + guard_a); and subtracts a mask uniform
        modulo that from every coefficient of b that is sent. `packed` is used up.
        """
        n = self.params.n
        b_bits, a_bits = self.response_bits
        b, a = np.empty((self.packed, n), dtype=np.uint64), np.empty((self.packed, n), dtype=np.uint64)
        u, e_b, e_a = (errors.gaussian((self.packed, n), DEVIATION).reshape(-1) for _ in range(3))
        public = keys.encryption_b.reshape(-1), keys.encryption_a.reshape(-1)
        self.params.lattice.respond(packed, *public, u, e_b, e_a, a_bits, b.reshape(-1), a.reshape(-1))
        mask = masks.uniform((self.batch, self.rows, self.columns), a_bits)
        masked = b.reshape(-1)[self._where()] - mask
        return Response(_round_shift(masked, a_bits, b_bits), a), mask

    # Both

    def rounded(self, fine: Words, errors: Prg | None = None, deviation: float = 0.0) -> Words:
        """The share of the result, uint64 [batch, T, M] below 2^output_bits, from what `decrypt` or `respond` gave, or
        from a sum of such.

        `deviation`: of normal noise that is added before, in steps of the result's last place, drawn from `errors`, a
        private stream of this party. After rounding it would be too late: what is added then hides a step, and not on
        which side of a boundary the number was.
        """
        if deviation:
            if errors is None:
                raise ValueError("noise is drawn from a private stream: give one")
            fine = fine + errors.normal(fine.shape, deviation * 2**self.guard_a).view(np.uint64)
        return _round_shift(fine, self.response_bits[1], self.output_bits)

    # Encoding

    def _matrix(self, weights: NDArray[np.int64] | Words | Columns) -> list[NDArray[Any]] | None:
        if not isinstance(weights, Columns):
            return None
        if self.batch > 1 or self.digits > 1 or weights.shape != (self.inner, self.columns):
            raise ValueError(
                f"a matrix {list(weights.shape)} for {self.batch} products with [{self.inner}, {self.columns}] in "
                f"{self.digits} digits: encode it with encode_weights"
            )
        return list(weights.parts)

    def _messages(self, x: Words) -> Words:
        """X's tiles as polynomials [batch * row tiles * inner tiles, n]."""
        x = _checked(x, np.dtype(np.uint64), (self.batch, self.rows, self.inner))
        tiles = -(-self.inner // self.d1)
        padded = np.zeros((self.batch, self.row_tiles * self.d0, tiles * self.d1), dtype=np.uint64)
        padded[:, : self.rows, : self.inner] = x
        tiled = padded.reshape(self.batch, self.row_tiles, self.d0, tiles, self.d1).transpose(0, 1, 3, 2, 4)
        rows = np.zeros((*tiled.shape[:4], self.d1 * self.d2), dtype=np.uint64)  # ..., r, coefficients r d1 d2 + ...
        rows[..., 0] = tiled[..., 0]
        if self.d1 > 1:
            before = slice(1 - self.d1, None)  # X[r, c] stands c before the coefficient of X[r, 0]
            rows[..., :-1, before] = tiled[..., 1:, :0:-1]
            rows[..., -1, before] = np.uint64(0) - tiled[..., 0, :0:-1]
        shifts = np.arange(self.digits, dtype=np.uint64) * np.uint64(self.digit_bits)
        digits = rows.reshape(self.batch, self.row_tiles, 1, tiles, -1) << shifts.reshape(-1, 1, 1)
        return digits.reshape(self.uploads, self.params.n)

    def _where(self) -> NDArray[np.int64]:
        """Where each result stands among the packed ciphertexts' coefficients: [batch, T, M]. Made anew each time: the
        plans of a long session are many."""
        row, tile = np.ogrid[: self.batch * self.row_tiles, : self.column_tiles]
        if self.column_tiles >= self.merge:
            groups = -(-self.column_tiles // self.merge)
            packed, slot = row * groups + tile // self.merge, tile % self.merge
        else:
            flat = row * self.column_tiles + tile
            packed, slot = flat // self.merge, flat % self.merge
        of_tile = packed * self.params.n + _reversed_bits(self.merge)[slot] * (self.d1 // self.merge)
        member, t, column = np.ogrid[: self.batch, : self.rows, : self.columns]
        within = t % self.d0 * (self.d1 * self.d2) + column % self.d2 * self.d1
        return of_tile[member * self.row_tiles + t // self.d0, column // self.d2] + within


@dataclass(frozen=True)
class Response:
    """What the evaluator sends back: b uint64 [batch, T, M] and a uint64 [packed, n], below `plan.response_bits`."""

    b: Words
    a: Words

    def to_bytes(self, plan: MatmulPlan) -> bytes:
        b_bits, a_bits = plan.response_bits
        return bitpack.pack(self.b, b_bits).tobytes() + bitpack.pack(self.a, a_bits).tobytes()

    @classmethod
    def from_bytes(cls, plan: MatmulPlan, data: bytes | memoryview) -> "Response":
        """ValueError unless the length is `plan.response_bytes`. Every value of these bits is in range."""
        if len(data) != plan.response_bytes:
            raise ValueError(f"the response to this product takes {plan.response_bytes} bytes, not {len(data)}")
        b_bits, a_bits = plan.response_bits
        shape = (plan.batch, plan.rows, plan.columns)
        size = bitpack.packed_size(math.prod(shape), b_bits)
        view = memoryview(data)
        b = bitpack.unpack(view[:size], math.prod(shape), b_bits).reshape(shape)
        a = bitpack.unpack(view[size:], plan.packed * plan.params.n, a_bits)
        return cls(b, a.reshape(plan.packed, plan.params.n))


def _checked(values: np.ndarray, dtype: np.dtype, shape: tuple[int, int, int]) -> np.ndarray:
    if not isinstance(values, np.ndarray) or values.dtype != dtype:
        raise ValueError(f"expected a {dtype} array")
    if shape[0] == 1 and values.ndim == 2:
        values = values[None]
    if values.shape != shape:
        raise ValueError(f"expected an array of shape {shape}, not {values.shape}")
    return values


def _pieces(start: int, count: int, size: int) -> Iterator[tuple[int, slice, slice]]:
    """Numbers from `start` on, cut at multiples of `size`: which multiple, where in it, and which of them."""
    at = start
    while at < start + count:
        stop = min(start + count, (at // size + 1) * size)
        within = at // size * size
        yield at // size, slice(at - within, stop - within), slice(at - start, stop - start)
        at = stop


def _round_shift(values: Words, bits: int, to_bits: int) -> Words:
    """Values modulo 2^bits, divided by 2^(bits - to_bits) and rounded, modulo 2^to_bits."""
    shift = np.uint64(bits - to_bits)
    half = np.uint64((1 << (bits - to_bits)) >> 1)
    return (values + half & np.uint64((1 << bits) - 1)) >> shift


def _reversed_bits(count: int) -> NDArray[np.int64]:
    """The numbers below a power of two, each with its bits in reverse order."""
    out = np.zeros(1, dtype=np.int64)
    while len(out) < count:
        out = np.concatenate([2 * out, 2 * out + 1])
    return out


def _balanced_digits(w: NDArray[np.int64], ring_bits: int, digit_bits: int, digits: int) -> list[NDArray[np.int64]]:
    """Digits between -2^(digit_bits - 1) and 2^(digit_bits - 1) whose sum by powers of 2^digit_bits is w."""
    if digits == 1:
        return [w]
    rest, parts = w, []
    for bits in [digit_bits] * (digits - 1) + [ring_bits - digit_bits * (digits - 1)]:
        up = np.int64(64 - bits)
        digit = rest << up >> up
        parts.append(digit)
        rest = (rest - digit) >> np.int64(bits)
    return parts
