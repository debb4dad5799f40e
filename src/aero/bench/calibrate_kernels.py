"""Calibration of our own engine: processor seconds of each kernel that protocols declare, by themselves, on one thread.

Products of matrices are measured step by step, at sizes of real models, and fitted to their kernels. What a protocol
does beside kernels is fitted to OTs, bytes and messages of nonlinear functions, which both parties run in two threads
of this process over TLS. Time is that of the thread: what else the machine does distorts it little.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import aero
from aero.bench.parties import connect
from aero.compiler.architecture import outline
from aero.cost.machine import Machine, step_units, units_of
from aero.engines.planning.declared import DeclaredSession
from aero.engines.two_party.engine import TwoPartyEngine
from aero.kernels import native
from aero.kernels.lattice_matmul import Columns, MatmulPlan
from aero.kernels.prg import Prg
from aero.kernels.rlwe import SecretKey
from aero.kernels.slots import P37, P50, SLOTS, SlotSecret
from aero.models.notation import parse
from aero.models.presets import Size
from aero.mpc.cost import ProtocolCost
from aero.mpc.functions.norm import plan_norm
from aero.mpc.functions.relu import plan_relu
from aero.mpc.functions.score_rows import ScoreRows
from aero.mpc.functions.smooth_relu import plan_smooth_relu
from aero.mpc.functions.softmax import plan_softmax
from aero.mpc.ot.supply import SupplyModel, set_up_cost, set_up_ots
from aero.mpc.party import Party, Role
from aero.mpc.plan import FunctionPlan
from aero.mpc.protocols.embedding import plan_embedding
from aero.mpc.protocols.keys import exchange_keys, keys_cost
from aero.mpc.protocols.linear import PARAMS, plan_linear
from aero.mpc.protocols.pair import plan_attend, plan_scores
from aero.mpc.share import Share
from aero.mpc.work import Work, evaluator_work, owner_work, sum_of
from aero.report.record import machine
from aero.wire import Channel
from aero.wire.keys import Identity, make_keys
from aero.wire.network import LOOPBACK

Progress = Callable[[str, float], None]
Sample = tuple[Work, float]
_SEED = bytes(16)  # nothing is secret here
_WIDTH, _FEATURES = 768, 64
_LEAST_SECONDS = 0.15
_CONTEXT, _TOKENS = 16, 5


def calibrate_two_party(name: str, progress: Progress = lambda label, share: None) -> Machine:
    """Measure the kernels on the level in use. About a minute on a quiet machine."""
    with native.use_threads(1):
        samples: list[Sample] = []
        products = list(_products())
        for i, (label, plan, prepared, shared) in enumerate(products):
            progress(label, 0.5 * i / len(products))
            samples += _product_samples(plan, prepared, shared)
        progress("slots", 0.5)
        samples += _slot_samples()
        units = _fitted(samples)
        progress("functions", 0.6)
        units |= _fitted(_in_threads(partial(_functions_of_party, partial(_done, progress))), units)
        units |= _fitted(_in_threads(_steps_of_party), units)
    return Machine(name, native.level(), machine(), aero.__version__, {k: float(f"{v:.4g}") for k, v in units.items()})


def _done(progress: Progress, label: str, share: float) -> None:
    progress(label, 0.6 + 0.4 * share)


def _products() -> Iterator[tuple[str, MatmulPlan, bool, bool]]:
    """As engines plan them: label, product, whether transforms are there, whether the matrix is a share."""
    for rows, inner, columns in (
        (128, _WIDTH, _WIDTH),
        (512, 256, 256),
        (64, 1024, 256),
        (1, _WIDTH, 8 * _WIDTH),
        (1, 256, 256),
    ):
        for opened in (False, True):
            plan = plan_linear(rows, inner, columns, 41, 25, opened=opened)
            yield f"linear {rows}x{inner}x{columns}", plan.product, plan.prepared, False
    for rows, columns in ((32, 256), (1, 4 * _WIDTH)):
        wide = plan_linear(rows, 256, columns, 55, 30)
        yield "wide linear", wide.product, wide.prepared, False
    embedding = plan_embedding(64, 16384, _WIDTH, 22)
    yield "embedding", embedding.product.product, embedding.product.prepared, False
    for queries, keys in ((64, 64), (128, 128), (1, 128)):
        for pair in (
            plan_scores(4, queries, keys, _FEATURES, 41, 25),
            plan_attend(4, queries, keys, _FEATURES, 41, 25),
        ):
            yield f"pair {queries}x{keys}", pair.products[0], False, True
    yield "wide pair", plan_scores(4, 64, 64, _FEATURES, 50, 25).products[0], False, True


def _product_samples(plan: MatmulPlan, prepared: bool, shared: bool) -> list[Sample]:
    """Of each step of a product."""
    rng, errors, masks = np.random.default_rng(0), Prg(_SEED, "errors"), Prg(_SEED, "masks")
    secret = SecretKey.generate(plan.params, Prg(_SEED, "secret"))
    keys = secret.public_keys(_SEED, Prg(_SEED, "key errors"))
    x = rng.integers(0, 1 << plan.ring_bits, (plan.batch, plan.rows, plan.inner), dtype=np.uint64)
    w = rng.integers(-(1 << 14), 1 << 14, (plan.batch, plan.inner, plan.columns))
    upload = plan.encrypt(secret, x, _SEED, errors)
    given: Any = plan.encode_weights(w) if shared else Columns.of(w[0])
    matrix = plan.prepare_weights(given) if prepared else given
    loaded = plan.load(upload, x)
    packed = plan.evaluate(keys, loaded, matrix)
    response, _ = plan.respond(keys, packed.copy(), errors, masks)
    owner, evaluator = owner_work(plan), evaluator_work(plan, prepared=prepared, shared=shared)

    def respond() -> None:
        plan.rounded(plan.respond(keys, packed.copy(), errors, masks)[1], errors, 1.0)
        response.to_bytes(plan)

    steps: list[tuple[Work, tuple[str, ...], Callable[[], object]]] = [
        (owner, ("encrypt",), lambda: plan.encrypt(secret, x, _SEED, errors).to_bytes()),
        (evaluator, ("load",), lambda: plan.load(upload, x)),
        (evaluator, ("transform", "multiply", "read", "switch"), lambda: plan.evaluate(keys, loaded, matrix)),
        (evaluator, ("respond", "entry"), respond),
        (owner, ("decrypt", "entry"), lambda: plan.rounded(plan.decrypt(secret, response))),
    ]
    if shared:
        steps.append((evaluator, ("encode",), lambda: plan.encode_weights(w)))
    return [(_only(work, names), _seconds(call)) for work, names, call in steps]


def _only(work: Work, kernels: Sequence[str]) -> Work:
    return {name: count for name, count in work.items() if name.split(" ")[0] in kernels}


def _slot_samples() -> list[Sample]:
    found: list[Sample] = []
    for field in (P50, P37):
        bits = field.p.bit_length()
        secret = SlotSecret.generate(field, Prg(_SEED, "secret"))
        key, errors = secret.public_key(_SEED, Prg(_SEED, "key errors")), Prg(_SEED, "errors")
        for count in (2, 8):
            u = np.random.default_rng(0).integers(0, field.p, (count, SLOTS), dtype=np.uint64)
            upload = secret.encrypt(u, _SEED, errors)
            response, _ = key.respond(upload, u, errors)
            for names, call in (
                ({"encrypt": count}, partial(secret.encrypt, u, _SEED, errors)),
                ({"multiply": count, "answer": count}, partial(key.respond, upload, u, errors)),
                ({"multiply": count, "answer": 1}, partial(key.respond, upload, u, errors, total=True)),
                ({"decrypt": count}, partial(secret.decrypt, response)),
            ):
                found.append(({f"slots {kernel} {bits}": n for kernel, n in names.items()}, _seconds(call)))
    return found


def _functions() -> list[FunctionPlan]:
    found: list[FunctionPlan] = []
    for rows in (1, 64):
        found += [
            plan_relu((rows, 1024), 22, 16, 22, 16),
            plan_smooth_relu((rows, 1024), 22, 16, 22, 16, form="silu"),
            plan_norm(rows, _WIDTH, 22, 16, 22, 16, eps=1e-5, centred=False),
        ]
    for queries, keys in ((1, 64), (64, 64), (128, 128)):
        found.append(plan_softmax(ScoreRows(4, ((queries, keys),)), 22, 14, 20, 18))
    return found


def _in_threads(measure: Callable[[Role, Channel], list[Sample]]) -> list[Sample]:
    """Of both parties, over TLS."""
    with tempfile.TemporaryDirectory(prefix="aero-") as name:
        folder = Path(name)
        make_keys(folder / "keys")
        found: dict[Role, list[Sample]] = {}
        failures: list[BaseException] = []

        def run(role: Role) -> None:
            try:
                with connect(role, folder, LOOPBACK, Identity(folder / "keys" / role.word)) as channel:
                    found[role] = measure(role, channel)
            except BaseException as error:
                failures.append(error)

        server = threading.Thread(target=run, args=(Role.SERVER,), daemon=True)
        server.start()
        run(Role.CLIENT)
        server.join()
        if failures:
            raise failures[0]
    return [sample for samples in found.values() for sample in samples]


def _functions_of_party(progress: Progress, role: Role, channel: Channel) -> list[Sample]:
    samples: list[Sample] = []
    plans: Sequence[FunctionPlan] = _functions()
    party, supply = Party(role, channel), SupplyModel()

    def timed(cost: ProtocolCost, call: Callable[[], object]) -> None:
        started = time.thread_time()
        call()
        samples.append((units_of(cost, role), time.thread_time() - started))

    for kind in (*PARAMS, P50, P37):
        for kinds in (((kind,), ()), ((), (kind,))):
            timed(keys_cost(*kinds), partial(exchange_keys, party, *kinds))
    timed(set_up_cost(), partial(set_up_ots, party))
    for i, plan in enumerate(plans):
        if role is Role.CLIENT:
            progress(type(plan).__name__, i / len(plans))
        cost, reads = plan.cost(), plan.reads
        x = Prg(_SEED, role.word).uniform(reads.shape, reads.bits - 4)
        own, theirs = cost.ots_from_client, cost.ots_from_server
        if role is Role.SERVER:
            own, theirs = theirs, own
        for repetition in range(3):
            made = supply.reserve(cost.ots_from_client, cost.ots_from_server)
            if made.messages:
                timed(made, partial(party.ots.reserve, own, theirs))
            supply.use(cost.ots_from_client, cost.ots_from_server)
            timed(cost, partial(plan.run, party, Share(x, reads.bits, reads.fraction_bits)))
            if not repetition:  # it warms up
                samples.pop()
    return samples


def _steps_of_party(role: Role, channel: Channel) -> list[Sample]:
    """A prompt and tokens after it of a small model, by the engine."""
    size = Size(vocab_size=64, context=_CONTEXT + _TOKENS, num_layers=2, num_heads=2, hidden_size=64)
    found = outline(parse("SM+R"), size)
    compiled, plan = found.programs, found.plan
    programs = [compiled.prefill(_CONTEXT, leave_state=True)]
    programs += [compiled.decode(past) for past in range(_CONTEXT, _CONTEXT + _TOKENS)]
    session, samples = DeclaredSession(plan), list[Sample]()
    with TwoPartyEngine(role, channel, plan) as engine:
        for program in programs:
            weights, ids = (
                (None, np.zeros(program.graph.length, np.int64)) if role is Role.CLIENT else (program.weights, None)
            )
            engine.prepare(program.graph, weights)
            work: Work = {}
            for line in session.run([program.graph]).lines:
                work = sum_of(work, step_units(line.cost, role))
            started = time.thread_time()
            engine.run(program.graph, weights=weights, ids=ids)
            samples.append((work, time.thread_time() - started))
    return samples[2:]  # the first token warms up


def _seconds(call: Callable[[], object]) -> float:
    """The least of some runs: what else the machine does only adds."""
    call()
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < _LEAST_SECONDS:
        started = time.thread_time()
        call()
        taken.append(time.thread_time() - started)
    return min(taken)


def _fitted(samples: Sequence[Sample], known: Mapping[str, float] | None = None) -> dict[str, float]:
    """Seconds of each kernel, none below zero, nearest to the samples less what is known, each of which is weighted by
    one over its square root."""
    known = known or {}
    names = list(dict.fromkeys(name for work, _ in samples for name in work if name not in known))
    y = np.array([s - sum(n * known[k] for k, n in work.items() if k in known) for work, s in samples])
    matrix = np.array([[work.get(name, 0) for name in names] for work, _ in samples], dtype=np.float64)
    weight = 1 / np.sqrt(np.array([s for _, s in samples]))
    size = matrix.max(axis=0)
    scaled, target = weight[:, None] * (matrix / size), weight * y
    found, kept = np.zeros(len(names)), list(range(len(names)))
    while kept:
        solution = np.linalg.lstsq(scaled[:, kept], target, rcond=None)[0]
        if solution.min() >= 0:
            found[kept] = solution
            break
        kept.pop(int(solution.argmin()))
    return {name: float(value) for name, value in zip(names, found / size, strict=True)}
