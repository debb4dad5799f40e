"""What an RLWE matrix product costs, and the choice of its tiles."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aero.kernels import bitpack
from aero.kernels.lattice_matmul import MAX_INNER_TILES, MIN_FRONT, MatmulPlan
from aero.kernels.rlwe import Params

Counts = int | NDArray[np.int64]

DEFAULT_RATE = 25e6  # bytes per second: 200 Mbit/s, between LAN and WAN


class NoTiling(ValueError):
    """No tiling of a product fits its parameters, or suits who asked."""


@dataclass(frozen=True)
class MatmulCost:
    """Exact counts, and seconds that weigh them roughly, one core with AVX-512: to compare plans with each other."""

    upload_bytes: int
    response_bytes: int
    transforms: int
    """Transforms of plaintext polynomials, by prime."""
    multiplications: int
    """Products of residues with plaintext ones, both ciphertext components and all primes."""
    key_switches: int
    """Steps of the packing."""
    compute_seconds: float
    network_seconds: float

    @property
    def seconds(self) -> float:
        return self.compute_seconds + self.network_seconds


def cost_of(plan: MatmulPlan, *, prepared: bool = False, bytes_per_second: float = DEFAULT_RATE) -> MatmulCost:
    """The cost of one product. `prepared`: with weights transformed beforehand."""
    primes = len(plan.params.primes)
    polynomials = plan.batch * plan.column_tiles * plan.inner_tiles * primes
    switches = plan.batch * plan.row_tiles * plan.column_tiles - plan.packed  # each joins two ciphertexts
    compute = _compute_seconds(
        plan.params, prepared, polynomials, plan.row_tiles, switches, plan.front, plan.uploads, plan.packed
    )
    return MatmulCost(
        upload_bytes=plan.upload_bytes,
        response_bytes=plan.response_bytes,
        transforms=0 if prepared else polynomials,
        multiplications=2 * polynomials * plan.row_tiles * plan.params.n,
        key_switches=switches,
        compute_seconds=float(compute),
        network_seconds=(plan.upload_bytes + plan.response_bytes) / bytes_per_second,
    )


def _compute_seconds(
    params: Params,
    prepared: bool,
    polynomials: Counts,
    row_tiles: Counts,
    switches: Counts,
    front: Counts,
    uploads: Counts,
    packed: Counts,
) -> Any:
    """Roughly; of one product, or of each of several tilings."""
    n, primes = params.n, len(params.primes)
    far = np.sqrt(np.maximum(front / 1024, 1))  # what does not stay in the nearest cache takes longer, as measured
    butterflies = 0.5 * n * (0 if prepared else polynomials) * np.log2(front) * far
    butterflies = butterflies + 0.5 * n * switches * (primes + 1) ** 2 * math.log2(n)
    read = 8 * n * polynomials if prepared else 0
    ends = (0.6 * uploads + packed) * primes * n  # encryption, responses and decryption
    compute = 0.4e-9 * butterflies + 0.2e-9 * (2 * polynomials * row_tiles * n)
    compute = compute + 3.5e-9 * switches * primes * (primes + 1) * n
    return compute + (0.15e-9 * read + 120e-9 * ends)


def plan_matmul(
    params: Params,
    rows: int,
    inner: int,
    columns: int,
    ring_bits: int,
    *,
    output_bits: int | None = None,
    batch: int = 1,
    digits: int = 1,
    guard_a: int = 9,
    prepared: bool = False,
    max_spacing: int = 512,
    bytes_per_second: float = DEFAULT_RATE,
    suits: Callable[[MatmulPlan], bool] = lambda _: True,
) -> MatmulPlan:
    """The cheapest tiling of a product by `cost_of` at that network rate; both parties find the same tiling.

    `prepared`: weights will be used in their prepared form; d0 is then 1 to keep that form small. `max_spacing`: what
    the public keys can pack. `suits`: whether a tiling may be taken. NoTiling where nothing fits; ValueError for a
    product that no MatmulPlan can be of.
    """
    output_bits = ring_bits if output_bits is None else output_bits

    def tiled(d0: int, d1: int, merge: int) -> MatmulPlan:
        d2 = params.n // (d0 * d1)
        return MatmulPlan(
            params, rows, inner, columns, ring_bits, d0, d1, d2, merge, output_bits, batch, digits, guard_a
        )

    tiles = _tiles(params.n, rows, inner, digits, prepared, max_spacing)
    if len(tiles):
        d0, d1, merge = tiles.T
        row_tiles, inner_tiles = -(-rows // d0), -(-inner // d1) * digits
        column_tiles = -(-columns // (params.n // (d0 * d1)))
        uploads, polynomials = batch * row_tiles * inner_tiles, batch * column_tiles * inner_tiles * len(params.primes)
        apart, together = batch * row_tiles * -(-column_tiles // merge), -(-batch * row_tiles * column_tiles // merge)
        packed = np.where(column_tiles >= merge, apart, together)
        front = np.maximum(params.n // d0, MIN_FRONT)
        seconds = _compute_seconds(
            params,
            prepared,
            polynomials,
            row_tiles,
            batch * row_tiles * column_tiles - packed,
            front,
            uploads,
            packed,
        )
        first = tiled(*tiles[0].tolist())  # of one ciphertext each way, and of the rest, the bytes are those of any
        each_up = params.polynomial_bytes(len(params.primes), 1)
        each_down = bitpack.packed_size(params.n, first.response_bits[1])
        rest = first.upload_bytes + first.response_bytes - first.uploads * each_up - first.packed * each_down
        seconds = seconds + (rest + uploads * each_up + packed * each_down) / bytes_per_second
        for index in np.argsort(seconds, kind="stable"):
            plan = tiled(*tiles[index].tolist())
            if suits(plan):
                return plan
    raise NoTiling(f"no tiling of a {rows} x {inner} x {columns} product fits degree {params.n}: split it")


@lru_cache(maxsize=1024)
def _tiles(n: int, rows: int, inner: int, digits: int, prepared: bool, max_spacing: int) -> NDArray[np.int64]:
    """d0, d1 and merge of every tiling, [tilings, 3]."""
    log_n, found = n.bit_length() - 1, []
    for log_d1 in range(min(log_n, max_spacing.bit_length() - 1, (inner - 1).bit_length()) + 1):
        if -(-inner // (1 << log_d1)) * digits > MAX_INNER_TILES:
            continue
        for log_d0 in range((0 if prepared else min(log_n - log_d1, (rows - 1).bit_length())) + 1):
            found += [(1 << log_d0, 1 << log_d1, 1 << log_merge) for log_merge in range(log_d1 + 1)]
    return np.array(found, dtype=np.int64).reshape(-1, 3)
