"""What a ring plan has room for, every step of a session is computed with; and the check is the engine's own."""

import dataclasses
import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from aero.compiler.compiled import Compiled
from aero.compiler.quantize import quantize
from aero.engines.engine import PromptRun
from aero.engines.planning.step_plans import checked_schedule
from aero.engines.planning.steps import WEIGHTED
from aero.engines.reveal import LOGITS, TOKEN
from aero.engines.two_party import weight_store
from aero.engines.two_party.engine import TwoPartyEngine
from aero.engines.two_party.room import check_room, with_room
from aero.engines.two_party.weight_store import WeightStore, encoded_bytes
from aero.graph import Node, Program, interpret
from aero.graph.ring_plan import Format, RingPlan, state_name
from aero.kernels.lattice_matmul import Columns, MatmulPlan
from aero.kernels.lattice_noise import NoRoomError
from aero.mpc.party import Role
from aero.wire.memory import channel_pair
from conformance import stated
from programs import RUNGS, random_ids, random_program

PROMPTS, CONTEXT = 5, 9


def outliers(program: Program, factor: float, seed: int = 0) -> Program:
    """Trained models have them: two channels of the residual stream that are so many times larger, as the columns of
    what writes them are, and whose readers are so many times smaller. A change of basis makes the opposite."""
    width = program.graph.weight_shapes["embedding.table"][1]
    channels = np.ones(width)
    channels[np.random.default_rng(seed).choice(width, 2, replace=False)] = factor
    weights = dict(program.weights)
    for node in program.graph.nodes:
        last = node.name.rpartition(".")[2]
        if last in ("embedding", "positions", "o", "w", "out"):
            weights |= {name: weights[name] * channels for name in node.weights}
        if last in ("q", "k", "v", "w", "in", "logits"):
            weights[node.weights[0]] = weights[node.weights[0]] / channels[:, None]
    return Program(program.graph, weights)


def scaled(program: Program, factor: float) -> Program:
    return Program(program.graph, {name: factor * w for name, w in program.weights.items()})


def planned(program: Program):
    return quantize(program, [random_ids(program, seed) for seed in range(4)]).plan


def a_program(**more) -> Program:
    return random_program(**{"length": CONTEXT, "layers": 1, "every_position": True, **more})


def steps_of(compiled: Compiled):
    """Batches of a session: prompts of every length, next tokens of one, of an odd number and of all of the prompts,
    texts that go on, and both together."""
    for length in range(1, CONTEXT + 1):
        yield [compiled.prefill(length, leave_state=True)]
    for count in (1, 3, PROMPTS):
        yield [compiled.decode(1 + i) for i in range(count)]
        yield [compiled.prefill(1, leave_state=True)] * count
    yield [compiled.prefill(2, leave_state=True), compiled.prefill(3, leave_state=True)]
    yield [compiled.decode(2, 3), compiled.decode(1), compiled.prefill(4, leave_state=True)]
    yield [compiled.decode(CONTEXT - 1)]
    yield [compiled.decode(1, 3, 3)]
    yield [compiled.decode(1, CONTEXT - 1)]


def declined(compiled: Compiled, plan, reveal=LOGITS) -> list[str]:
    """What a server would not compute: by the engine's own loading of weights, before each step."""
    found = []
    engine = TwoPartyEngine(Role.SERVER, channel_pair()[1], plan)
    engine.reveal_only(reveal, compiled.program.graph.shapes[compiled.program.graph.output][1])
    for programs in steps_of(compiled):
        batch = [PromptRun(program.graph, prompt=i, weights=program.weights) for i, program in enumerate(programs)]
        try:
            engine.load(batch)
        except NoRoomError as error:
            found.append(str(error))
    return found


