"""One party of `aero bench linear` on SPU, in a process of its own (`parties`).

Shared factors are sums of a private number of each party, so that SPU holds them as arithmetic shares; weights are
private to the server, which SPU multiplies in the clear with the client's ciphertexts.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from spu import libspu

from aero.bench.linear import WORKS
from aero.bench.parties import leave_port, report_on, wait_for_port
from aero.engines.spu.engine import free_port
from aero.engines.spu.worker import Worker, _compile
from aero.mpc.party import Role


class LinearWorker(Worker):
    """A worker that multiplies two matrices."""

    def factor(self, name: str, value: np.ndarray, *, owner: Role | None) -> None:
        """Set the variable `name`: private to the owner, or shared."""
        if owner is not None:
            self._runtime.set_var(name, self._private(value, owner))
            return
        part = np.random.default_rng(1).standard_normal(value.shape)  # the server's number in the sum
        for party, number in ((Role.CLIENT, value - part), (Role.SERVER, part)):
            self._runtime.set_var(f"{name}:{party.word}", self._private(number, party))
        names = [f"{name}:{party.word}" for party in Role]
        self._execute(libspu.Executable("share", names, [name], _compile(lambda a, b: a + b, [value, value])))

    def product(self, left: np.ndarray, right: np.ndarray, repetitions: int) -> tuple[list[list[float]], list[int]]:
        """Seconds of wall and of processor time, and the traffic of the last product."""
        program = libspu.Executable("product", ["x", "y"], ["z"], _compile(lambda x, y: (x @ y,), [left, right]))
        seconds, cpu_seconds = [], []
        for _ in range(repetitions + 1):  # the first one warms up
            self._send(b"ready")
            self._receive()
            self.take_traffic()
            started, cpu = time.perf_counter(), time.process_time()
            self._execute(program)
            seconds.append(time.perf_counter() - started)
            cpu_seconds.append(time.process_time() - cpu)
        return [seconds[1:], cpu_seconds[1:]], self.take_traffic()

    def reveal(self) -> np.ndarray | None:
        return self._reveal_to_client(self._runtime.get_var("z"))


def main(job: dict[str, Any]) -> dict[str, Any]:
    work, role, folder = WORKS[job["work"]], Role[job["role"]], Path(job["folder"])
    started = time.perf_counter()
    own, peer = _addresses(role, folder)
    options = {"party": role.name, "own": own, "peer": peer, "timeout": 600.0, "tls": None, "threads": 1}
    worker = LinearWorker(options, lambda label, share: None)
    left, right = work.factors()
    if work.heads == 1:
        left, right = left[0], right[0]
    worker.factor("x", left, owner=None)
    worker.factor("y", right, owner=Role.SERVER if work.weights else None)
    set_up_seconds, (sent, received, _) = time.perf_counter() - started, worker.take_traffic()
    (seconds, cpu_seconds), traffic = worker.product(left, right, job["repetitions"])
    result = worker.reveal()
    np.save(folder / f"{role.word}.npy", np.zeros(0) if result is None else result)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "sent": traffic[0],
        "rounds": None,
        "set_up_seconds": set_up_seconds,
        "set_up_bytes": sent + received,
    }


def _addresses(role: Role, folder: Path) -> tuple[str, str]:
    """Each party takes a free port and leaves it in the folder for the other."""
    own, port = (folder / f"{role.word}.port", free_port())
    leave_port(own, port)
    return f"127.0.0.1:{port}", f"127.0.0.1:{wait_for_port(folder / f'{role.other.word}.port')}"


if __name__ == "__main__":
    report_on(main)
    os._exit(0)  # SPU's threads would wait for the peer, which ends at the same time
