"""One party of `aero bench generate`, in a process of its own. The client leaves its logits in the folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from aero.bench.parties import connect, let_the_client_end, report_on
from aero.compiler.compiled import Compiled
from aero.engines import memory
from aero.engines.engine import PromptRun
from aero.engines.two_party.engine import TwoPartyEngine
from aero.engines.two_party.weight_store import WeightStore
from aero.graph import Program
from aero.graph.count import count
from aero.graph.ring_plan import load_plan
from aero.graph.serialize import load, load_graph
from aero.mpc.party import Role
from aero.wire.keys import Identity
from aero.wire.network import Network


def main(job: dict[str, Any]) -> dict[str, Any]:
    role, folder, prompt, batch = Role[job["role"]], Path(job["folder"]), job["prompt"], job["batch"]
    security, network = Identity(folder / "keys" / role.word), Network.parse(job["network"])
    plan, client = load_plan(folder / "plan.json"), role is Role.CLIENT
    compiled = Compiled(_structure(folder) if client else load(folder))
    ids = np.load(folder / "ids.npy") if client else None
    rows, context, store = job["rows"], compiled.context, None if client else WeightStore(plan, job["weights_bytes"])
    works = [("prefill", 0, prompt), *(("next-token", past, past + rows) for past in range(prompt, context, rows))]
    steps, logits = [], []
    with (
        connect(role, folder, network, security) as channel,
        TwoPartyEngine(role, channel, plan, store=store) as engine,
    ):
        for work, start, stop in works:
            program = compiled.decode(start, rows, rows) if start else compiled.prefill(stop, leave_state=True)
            each = [None] * batch if ids is None else [tokens[start:stop] for tokens in ids]
            weights = None if client else program.weights
            asked = [PromptRun(program.graph, mine, number, weights) for number, mine in enumerate(each)]
            begun = time.perf_counter()
            engine.prepare_batch(asked)
            prepared, cpu = time.perf_counter(), time.process_time()
            outputs = engine.run_batch(asked)
            if client:
                logits.append(np.concatenate([output for output in outputs if output is not None]))
            steps.append(
                {
                    "work": work,
                    "context": stop,
                    "multiplications": count(program.graph).multiplications,
                    "cost": vars(engine.cost),
                    "load_seconds": prepared - begun,
                    "cpu_seconds": time.process_time() - cpu,
                    "steps": [vars(step) for step in engine.report],
                    "peak_bytes": memory.peak(),
                }
            )
        set_up = vars(engine.set_up_cost)
        let_the_client_end(role, channel)
    if client:
        np.save(folder / "logits.npy", np.concatenate(logits))
    return {"steps": steps, "set_up": set_up}


def _structure(folder: Path) -> Program:
    """The program as the client has it: with no weights."""
    graph = load_graph(folder)
    zero = np.zeros(())
    return Program(graph, {name: np.broadcast_to(zero, shape) for name, shape in graph.weight_shapes.items()})


if __name__ == "__main__":
    report_on(main)