MODELS = {
    "channels 100 times larger": outliers(a_program(vocabulary=4000, width=16), 100.0),
    "channels 1000 times smaller, large readers": outliers(a_program(vocabulary=700, width=16), 1e-3),
    "channels 1000 times larger": outliers(a_program(vocabulary=300, width=16), 1000.0, seed=1),
    "channels 1000 times larger, relu": outliers(a_program(activation="relu", width=16), 1000.0, seed=2),
    "very small weights": scaled(a_program(), 1e-5),
    "no weights": scaled(a_program(), 0.0),
    "layer norm": a_program(norm=True, activation="gelu"),
}
NEED_LARGER_MODULI = [name for name in MODELS if "1000" in name] + ["channels 100 times larger"]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("reveal", [LOGITS, TOKEN], ids=str)
def test_what_has_room_is_computed_for_any_number_of_rows(name, reveal):
    compiled = Compiled(MODELS[name])
    plan = with_room(compiled, planned(compiled.program), PROMPTS)
    assert declined(compiled, plan, reveal) == []
    check_room(compiled, plan, PROMPTS, reveal)


@pytest.mark.parametrize("name", MODELS)
def test_the_check_finds_what_the_engine_declines(name):
    compiled = Compiled(MODELS[name])
    usual = dataclasses.replace(planned(compiled.program), moduli={})
    needed, refused = with_room(compiled, usual, PROMPTS).moduli, declined(compiled, usual)
    for node in {message.split(":")[0] for message in refused}:
        assert any(part in needed for part in node.split()), "what is declined gets a larger modulus"
    if refused:
        with pytest.raises(NoRoomError, match="noise may reach"):
            check_room(compiled, usual, PROMPTS, LOGITS)
    assert bool(needed) == bool(refused) == (name in NEED_LARGER_MODULI)


@pytest.mark.parametrize("seed", range(12))
def test_shapes_at_random(seed):
    rng = np.random.default_rng(seed)
    heads = int(rng.integers(1, 4))
    rung = list(RUNGS.values())[seed % len(RUNGS)]
    program = a_program(
        width=8 * heads,
        heads=heads,
        vocabulary=int(rng.integers(3, 3000)),
        layers=int(rng.integers(1, 3)),
        seed=seed,
        **rung,
    )
    compiled = Compiled(outliers(program, float(10 ** rng.uniform(-1, 2.5)), seed))
    try:
        plan = with_room(compiled, planned(compiled.program), PROMPTS)
    except ValueError as error:  # a norm or GELU of numbers that are too large for it
        assert ": " in str(error) and str(error).split(":")[0].split()[0] in compiled.program.graph.by_name
        return
    for reveal in (LOGITS, TOKEN):
        assert declined(compiled, plan, reveal) == []


@pytest.mark.parametrize("name", NEED_LARGER_MODULI[:2])
def test_a_larger_modulus_computes_the_same_function(name):
    """A prompt of a model that is declined otherwise, against float64, within what the protocols state."""
    program = MODELS[name]
    compiled = Compiled(program)
    plan = with_room(compiled, planned(program), PROMPTS)
    step, ids = compiled.prefill(4), random_ids(program, 1)[:4]
    engines = [TwoPartyEngine(p, c, plan) for p, c in zip(Role, channel_pair(timeout=240), strict=True)]
    with ThreadPoolExecutor(2) as pool:
        client = pool.submit(engines[0].run, step.graph, ids=ids)
        server = pool.submit(engines[1].run, step.graph, weights=step.weights)
        found, _ = client.result(240), server.result(240)
    exact = interpret(step, ids)
    allowed = stated.tolerance(step, ids, stated.protocols(step, plan))
    assert np.abs(found - exact).max() <= allowed < np.abs(exact).max()


