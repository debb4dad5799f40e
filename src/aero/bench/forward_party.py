"""One party of `aero bench forward`: `python -m aero.bench.forward_party PARTY FOLDER NETWORK`, started by
`aero.bench.forward`. The last line on standard output is the report; the client leaves its logits in the folder."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from aero.engines.two_party.engine import TwoPartyEngine
from aero.graph.ring_plan import load_plan
from aero.graph.serialize import load, load_graph
from aero.mpc.party import Role
from aero.wire import Channel, tcp
from aero.wire.keys import Identity
from aero.wire.network import Network

_PATIENCE = 600.0


def main(party: Role, folder: Path, network: Network) -> dict[str, Any]:
    plan, weights, ids = load_plan(folder / "plan.json"), None, None
    if party is Role.SERVER:
        program = load(folder)
        graph, weights = program.graph, program.weights
    else:
        graph = load_graph(folder)
        ids = np.load(folder / "ids.npy")
    started = time.perf_counter()
    with connect(party, folder, network) as channel, TwoPartyEngine(party, channel, plan) as engine:
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
        }
    if logits is not None:
        np.save(folder / "logits.npy", logits)
    return report


def connect(party: Role, folder: Path, network: Network) -> Channel:
    """A channel to the other process. The server leaves its port in the folder. Both parties emulate the network."""
    path, identity = folder / "port", Identity(folder / "keys" / party.word)
    if party is Role.SERVER:
        with tcp.Listener("127.0.0.1", 0, identity, network=network, timeout=_PATIENCE) as listener:
            (folder / "port.tmp").write_text(str(listener.port))
            (folder / "port.tmp").rename(path)
            return listener.accept(_PATIENCE)
    deadline = time.monotonic() + _PATIENCE
    while not path.exists():
        if time.monotonic() > deadline:
            raise ConnectionError(f"the server did not start listening within {_PATIENCE:g} s")
        time.sleep(0.01)
    return tcp.connect("127.0.0.1", int(path.read_text()), identity, network=network, timeout=_PATIENCE)


if __name__ == "__main__":
    print(json.dumps(main(Role[sys.argv[1]], Path(sys.argv[2]), Network.parse(sys.argv[3]))))
