"""Types of the native module (csrc/bind*.cpp). Callers use the modules beside this file, which check arguments."""

from collections.abc import Sequence
from typing import Any

from numpy import int8, int64, uint8, uint32, uint64
from numpy.typing import NDArray

# Dispatch (bind.cpp)
def available_levels() -> list[str]: ...
def level() -> str: ...
def set_level(name: str) -> None: ...
def threads() -> int: ...
def set_threads(count: int) -> None: ...

# Streams, hash, bit transposition (bind_symmetric.cpp). The samplers return the first block not looked at.
def sample_bytes(key: bytes, first_block: int, out: NDArray[uint8]) -> int: ...
def sample_ring(key: bytes, first_block: int, bits: int, out: NDArray[uint64]) -> int: ...
def sample_below(key: bytes, first_block: int, q: int, out: NDArray[uint64]) -> int: ...
def sample_ternary(key: bytes, first_block: int, out: NDArray[int8]) -> int: ...
def sample_binomial(key: bytes, first_block: int, eta: int, out: NDArray[int8]) -> int: ...
def sample_table(key: bytes, first_block: int, thresholds: NDArray[uint64], out: NDArray[int8]) -> int: ...
def sample_bits(key: bytes, first_block: int, out: NDArray[uint8]) -> int: ...
def aes_hash(key: bytes, blocks: NDArray[uint8], tweaks: NDArray[uint64], out: NDArray[uint8]) -> None: ...
def transpose_128(rows: NDArray[uint8], out: NDArray[uint8]) -> None: ...

# Bit packing, ring products (bind_ring.cpp). The packers return whether the input was well formed.
def bit_pack(values: NDArray[uint64], width: int, out: NDArray[uint8]) -> bool: ...
def bit_unpack(bytes: NDArray[uint8], width: int, out: NDArray[uint64]) -> bool: ...
def ring_matmul(a: NDArray[uint64], b: NDArray[uint64], out: NDArray[uint64]) -> None: ...

# Tables of small oblivious transfers (bind_leaf_ot.cpp)
def leaf_tables(
    blocks: NDArray[uint8],
    digits: NDArray[uint8],
    corrections: NDArray[uint8],
    masks: NDArray[uint8],
    width: int,
    size: int,
    out: NDArray[uint64],
) -> None: ...
def leaf_choices(
    bits: NDArray[uint8],
    blocks: NDArray[uint8],
    digits: NDArray[uint8],
    width: int,
    size: int,
    corrections: NDArray[uint8],
    pads: NDArray[uint8],
) -> None: ...
def leaf_open(
    tables: NDArray[uint64],
    digits: NDArray[uint8],
    corrections: NDArray[uint8],
    pads: NDArray[uint8],
    size: int,
    out: NDArray[uint8],
) -> None: ...

# Oblivious transfer (bind_ot.cpp)
def leaf_sums(leaves: NDArray[uint8], k: int, first_block: int, sums: NDArray[uint8], rows: NDArray[uint8]) -> None: ...
def sender_pads(
    session: bytes, domain: int, first: int, delta: NDArray[uint8], k: NDArray[uint8], out: NDArray[uint8]
) -> None: ...
def receiver_pads(
    session: bytes, domain: int, first: int, m: NDArray[uint8], bits: NDArray[uint8], out: NDArray[uint8]
) -> None: ...
def gf128_dot(x: NDArray[uint8], y: NDArray[uint8], out: NDArray[uint8], picked: NDArray[uint8]) -> None: ...
def grow_trees(
    session: bytes,
    domain: int,
    first_tree: int,
    depth: int,
    delta: NDArray[uint8],
    roots: NDArray[uint8],
    sums: NDArray[uint8] | None,
    leaves: NDArray[uint8] | None,
    code_key: bytes | None,
    table: NDArray[uint8] | None,
) -> None: ...
def grow_punctured_trees(
    session: bytes,
    domain: int,
    first_tree: int,
    bits: NDArray[uint8],
    sums: NDArray[uint8],
    leaves: NDArray[uint8],
    code_key: bytes | None,
    table: NDArray[uint8] | None,
) -> None: ...

