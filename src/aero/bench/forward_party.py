"""One party of `aero bench forward`, in a process of its own. The client leaves its logits in the folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from aero.bench.parties import connect, let_the_client_end, report_on
from aero.engines import memory
from aero.engines.two_party.engine import TwoPartyEngine
from aero.engines.two_party.weight_store import WeightStore
from aero.graph.ring_plan import load_plan
from aero.graph.serialize import load, load_graph
from aero.mpc.party import Role
from aero.wire.keys import Identity
from aero.wire.network import Network


def main(job: dict[str, Any]) -> dict[str, Any]:
    role, folder = Role[job["role"]], Path(job["folder"])
    security, network = Identity(folder / "keys" / role.word), Network.parse(job["network"])
    plan, weights, ids, store = load_plan(folder / "plan.json"), None, None, None
    if role is Role.SERVER:
        program = load(folder)
        graph, weights, store = program.graph, program.weights, WeightStore(plan, job["weights_bytes"])
    else:
        graph = load_graph(folder)
        ids = np.load(folder / "ids.npy")
    started = time.perf_counter()
    with (
        connect(role, folder, network, security) as channel,
        TwoPartyEngine(role, channel, plan, store=store) as engine,
    ):
        engine.prepare(graph, weights)
        load_seconds, cpu = time.perf_counter() - started, time.process_time()
        logits = engine.run(graph, weights=weights, ids=ids)
        cpu = time.process_time() - cpu
        report = {
            "cost": vars(engine.cost),
            "set_up": vars(engine.set_up_cost),
            "load_seconds": load_seconds,
            "cpu_seconds": cpu,
            "steps": [vars(step) for step in engine.report],
            "peak_bytes": memory.peak(),
        }
        let_the_client_end(role, channel)
    if logits is not None:
        np.save(folder / "logits.npy", logits)
    return report


if __name__ == "__main__":
    report_on(main)
