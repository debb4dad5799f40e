"""One party of a calibration of SPU: `python -m aero.bench.spu_steps JOB.json`, started by `aero.bench.calibrate`.

The job: {"party", "own", "peer", "graphs": [...], "out": PATH}. Runs the graphs on random weights and ids, and appends
to OUT one JSON line for each SPU program: [graph, label, seconds, CPU seconds, bytes sent, bytes received, messages].
The line of a graph of -1 is the connection's set-up.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from aero.engines.spu.engine import one_hot_rows
from aero.engines.spu.worker import Worker
from aero.graph.serialize import graph_from_json
from aero.mpc.party import Role


class MeasuringWorker(Worker):
    """A worker that keeps what each program cost."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.steps: list[tuple[str, float, float, list[int]]] = []
        super().__init__(options, lambda label, share: None)

    def _execute(self, program: Any) -> None:
        before, cpu, started = self._traffic.copy(), time.process_time(), time.perf_counter()
        super()._execute(program)
        seconds = time.perf_counter() - started
        self.steps.append((program.name, seconds, time.process_time() - cpu, (self._traffic - before).tolist()))


def main(job: dict[str, Any]) -> None:
    party = Role[job["party"]]
    with open(job["out"], "w", buffering=1) as out:

        def report(graph: int, label: str, seconds: float, cpu: float, traffic: list[int]) -> None:
            out.write(json.dumps([graph, label, seconds, cpu, *traffic]) + "\n")

        cpu, started = time.process_time(), time.perf_counter()
        worker = MeasuringWorker(
            {key: job[key] for key in ("party", "own", "peer")}
            | {"tls": None, "timeout": 600.0, "connect_timeout": 60.0, "threads": 1}
        )
        report(-1, "set-up", time.perf_counter() - started, time.process_time() - cpu, worker.take_traffic())
        for index, data in enumerate(job["graphs"]):
            graph, rng = graph_from_json(data), np.random.default_rng(index)
            if party is Role.CLIENT:
                table = next(n.weights[0] for n in graph.nodes if n.op == "embedding")
                inputs = one_hot_rows(graph, rng.integers(graph.weight_shapes[table][0], size=graph.length))
            else:
                inputs = {f"weights:{n}": 0.3 * rng.standard_normal(s) for n, s in graph.weight_shapes.items()}
            worker.steps.clear()
            worker.run(graph, inputs)
            for label, seconds, cpu, traffic in worker.steps:
                report(index, label, seconds, cpu, traffic)
            worker.take_traffic()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
    sys.stdout.flush()
    os._exit(0)  # SPU's threads would wait for the peer, which ends at the same time