# Powers in prime fields (bind_field.cpp)
def field_power(
    exponents: NDArray[uint64], fraction_bits: int, mantissa_bits: int, p: int, out: NDArray[uint64]
) -> None: ...

# Lattices (bind_lattice.cpp). Arrays are flat where one axis is said.
MAX_INNER: int

def is_prime(n: int) -> bool: ...

class Ntt:
    def __init__(self, n: int, q: int) -> None: ...
    @property
    def psi(self) -> int: ...
    def exponents(self, out: NDArray[uint32]) -> None: ...
    def forward(self, a: NDArray[uint64]) -> None: ...
    def inverse(self, a: NDArray[uint64]) -> None: ...
    def forward_front(self, coefficients: NDArray[uint64], out: NDArray[uint64]) -> None: ...

class Lattice:
    def __init__(self, n: int, primes: Sequence[int], special: int) -> None: ...
    @property
    def node_size(self) -> int: ...
    def transform_small(self, small: NDArray[int8], out: NDArray[uint64]) -> None: ...
    def encrypt(
        self,
        residues: int,
        secret: NDArray[uint64],
        a: NDArray[uint64],
        noise: NDArray[int8],
        message: NDArray[uint64] | None,
        ring_bits: int,
        b: NDArray[uint64],
    ) -> None: ...
    def packing_key(
        self, secret: NDArray[uint64], log_galois: int, a: NDArray[uint64], noise: NDArray[int8], b: NDArray[uint64]
    ) -> None: ...
    def arrange(
        self,
        row_tiles: int,
        inner: int,
        b: NDArray[uint64],
        a: NDArray[uint64],
        addend: NDArray[uint64] | None,
        ring_bits: int,
        out: NDArray[uint64],
    ) -> None: ...
    def prepare(
        self,
        columns: int,
        inner: int,
        front: int,
        d1: int,
        d2: int,
        polynomials: NDArray[int64] | None,
        matrix: list[NDArray[Any]] | None,
        out: NDArray[uint64],
    ) -> None: ...
    def products(
        self,
        keys: PackingKeys,
        batch: int,
        row_tiles: int,
        inner: int,
        columns: int,
        merge: int,
        front: int,
        d1: int,
        d2: int,
        x: NDArray[uint64],
        polynomials: NDArray[int64] | None,
        matrix: list[NDArray[Any]] | None,
        prepared: NDArray[uint64] | None,
        out: NDArray[uint64],
    ) -> None: ...
    def respond(
        self,
        packed: NDArray[uint64],
        public_b: NDArray[uint64],
        public_a: NDArray[uint64],
        u: NDArray[int8],
        e_b: NDArray[int8],
        e_a: NDArray[int8],
        bits: int,
        b: NDArray[uint64],
        a: NDArray[uint64],
    ) -> None: ...
    def times_secret(self, secret: NDArray[uint64], a: NDArray[uint64], bits: int, out: NDArray[uint64]) -> None: ...

class PackingKeys:
    def __init__(self, lattice: Lattice) -> None: ...
    def add(self, log_galois: int, a: NDArray[uint64], b: NDArray[uint64]) -> None: ...

# Slots (bind_slots.cpp). Arrays are flat.
def field_multiply(p: int, x: NDArray[uint64], y: NDArray[uint64], out: NDArray[uint64]) -> None: ...

class SlotRing:
    def __init__(self, n: int, p: int, primes: Sequence[int]) -> None: ...
    def secret(self, small: NDArray[int8], out: NDArray[uint64]) -> None: ...
    def encrypt(
        self,
        secret: NDArray[uint64],
        a: NDArray[uint64],
        noise: NDArray[int8],
        slots: NDArray[uint64] | None,
        b: NDArray[uint64],
    ) -> None: ...
    def respond(
        self,
        b: NDArray[uint64],
        a: NDArray[uint64],
        slots: NDArray[uint64],
        total: bool,
        public_b: NDArray[uint64],
        public_a: NDArray[uint64],
        u: NDArray[int8],
        e: NDArray[int8],
        response: NDArray[uint64],
        share: NDArray[uint64],
    ) -> None: ...
    def decrypt(self, secret: NDArray[uint64], response: NDArray[uint64], share: NDArray[uint64]) -> None: ...
