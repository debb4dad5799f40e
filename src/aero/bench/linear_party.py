"""One party of `aero bench linear` on our engine: `python -m aero.bench.linear_party JOB.json`, started by
`aero.bench.linear`. The last line on standard output is the report, and the share of the result lies in the folder."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aero.bench.linear import OUTPUT_BITS, RING_BITS, WORKS, ProductShape
from aero.kernels.prg import Prg
from aero.mpc.fixed_point import reduce_ring, to_ring
from aero.mpc.party import Party, Role
from aero.mpc.protocols.keys import exchange_keys
from aero.mpc.protocols.linear import LinearPlan, load_weights
from aero.mpc.share import Share
from aero.wire import Channel, tcp
from aero.wire.network import Network


def main(job: dict[str, Any]) -> None:
    work, role, folder = WORKS[job["work"]], Role(job["role"]), Path(job["folder"])
    with _connect(role, folder, Network.parse(job["network"])) as channel:
        report, result = measure(Party(role, channel), work, job["repetitions"])
    np.save(folder / f"{role.word}.npy", result.values)
    print(json.dumps(report))


def measure(party: Party, work: ProductShape, repetitions: int) -> tuple[dict[str, Any], Share]:
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


def _connect(role: Role, folder: Path, network: Network) -> Channel:
    """The server leaves its port in the folder. Both parties emulate the network."""
    path, plaintext = folder / "port", tcp.InsecurePlaintext()
    if role is Role.SERVER:
        with tcp.Listener("127.0.0.1", 0, plaintext, network=network) as listener:
            (folder / "port.tmp").write_text(str(listener.port))
            (folder / "port.tmp").rename(path)
            return listener.accept(60.0)
    deadline = time.monotonic() + 60.0
    while not path.exists():
        if time.monotonic() > deadline:
            raise ConnectionError("the server did not start listening within 60 s")
        time.sleep(0.01)
    return tcp.connect("127.0.0.1", int(path.read_text()), plaintext, network=network)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
