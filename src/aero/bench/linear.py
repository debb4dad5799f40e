"""Linear algebra between two parties: our engine and SPU on the same shapes, in one run.

Two processes on this machine, one thread each, plain TCP on loopback for both engines. A party's time is from a
barrier to its share of the result; a piece of work takes the slower party's time, the median over the repetitions.
Processor time, of the party that needs more, is stated beside it: other work on the machine distorts it less. Keys,
connections, compilation and the encoding of weights are set up before and stated apart.

Numbers: activations of variance 1, weights of variance 1/k. Ours: activations with 14 fractional bits in rings of 41
bits, weights with 16, probabilities with 16; 16 bits dropped. SPU: 18 fractional bits in its ring of 64.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aero.bench.parties import run_parties
from aero.engines.connect import ENGINES, SPU, TWO_PARTY
from aero.mpc.fixed_point import from_ring, reduce_ring
from aero.mpc.party import Role
from aero.mpc.protocols.linear import LinearPlan, plan_linear
from aero.mpc.protocols.pair import PairPlan, plan_pair
from aero.report.record import Record
from aero.wire.network import LOOPBACK, Network

RING_BITS, OUTPUT_BITS = 41, 25
DROPPED = RING_BITS - OUTPUT_BITS
_PARTY_MODULES = {TWO_PARTY: "aero.bench.linear_party", SPU: "aero.bench.linear_spu"}
_TIME_LIMIT = 1800.0

Progress = Callable[[str], None]


@dataclass(frozen=True)
class BenchProduct:
    """A product [heads, rows, inner] x [heads, inner, columns]. `weights`: the second factor is the server's, in the
    clear; else both are shared. left_bits, right_bits: our fractional bits."""

    name: str
    heads: int
    rows: int
    inner: int
    columns: int
    weights: bool
    left_bits: int
    right_bits: int

    @property
    def output_fraction_bits(self) -> int:
        return self.left_bits + self.right_bits - DROPPED

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """The two factors in float64: the same in every process."""
        rng = np.random.default_rng([self.rows, self.inner, self.columns])
        left = rng.standard_normal((self.heads, self.rows, self.inner))
        right = rng.standard_normal((self.heads, self.inner, self.columns))
        if self.weights:
            right *= self.inner**-0.5
        if self.name.startswith("av/"):  # probabilities
            left = np.exp(2 * left)
            left /= left.sum(axis=-1, keepdims=True)
        return left, right

    def plan(self) -> LinearPlan | PairPlan:
        if self.weights:
            return plan_linear(self.rows, self.inner, self.columns, RING_BITS, OUTPUT_BITS)
        return plan_pair(self.heads, self.rows, self.inner, self.columns, RING_BITS, OUTPUT_BITS)

    def error_bound(self, noise_steps: float) -> float:
        """How far a result may be from float64: the factors' rounding to fixed point, and the protocol's noise."""
        left, right = (np.abs(factor) for factor in self.factors())
        u, v = 2.0 ** -(self.left_bits + 1), 2.0 ** -(self.right_bits + 1)
        rounding = left.sum(axis=-1).max() * v + right.sum(axis=-2).max() * u + self.inner * u * v
        return float(rounding) + noise_steps * 2.0**-self.output_fraction_bits


WORKS = {
    work.name: work
    for work in (
        BenchProduct("linear/128x768x768", 1, 128, 768, 768, True, 14, 16),
        BenchProduct("linear/128x768x2304", 1, 128, 768, 2304, True, 14, 16),
        BenchProduct("qk/12x128x64x128", 12, 128, 64, 128, False, 14, 14),
        BenchProduct("av/12x128x128x64", 12, 128, 128, 64, False, 16, 14),
        BenchProduct("linear/1x768x768", 1, 1, 768, 768, True, 14, 16),
        BenchProduct("linear/1x768x50257", 1, 1, 768, 50257, True, 14, 16),
    )
}


def bench_linear(
    engines: Sequence[str] = ENGINES,
    works: Sequence[str] = tuple(WORKS),
    repetitions: int = 5,
    progress: Progress = lambda label: None,
    network: Network = LOOPBACK,
) -> list[Record]:
    """Measure. ImportError without SPU where it is asked for; ConnectionError when a party fails.

    network: emulated by our channel; SPU's own connections cannot be, so ValueError where it is asked for as well.
    """
    if network.is_shaped and SPU in engines:
        raise ValueError(f"SPU runs on loopback alone; give --engine {TWO_PARTY} for the network {network}")
    records = []
    for name in works:
        for engine in engines:
            progress(f"{name}, {engine}")
            times = repetitions if engine == TWO_PARTY else min(repetitions, 3)
            records.append(_measure(WORKS[name], engine, times, network))
    return records


def _measure(work: BenchProduct, engine: str, repetitions: int, network: Network) -> Record:
    with tempfile.TemporaryDirectory(prefix="aero-") as folder:
        job = {"work": work.name, "repetitions": repetitions, "network": network.name}
        reports = run_parties(_PARTY_MODULES[engine], Path(folder), job)
        client, server = (reports[role] for role in Role)
        shares = [np.load(Path(folder) / f"{role.word}.npy") for role in Role]
    if engine == TWO_PARTY:
        value = from_ring(reduce_ring(shares[0] + shares[1], OUTPUT_BITS), OUTPUT_BITS)
        result = value * 2.0**-work.output_fraction_bits
        bound = work.error_bound(max(client["noise"], server["noise"]))
    else:
        result, bound = shares[0], None
    left, right = work.factors()
    error = float(np.abs(result - left @ right).max())
    seconds, cpu_seconds = (
        [max(pair) for pair in zip(client[name], server[name], strict=True)] for name in ("seconds", "cpu_seconds")
    )
    return Record(
        work.name,
        engine,
        seconds=statistics.median(seconds),
        bytes_client_to_server=client["sent"],
        bytes_server_to_client=server["sent"],
        rounds=client["rounds"],
        max_abs_error=error,
        extra={
            "error_bound": bound,
            "all_seconds": seconds,
            "cpu_seconds": statistics.median(cpu_seconds),
            "set_up_seconds": max(client["set_up_seconds"], server["set_up_seconds"]),
            "set_up_bytes": client["set_up_bytes"],
            "threads": 1,
            "network": network.name,
        },
    )


def table(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: each work with every engine, and how many times faster and smaller ours is than SPU."""
    header = ["work", "engine", "seconds", "CPU s", "MB up", "MB down", "rounds", "max error", "bound"]
    header += ["faster", "less CPU", "smaller"]
    rows = []
    for record in records:
        spu = next((r for r in records if r.work == record.work and r.engine != TWO_PARTY), None)
        assert record.seconds and record.bytes_client_to_server is not None
        assert record.bytes_server_to_client is not None and record.max_abs_error is not None
        ratios = ["", "", ""]
        if record.engine == TWO_PARTY and spu is not None:
            assert spu.seconds and spu.bytes_client_to_server is not None and spu.bytes_server_to_client is not None
            own = record.bytes_client_to_server + record.bytes_server_to_client
            other = spu.bytes_client_to_server + spu.bytes_server_to_client
            faster = (spu.seconds / record.seconds, spu.extra["cpu_seconds"] / record.extra["cpu_seconds"], other / own)
            ratios = [f"{ratio:.1f}x" for ratio in faster]
        bound = record.extra["error_bound"]
        rows.append(
            [
                record.work,
                record.engine,
                f"{record.seconds:.3f}",
                f"{record.extra['cpu_seconds']:.3f}",
                f"{record.bytes_client_to_server / 1e6:.3f}",
                f"{record.bytes_server_to_client / 1e6:.3f}",
                "" if record.rounds is None else str(record.rounds),
                f"{record.max_abs_error:.1e}",
                "" if bound is None else f"{bound:.1e}",
                *ratios,
            ]
        )
    return header, rows
