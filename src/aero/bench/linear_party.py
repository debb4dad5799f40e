"""One party of `aero bench linear` on our engine, in a process of its own. It leaves its share of the result
in the folder."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aero.bench.linear import OUTPUT_BITS, RING_BITS, WORKS, BenchProduct
from aero.bench.parties import connect, let_the_client_end, report_on
from aero.kernels.prg import Prg
from aero.mpc.fixed_point import reduce_ring, to_ring
from aero.mpc.party import Party, Role
from aero.mpc.protocols.keys import exchange_keys
from aero.mpc.protocols.linear import LinearPlan, load_weights
from aero.mpc.share import Share
from aero.wire.network import Network
from aero.wire.tcp import InsecurePlaintext


def main(job: dict[str, Any]) -> dict[str, Any]:
    work, role, folder = WORKS[job["work"]], Role[job["role"]], Path(job["folder"])
    with connect(role, folder, Network.parse(job["network"]), InsecurePlaintext()) as channel:
        report, result = measure(Party(role, channel), work, job["repetitions"])
        let_the_client_end(role, channel)
    np.save(folder / f"{role.word}.npy", result.values)
    return report


def measure(party: Party, work: BenchProduct, repetitions: int) -> tuple[dict[str, Any], Share]:
    """The report of one party, and its share of the result."""
    started, plan = time.perf_counter(), work.plan()
    left, right = (
        np.rint(factor * 2.0**bits).astype(np.int64)
        for factor, bits in zip(work.factors(), (work.left_bits, work.right_bits), strict=True)
    )
    x = _share(party, "left", left, work.left_bits)
    weights, noise = None, 0.0
    if isinstance(plan, LinearPlan):
        exchange_keys(party, (plan.product.params,))
        x = x.reshape(work.rows, work.inner)
        if party.role is Role.SERVER:
            weights = load_weights(plan, right[0])
            noise = weights.noise.total
        multiply = partial(plan.run, party, x, work.right_bits, weights)
    else:
        exchange_keys(party, (plan.params,), (plan.params,))
        noise = plan.error
        multiply = partial(plan.run, party, x, _share(party, "right", right, work.right_bits))
    set_up, set_up_seconds = party.channel.traffic, time.perf_counter() - started
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    before = set_up
    for _ in range(repetitions + 1):  # the first one warms up
        _meet(party)
        before, started, cpu = party.channel.traffic, time.perf_counter(), time.process_time()
        result = multiply()
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu)
    traffic = party.channel.traffic - before
    assert result.bits == OUTPUT_BITS
    return {
        "seconds": seconds[1:],
        "cpu_seconds": cpu_seconds[1:],
        "sent": traffic.bytes_sent,
        "rounds": traffic.rounds,
        "noise": noise,
        "set_up_seconds": set_up_seconds,
        "set_up_bytes": set_up.bytes_sent + set_up.bytes_received,
    }, result


def _share(party: Party, name: str, values: np.ndarray, fraction_bits: int) -> Share:
    """A share of public test values; both processes expand the same public seed, as nothing here is secret."""
    mask = Prg(bytes(16), f"bench/{name}").uniform(values.shape, RING_BITS)
    own = mask if party.role is Role.SERVER else to_ring(values, RING_BITS) - mask
    return Share(reduce_ring(own, RING_BITS), RING_BITS, fraction_bits)


def _meet(party: Party) -> None:
    """Both are ready. The client is asked last, so that a round begins after it."""
    if party.is_client:
        party.channel.send(b"ready")
        party.channel.recv(5, np.uint8)
    else:
        party.channel.recv(5, np.uint8)
        party.channel.send(b"ready")


if __name__ == "__main__":
    report_on(main)
