"""What an RLWE matrix product costs, and the choice of its tiles."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from aero.kernels.lattice_matmul import MAX_INNER_TILES, MatmulPlan
from aero.kernels.rlwe import Params

DEFAULT_RATE = 25e6  # bytes per second: 200 Mbit/s, between LAN and WAN


class NoTiling(ValueError):
    """No tiling of a product fits its parameters, or suits who asked."""


@dataclass(frozen=True)
class Cost:
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


def cost_of(plan: MatmulPlan, *, prepared: bool = False, bytes_per_second: float = DEFAULT_RATE) -> Cost:
    """The cost of one product. `prepared`: with weights transformed beforehand."""
    n, primes = plan.params.n, len(plan.params.primes)
    polynomials = plan.batch * plan.column_tiles * plan.inner_tiles * primes
    multiplications = 2 * polynomials * plan.row_tiles * n
    switches = plan.batch * plan.row_tiles * plan.column_tiles - plan.packed  # each joins two ciphertexts
    butterflies = 0.5 * n * (0 if prepared else polynomials) * math.log2(plan.front)
    butterflies += 0.5 * n * switches * (primes + 1) ** 2 * math.log2(n)
    read = 8 * n * polynomials if prepared else 0
    ends = (0.6 * plan.uploads + plan.packed) * primes * n  # encryption, responses and decryption
    compute = 0.4e-9 * butterflies + 0.2e-9 * multiplications + 3.5e-9 * switches * primes * (primes + 1) * n
    compute += 0.15e-9 * read + 120e-9 * ends
    return Cost(
        upload_bytes=plan.upload_bytes,
        response_bytes=plan.response_bytes,
        transforms=0 if prepared else polynomials,
        multiplications=multiplications,
        key_switches=switches,
        compute_seconds=compute,
        network_seconds=(plan.upload_bytes + plan.response_bytes) / bytes_per_second,
    )


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
    prepared: bool = False,
    max_spacing: int = 512,
    bytes_per_second: float = DEFAULT_RATE,
    suits: Callable[[MatmulPlan], bool] = lambda _: True,
) -> MatmulPlan:
    """The cheapest tiling of a product by `cost_of` at that network rate; both parties find the same one.

    `prepared`: weights will be used in their prepared form; d0 is then 1 to keep that form small. `max_spacing`: what
    the public keys can pack. `suits`: whether a tiling may be taken. NoTiling where nothing fits; ValueError for a
    product that no MatmulPlan can be of.
    """
    best: tuple[float, MatmulPlan] | None = None
    log_n = params.n.bit_length() - 1
    for log_d1 in range(min(log_n, max_spacing.bit_length() - 1, (inner - 1).bit_length()) + 1):
        d1 = 1 << log_d1
        if -(-inner // d1) * digits > MAX_INNER_TILES:
            continue
        for log_d0 in range((0 if prepared else min(log_n - log_d1, (rows - 1).bit_length())) + 1):
            d0 = 1 << log_d0
            for log_merge in range(log_d1 + 1):
                plan = MatmulPlan(
                    params=params,
                    rows=rows,
                    inner=inner,
                    columns=columns,
                    ring_bits=ring_bits,
                    d0=d0,
                    d1=d1,
                    d2=params.n // (d0 * d1),
                    merge=1 << log_merge,
                    output_bits=ring_bits if output_bits is None else output_bits,
                    batch=batch,
                    digits=digits,
                )
                seconds = cost_of(plan, prepared=prepared, bytes_per_second=bytes_per_second).seconds
                if (best is None or seconds < best[0]) and suits(plan):
                    best = seconds, plan
    if best is None:
        raise NoTiling(f"no tiling of a {rows} x {inner} x {columns} product fits degree {params.n}: split it")
    return best[1]
