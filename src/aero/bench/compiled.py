"""What the compiler saves, measured: SPU on the graph as lowered and as compiled, same weights and prompt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from aero.compiler.compile import compile
from aero.compiler.lower import lower
from aero.compiler.run import load_model
from aero.compiler.verify import model_logits
from aero.engines.engine import RunCost
from aero.engines.spu.engine import SpuEngine, free_port
from aero.graph import Program
from aero.mpc.party import Role
from aero.report.record import Record

_TIMEOUT = 600.0  # a large step of SPU may be silent for long


def bench_compiled(run: Path, ids: np.ndarray, on_progress: Callable[[str], None] = lambda _: None) -> list[Record]:
    """Run a model's programs on SPU, both parties on this machine, plain TCP on loopback.

    ids: int64 [n], n >= 2. Every program runs twice, the second run is recorded: SPU compiles in the first.
    Records: forward/lowered and forward/compiled, the logits after the whole prompt; next-token/cached, the same logits
    by one token's program from the keys and values that the first n - 1 left. max_abs_error is against
    the model in float64.
    """
    if ids.ndim != 1 or len(ids) < 2:
        raise ValueError(f"give at least 2 tokens, not {ids.shape}")
    model = load_model(run)
    compiled = compile(model)
    expected = model_logits(model, ids[None])[0]
    programs: dict[str, tuple[Program, np.ndarray]] = {
        "forward/lowered": (lower(model, len(ids)), ids),
        "forward/compiled": (compiled.prefill(len(ids)), ids),
        "prefill": (compiled.prefill(len(ids) - 1, leave_state=True), ids[:-1]),
        "next-token/cached": (compiled.decode(len(ids) - 1), ids[-1:]),
    }
    results = _run_both(programs, on_progress)
    notation = str(model.config.notation)
    return [
        replace(
            Record.of_cost(cost, name, SpuEngine.name, notation, len(ids)),
            max_abs_error=float(np.abs(logits[0] - expected).max()),
        )
        for name, (logits, cost) in results.items()
        if name != "prefill"
    ]


def _run_both(
    programs: dict[str, tuple[Program, np.ndarray]], on_progress: Callable[[str], None]
) -> dict[str, tuple[np.ndarray, RunCost]]:
    """Both parties, each in a thread (SPU itself runs in a process for each): the client's last result of each."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in Role]
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            with SpuEngine(Role.SERVER, *addresses, insecure_plaintext=True, timeout=_TIMEOUT) as engine:
                for _ in range(2):
                    for program, _ids in programs.values():
                        engine.run(program.graph, weights=program.weights)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    results: dict[str, tuple[np.ndarray, RunCost]] = {}
    try:
        with SpuEngine(Role.CLIENT, *reversed(addresses), insecure_plaintext=True, timeout=_TIMEOUT) as engine:
            for repetition in range(2):
                for name, (program, ids) in programs.items():
                    on_progress(f"{name}, run {repetition + 1} of 2")
                    logits = engine.run(program.graph, ids=ids)
                    assert logits is not None
                    results[name] = (logits, engine.cost)
    finally:
        thread.join()
    if failures:
        raise failures[0]
    return results
