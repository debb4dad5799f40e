"""The native kernels, one by one, at every instruction-set level that this processor runs.

Seconds are medians over the repetitions. With one thread they are processor time, which other work on the machine
distorts less; with more, time on the clock.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from aero.kernels import bitpack, native, ring
from aero.kernels.lattice_cost import cost_of
from aero.kernels.lattice_matmul import MatmulPlan
from aero.kernels.ntt import Ntt, find_primes
from aero.kernels.prg import Prg
from aero.kernels.rlwe import DEVIATION, SHARES, WEIGHTS, Params, SecretKey
from aero.kernels.slots import P37, P50, SLOTS, SlotSecret
from aero.report.record import Record

SECONDS_EACH = 0.1  # of repetitions, for each kernel
_PUBLIC_SEED = bytes(16)  # nothing is secret in a benchmark

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """A kernel's name, a call, and how many units of work the call does."""

    kernel: str
    unit: str
    units: float
    call: Callable[[], object]


def bench_kernels(
    levels: Sequence[str] | None = None, progress: Progress = lambda label: None, *, threads: int = 1
) -> list[Record]:
    """Records with kernel/NAME as their work and the seconds of one unit; `extra` has unit, level and threads."""
    records = []
    clock = time.process_time if threads == 1 else time.perf_counter
    for level in native.available_levels() if levels is None else levels:
        with native.use_level(level), native.use_threads(threads):
            progress(level)
            seconds: dict[str, float] = {}
            for case in _cases():
                seconds[case.kernel] = _median(case.call, clock) / case.units
                if not case.kernel.startswith("_"):
                    records.append(_record(case.kernel, seconds[case.kernel], case.unit, level))
            for params, name in ((WEIGHTS, "1 prime"), (SHARES, "2 primes")):
                packed, unpacked = (seconds[f"_{kind} {name}"] for kind in ("packed", "unpacked"))
                switches = cost_of(_product(params, packed=True)).key_switches
                kernel = f"packing step (key switch), N=4096, {name} + special"
                records.append(_record(kernel, max(packed - unpacked, 0.0) / switches, "step", level))
    return records


def _record(kernel: str, seconds: float, unit: str, level: str) -> Record:
    extra = {"unit": unit, "level": level, "threads": native.threads()}
    return Record(f"kernel/{kernel}", "kernels", seconds=seconds, extra=extra)