def test_a_store_that_was_checked_has_all_that_any_step_reads(monkeypatch):
    """Nothing is encoded or transformed after it, whatever a session asks for, as processes do that share it; and what
    is computed is what an engine computes that encodes for itself."""
    compiled = Compiled(a_program(vocabulary=300))
    plan = with_room(compiled, planned(compiled.program), PROMPTS)
    store = check_room(compiled, plan, PROMPTS, LOGITS, 10**9)
    held = store.encoded_bytes
    expected = WeightStore(plan)
    for steps in steps_of(compiled):
        stages = checked_schedule([step.graph for step in steps], plan).stages
        groups = [stage.groups for stage in stages if stage.op in WEIGHTED]
        weights = {name: array for step in steps for name, array in step.weights.items()}
        expected.load(groups, weights)
        with monkeypatch.context() as patched:
            patched.setattr(weight_store, "encoded_matrix", forbidden)
            patched.setattr(MatmulPlan, "prepare_weights", forbidden)
            store.load(groups, weights)
        for several in groups:
            one, other = store.of(several), expected.of(several)
            assert (one.plan, one.noise) == (other.plan, other.noise)
            assert isinstance(one.encoded, np.ndarray) == one.plan.prepared
            for a, b in zip(arrays_of(one.encoded), arrays_of(other.encoded), strict=True):
                assert np.array_equal(a, b)
    assert store.encoded_bytes == held and held.transforms > 0


@pytest.mark.parametrize("max_bytes", [0, 700_000, 10**9])
def test_what_encoded_weights_take_is_known_from_formats(max_bytes):
    """Of numbers a bound, which is met where the largest needs all bits of its format; of transforms exactly."""
    compiled = Compiled(a_program(vocabulary=300))
    plan = with_room(compiled, planned(compiled.program), PROMPTS)
    store, several, weights = WeightStore(plan, max_bytes), [], {}
    for step in (compiled.prefill(4, leave_state=True), compiled.decode(4)):
        several += [stage.groups for stage in checked_schedule([step.graph], plan).stages if stage.op in WEIGHTED]
        weights |= step.weights
    store.load(several, weights)
    stated, found = encoded_bytes(several, plan, max_bytes), store.encoded_bytes
    assert stated.transforms == found.transforms <= max_bytes
    count = sum(math.prod(weights[name].shape) for name, _ in store._matrices)
    assert 2 * count <= found.numbers <= stated.numbers <= 3.2 * count  # of a table, there are zeros behind each column
    assert (found.transforms > 0) == (max_bytes > 0)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux counts memory of a process's own so")
def test_a_forked_process_reads_weights_without_memory_of_its_own():
    """Numbers and transforms of 11 MB, read whole by products of four rows and of one."""
    node = Node("n", "linear", (state_name("x"),), ("w",))
    plan = RingPlan({"x": Format(41, 14), "n": Format(27, 14)}, {"w": Format(17, 14)}, {})
    weights = {"w": np.random.default_rng(0).normal(0, 0.2, (1024, 1024))}
    programs = [Program.of(rows, [node], weights, "n", state_in={state_name("x"): (rows, 1024)}) for rows in (4, 1)]
    groups = [checked_schedule([program.graph], plan).stages[0].groups for program in programs]
    store = WeightStore(plan)
    store.load(groups, weights := programs[0].weights)
    shared = sum(store.encoded_bytes)
    assert shared >= 11 * 1024**2
    hear, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            before = own_memory()
            store.load(groups, weights)
            found = sum(int(part.sum()) for of in groups for part in arrays_of(store.of(of).encoded)) % 2**31
            os.write(tell, json.dumps([own_memory() - before, found]).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    grown, found = json.loads(os.read(hear, 1000))
    assert found == sum(int(part.sum()) for of in groups for part in arrays_of(store.of(of).encoded)) % 2**31
    assert grown < shared / 10


def own_memory() -> int:
    """Bytes that no other process shares."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def forbidden(*args):
    raise AssertionError("this was to be done before")


def arrays_of(encoded):
    return encoded.parts if isinstance(encoded, Columns) else [encoded]


def test_what_nothing_can_carry_is_refused_by_name():
    compiled = Compiled(a_program())
    plan = planned(compiled.program)
    huge = dataclasses.replace(plan, values={**plan.values, "embedding": Format(58, 16)})
    with pytest.raises(ValueError, match=r"embedding: 5\d ring bits to 5\d: at most 64, and the output at most 54"):
        with_room(compiled, huge, PROMPTS)
