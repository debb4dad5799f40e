"""Private generation: a prompt read at once, then one token after the other from shared keys and values.

Both processes run on this machine, one thread each, our own engine over TLS, as in `aero.bench.forward`: weights are
random, of a trained model's scales. The tokens that follow the prompt are random, too: cost does not depend on them.
Seconds are the client's, of each run; keys, base OTs and the encoding of the weights are set-up, stated apart. Several
prompts go together: each run is then for all of them, and what a token costs is its part.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from aero.bench.forward import CALIBRATION_BLOCKS, preset_plan
from aero.bench.parties import run_parties
from aero.compiler.compile import rewrite
from aero.compiler.compiled import Compiled
from aero.compiler.trained_scale import trained_scale_program
from aero.cost.machine import Computer
from aero.cost.two_party import predicted
from aero.engines.engine import RunCost
from aero.engines.planning.declared import DeclaredRun, DeclaredSession
from aero.engines.two_party.engine import TwoPartyEngine
from aero.graph import Program, interpret
from aero.graph.ring_plan import RingPlan
from aero.graph.serialize import save
from aero.models.notation import Notation
from aero.models.presets import Size
from aero.mpc.party import Role
from aero.report.record import Record
from aero.wire.keys import make_keys
from aero.wire.network import LOOPBACK, Network


def bench_generate(
    notation: Notation,
    size: Size,
    tokens: int,
    networks: tuple[Network, ...] = (LOOPBACK,),
    *,
    batch: int = 1,
    rows: int = 1,
    seed: int = 0,
    on: Computer | None = None,
    weights_bytes: int | None = None,
) -> list[Record]:
    """`batch` prompts of `size.context` tokens, then `tokens` steps of each, on each network: records "prefill" and
    "next-token", of all prompts together. rows: tokens that each step reads and gives the logits after, as where
    guesses hold (`aero.serve.drafts`). on: what each is predicted by; by default there is no prediction.
    weights_bytes: for transforms of weights, as of `WeightStore`.

    ConnectionError when a party fails.
    """
    if tokens < 1 or batch < 1 or rows < 1:
        raise ValueError(f"cannot time {tokens} steps of {rows} tokens, {batch} prompts; give at least 1 of each")
    whole = dataclasses.replace(size, context=size.context + tokens * rows)
    rng = np.random.default_rng([seed, whole.context])
    program, _, _ = rewrite(trained_scale_program(notation, whole, seed=seed), softmax_base="2")
    blocks = rng.integers(whole.vocab_size, size=(CALIBRATION_BLOCKS, whole.context))
    plan = preset_plan(notation, whole, program, list(blocks), batch * rows)
    ids = rng.integers(whole.vocab_size, size=(batch, whole.context))
    every = np.stack([interpret(program, prompt) for prompt in ids])  # [batch, tokens, V]
    starts = [size.context - 1, *range(size.context, whole.context, rows)]
    exact = [
        every[:, start : start + (rows if index else 1)].reshape(-1, whole.vocab_size)
        for index, start in enumerate(starts)
    ]
    records = []
    for network in networks:
        with tempfile.TemporaryDirectory(prefix="aero-") as name:
            folder = Path(name)
            make_keys(folder / "keys")
            save(program, folder)
            (folder / "plan.json").write_text(json.dumps(plan.to_json()))
            np.save(folder / "ids.npy", ids)
            job = {
                "network": network.name,
                "prompt": size.context,
                "batch": batch,
                "rows": rows,
                "weights_bytes": weights_bytes,
            }
            reports = run_parties("aero.bench.generate_party", folder, job)
            logits = np.split(np.load(folder / "logits.npy"), np.cumsum([len(part) for part in exact])[:-1])
        client, server = reports[Role.CLIENT], reports[Role.SERVER]
        runs = _declared(program, plan, size.context, batch, rows)
        for index, (mine, theirs) in enumerate(zip(client["steps"], server["steps"], strict=True)):
            record = Record.of_cost(
                RunCost(**mine["cost"]), mine["work"], TwoPartyEngine.name, str(notation), mine["context"]
            )
            extra = {
                "network": network.name,
                "threads": 1,
                "cpu_seconds": {"client": mine["cpu_seconds"], "server": theirs["cpu_seconds"]},
                "load_seconds": theirs["load_seconds"],
                "set_up": client["set_up"],
                "peak_bytes": {"client": mine["peak_bytes"], "server": theirs["peak_bytes"]},
                "same_token": bool((logits[index].argmax(axis=1) == exact[index].argmax(axis=1)).all()),
                "steps": mine["steps"],
                "prompts": batch,
                "rows": rows if index else 1,
                "multiplications": mine["multiplications"],
                "bytes_per_token": (mine["cost"]["bytes_client_to_server"] + mine["cost"]["bytes_server_to_client"])
                / batch,
                "rounds_per_token": mine["cost"]["rounds"] / batch,
            }
            if on is not None:
                extra["predicted"] = predicted(next(runs), on, network)
            error = float(np.abs(logits[index] - exact[index]).max())
            records.append(dataclasses.replace(record, max_abs_error=error, extra={**record.extra, **extra}))
    return records


def _declared(program: Program, plan: RingPlan, prompt: int, batch: int, rows: int) -> Iterator[DeclaredRun]:
    """What each run of the session declares, the prompt's first."""
    compiled, session = Compiled(program), DeclaredSession(plan)
    yield session.run([compiled.prefill(prompt, leave_state=True).graph] * batch)
    for past in range(prompt, compiled.context, rows):
        yield session.run([compiled.decode(past, rows, rows).graph] * batch)
