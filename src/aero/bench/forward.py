"""A whole private forward pass: from token ids to the logits of the last position, between two processes.

Both processes run on this machine, our own engine over TLS, its kernels with as many threads as asked. Weights are
random, of a trained model's scales (`trained_scale`), and compiled as any model is; number formats come from random
tokens, other ones than those that are timed, and scores have no windows. Seconds are the client's, from its ids to its
logits; keys, base OTs and the encoding of the weights are set-up, stated apart. The error is against the compiled
program in float64.

SPU is too slow to run in full each time: one layer of it is measured, at every position, with a vocabulary of two
tokens, and multiplied by the number of layers. The record says so; embedding and vocabulary projection, which SPU does
slowly, are left out of it.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from aero.bench.parties import run_parties
from aero.compiler.architecture import outline
from aero.compiler.compile import rewrite
from aero.compiler.compiled import Compiled
from aero.compiler.trained_scale import trained_scale_plan, trained_scale_program
from aero.cost.machine import Computer
from aero.cost.two_party import predicted
from aero.engines.engine import RunCost
from aero.engines.planning.declared import declared_run
from aero.engines.spu.engine import SpuEngine, free_port
from aero.engines.two_party.engine import TwoPartyEngine
from aero.engines.two_party.room import with_room
from aero.graph import Program, interpret
from aero.graph.ring_plan import RingPlan
from aero.graph.serialize import save
from aero.models.notation import Notation
from aero.models.presets import Size
from aero.mpc.party import Role
from aero.report.record import Record
from aero.wire.keys import make_keys
from aero.wire.network import LOOPBACK, Network

ENGINES = (TwoPartyEngine.name, SpuEngine.name)
CALIBRATION_BLOCKS = 4
_TIME_LIMIT = 3600.0
_TINY_VOCABULARY = 2

Report = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A model that is ready to run. program: the logits of the last position of `ids`; exact: its output in float64."""

    notation: Notation
    program: Program
    plan: RingPlan
    ids: np.ndarray
    exact: np.ndarray


def prepare(notation: Notation, size: Size, *, seed: int = 0) -> Prepared:
    """Draw weights, compile, choose number formats. Takes about a minute at GPT-2 small's size."""
    rng = np.random.default_rng([seed, size.context])
    program, _, _ = rewrite(trained_scale_program(notation, size, seed=seed), softmax_base="2")
    blocks = rng.integers(size.vocab_size, size=(CALIBRATION_BLOCKS, size.context))
    plan = preset_plan(notation, size, program, list(blocks))
    last, ids = Compiled(program).prefill(size.context), rng.integers(size.vocab_size, size=size.context)
    return Prepared(notation, last, plan, ids, interpret(last, ids))


def preset_plan(
    notation: Notation, size: Size, program: Program, calibration: Sequence[np.ndarray], rows: int = 1
) -> RingPlan:
    """Number formats of a preset's program of random weights: those with which `aero cost` prices the preset, where
    they hold with half of the margin, so that chance does not decide on the last bit of a range; its own where products
    ask for larger moduli, which no price knows. rows: as of `with_room`."""
    compiled, usual = Compiled(program), outline(notation, size).plan.values
    plan = with_room(compiled, trained_scale_plan(program, calibration, usual=usual), rows)
    return with_room(compiled, trained_scale_plan(program, calibration), rows) if plan.moduli else plan


def bench_two_party(
    model: Prepared, network: Network = LOOPBACK, on: Computer | None = None, weights_bytes: int | None = None
) -> Record:
    """Run it once between two processes over TLS, with the threads of `on`, what it is predicted by; by default one
    thread, and no prediction. weights_bytes: for transforms of weights, as of `WeightStore`. ConnectionError when a
    party fails."""
    threads = on.threads if on else 1
    with tempfile.TemporaryDirectory(prefix="aero-") as name:
        folder = Path(name)
        make_keys(folder / "keys")
        save(model.program, folder)
        (folder / "plan.json").write_text(json.dumps(model.plan.to_json()))
        np.save(folder / "ids.npy", model.ids)
        reports = run_parties(
            "aero.bench.forward_party",
            folder,
            {"network": network.name, "weights_bytes": weights_bytes},
            threads=threads,
        )
        logits = np.load(folder / "logits.npy")
    client, server = reports[Role.CLIENT], reports[Role.SERVER]
    record = Record.of_cost(
        RunCost(**client["cost"]), "forward", TwoPartyEngine.name, str(model.notation), len(model.ids)
    )
    extra = {
        "network": network.name,
        "threads": threads,
        "logit_std": float(model.exact.std()),
        "cpu_seconds": {party.word: report["cpu_seconds"] for party, report in reports.items()},
        "peak_bytes": {party.word: report["peak_bytes"] for party, report in reports.items()},
        "load_seconds": server["load_seconds"],
        "set_up": client["set_up"],
        "steps": client["steps"],
        "server_steps": server["steps"],
    }
    if on is not None:
        extra["predicted"] = predicted(declared_run(model.program.graph, model.plan), on, network)
    error = float(np.abs(logits - model.exact).max())
    return dataclasses.replace(record, max_abs_error=error, extra={**record.extra, **extra})


def bench_spu_layer(notation: Notation, size: Size, on_progress: Report = lambda _: None) -> Record:
    """One layer on SPU, over plain TCP on loopback, multiplied by the number of layers."""
    small = dataclasses.replace(size, num_layers=1, vocab_size=_TINY_VOCABULARY)
    program, _, _ = rewrite(trained_scale_program(notation, small), softmax_base="2")
    ids = np.random.default_rng(1).integers(small.vocab_size, size=size.context)
    addresses = [f"127.0.0.1:{free_port()}" for _ in Role]
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            with SpuEngine(Role.SERVER, *addresses, insecure_plaintext=True, timeout=_TIME_LIMIT) as engine:
                engine.run(program.graph, weights=program.weights)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with SpuEngine(Role.CLIENT, *reversed(addresses), insecure_plaintext=True, timeout=_TIME_LIMIT) as engine:
            on_progress("one layer on SPU")
            logits, cost = engine.run(program.graph, ids=ids), engine.cost
    finally:
        thread.join()
    if failures:
        raise failures[0]
    assert logits is not None
    times = size.num_layers
    up, down, messages = (
        None if n is None else n * times
        for n in (cost.bytes_client_to_server, cost.bytes_server_to_client, cost.messages)
    )
    scaled = RunCost(cost.seconds * times, up, down, None, messages)
    record = Record.of_cost(scaled, "forward", SpuEngine.name, str(notation), size.context)
    note = f"one layer measured and multiplied by {times}; without embedding and vocabulary projection"
    extra = {"network": LOOPBACK.name, "note": note, "measured_seconds": cost.seconds}
    error = float(np.abs(logits - interpret(program, ids)).max())
    return dataclasses.replace(record, max_abs_error=error, extra={**record.extra, **extra})