def _cases() -> Iterator[Case]:
    rng = np.random.default_rng(0)
    for n in (2048, 4096, 8192):
        q = find_primes(50, n, 1)[0]
        ntt, count = Ntt(n, q), 32
        a = rng.integers(0, q, (count, n), dtype=np.uint64)
        yield Case(f"NTT forward, N={n}", "transform", count, partial(ntt.forward, a))
        yield Case(f"NTT inverse, N={n}", "transform", count, partial(ntt.inverse, a))
        front = np.ascontiguousarray(a[:, :64])
        yield Case(f"NTT forward of 64 coefficients, N={n}", "transform", count, partial(ntt.forward_front, front))
    for params, name in ((WEIGHTS, "1 prime"), (SHARES, "2 primes")):
        secret = SecretKey.generate(params, Prg(_PUBLIC_SEED, "secret"))
        keys = secret.public_keys(_PUBLIC_SEED, Prg(_PUBLIC_SEED, "errors"))
        plan = _product(params, packed=True)
        x = rng.integers(0, 1 << plan.ring_bits, (1, plan.rows, plan.inner), dtype=np.uint64)
        w = rng.integers(-(1 << 12), 1 << 12, (plan.inner, plan.columns))
        errors = Prg(_PUBLIC_SEED, "errors")
        yield Case(
            f"encrypt, N=4096, {name}",
            "ciphertext",
            plan.uploads,
            partial(plan.encrypt, secret, x, _PUBLIC_SEED, errors),
        )
        loaded = plan.load(plan.encrypt(secret, x, _PUBLIC_SEED, errors))
        weights = plan.prepare_weights(plan.encode_weights(w))
        for kind in ("packed", "unpacked"):
            product = _product(params, packed=kind == "packed")
            yield Case(f"_{kind} {name}", "product", 1, partial(product.evaluate, keys, loaded, weights))
        deep = MatmulPlan(params, 64, 4096, 16, 37, 64, 32, 2, 1, 37)
        x, w = np.zeros((64, 4096), dtype=np.uint64), np.ones((4096, 16), dtype=np.int64)
        loaded = deep.load(deep.encrypt(secret, x, _PUBLIC_SEED, errors))
        yield Case(
            f"multiply-accumulate from prepared weights, {name}",
            "residue product",
            cost_of(deep, prepared=True).multiplications,
            partial(deep.evaluate, keys, loaded, deep.prepare_weights(deep.encode_weights(w))),
        )
    for field, name in ((P50, "P50"), (P37, "P37")):
        slot_secret = SlotSecret.generate(field, Prg(_PUBLIC_SEED, "secret"))
        slot_key = slot_secret.public_key(_PUBLIC_SEED, Prg(_PUBLIC_SEED, "errors"))
        count = 8
        u, v = (rng.integers(0, field.p, (count, SLOTS), dtype=np.uint64) for _ in range(2))
        errors = Prg(_PUBLIC_SEED, "errors")
        upload = slot_secret.encrypt(u, _PUBLIC_SEED, errors)
        response, _ = slot_key.respond(upload, v, errors)
        for what, call in (
            ("encrypt", partial(slot_secret.encrypt, u, _PUBLIC_SEED, errors)),
            ("multiply and respond", partial(slot_key.respond, upload, v, errors)),
            ("decrypt", partial(slot_secret.decrypt, response)),
        ):
            yield Case(f"slots of {name}, {what}", "number", count * SLOTS, call)
    size = 1 << 20
    prg = Prg(_PUBLIC_SEED, "bench")
    yield Case("AES-CTR stream", "byte", size, lambda: prg.random_bytes(size))
    yield Case("uniform below a 50-bit prime", "value", size, lambda: prg.uniform_below(size, WEIGHTS.primes[0]))
    yield Case("centred binomial noise", "value", size, lambda: prg.noise(size))
    yield Case("discrete Gaussian noise", "value", size, lambda: prg.gaussian(size, DEVIATION))
    values = rng.integers(0, 1 << 37, size, dtype=np.uint64)
    packed = bitpack.pack(values, 37)
    yield Case("bit packing, 37 bits", "value", size, lambda: bitpack.pack(values, 37))
    yield Case("bit unpacking, 37 bits", "value", size, lambda: bitpack.unpack(packed, size, 37))
    left, right = (rng.integers(0, 2**64, shape, dtype=np.uint64) for shape in ((128, 768), (768, 768)))
    yield Case(
        "ring product modulo 2^64, 128x768x768", "multiply-add", 128 * 768 * 768, lambda: ring.matmul(left, right)
    )


def _product(params: Params, *, packed: bool) -> MatmulPlan:
    plan = MatmulPlan(
        params=params, rows=64, inner=512, columns=128, ring_bits=37, d0=64, d1=32, d2=2, merge=32, output_bits=37
    )
    return plan if packed else replace(plan, merge=1)


def _median(call: Callable[[], object], clock: Callable[[], float]) -> float:
    call()
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < SECONDS_EACH:
        started = clock()
        call()
        seconds.append(clock() - started)
    return statistics.median(seconds)


def table(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a kernel in each, a level in each column."""
    levels = list(dict.fromkeys(record.extra["level"] for record in records))
    rows: dict[str, list[str]] = {}
    for record in records:
        kernel = record.work.removeprefix("kernel/")
        row = rows.setdefault(kernel, [kernel, record.extra["unit"], *[""] * len(levels)])
        assert record.seconds is not None
        row[2 + levels.index(record.extra["level"])] = _readable(record.seconds)
    return ["kernel", "for one", *levels], list(rows.values())


def _readable(seconds: float) -> str:
    for scale, unit in ((1e3, "ms"), (1e6, "us"), (1e9, "ns")):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3f} ns"
