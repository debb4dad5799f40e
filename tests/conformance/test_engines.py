"""One suite for every engine: each operation, and whole small models, against float64 within what the engine states."""

import dataclasses
import importlib.util
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from aero.compiler.positions import decode, prefill
from aero.compiler.quantize import quantize
from aero.engines.engine import Engine
from aero.engines.insecure.dealer import InsecureDealerEngine
from aero.engines.insecure.plain import InsecurePlainEngine
from aero.engines.planning.step_plans import bare_pairs, function_plan
from aero.engines.planning.steps import plan_steps
from aero.engines.spu.engine import SpuEngine, free_port
from aero.engines.two_party.engine import TwoPartyEngine
from aero.graph import OPS, Node, Program, interpret_step
from aero.graph.ring_plan import RingPlan
from aero.mpc.party import Role
from aero.wire.memory import channel_pair
from conformance import stated
from programs import ENCODERS, RUNGS, random_encoder, random_ids, random_program

LENGTH, WIDTH, HEADS, VOCABULARY = 6, 8, 2, 12
PATIENCE = 240.0
Runs = list[tuple[Program, np.ndarray]]


def in_process(engine: Engine, runs: Runs) -> list[np.ndarray]:
    with engine:
        return [engine.run(program.graph, weights=program.weights, ids=ids) for program, ids in runs]


def two_parties(client: Engine, server: Engine, runs: Runs) -> list[np.ndarray]:
    with ThreadPoolExecutor(2) as pool, client, server:
        ours = pool.submit(lambda: [client.run(program.graph, ids=ids) for program, ids in runs])
        theirs = pool.submit(lambda: [server.run(program.graph, weights=program.weights) for program, _ in runs])
        assert theirs.result(PATIENCE) == [None] * len(runs)
        return ours.result(PATIENCE)


def on_plain(plan: RingPlan, runs: Runs) -> list[np.ndarray]:
    return in_process(InsecurePlainEngine(plan), runs)


def on_dealer(plan: RingPlan, runs: Runs) -> list[np.ndarray]:
    return in_process(InsecureDealerEngine(plan), runs)


def on_two_party(plan: RingPlan, runs: Runs) -> list[np.ndarray]:
    channels = channel_pair(timeout=PATIENCE)
    return two_parties(*(TwoPartyEngine(p, c, plan) for p, c in zip(Role, channels, strict=True)), runs)


def on_spu(plan: RingPlan, runs: Runs) -> list[np.ndarray]:
    addresses = [f"127.0.0.1:{free_port()}" for _ in Role]
    made: list[Any] = [None, None]

    def connect(index: int, party: Role) -> None:
        pair = addresses if index == 0 else addresses[::-1]
        made[index] = SpuEngine(party, *pair, insecure_plaintext=True, timeout=60.0)

    threads = [threading.Thread(target=connect, args=job) for job in enumerate(Role)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return two_parties(*made, runs)


ENGINES: dict[str, tuple[Callable[[RingPlan, Runs], list[np.ndarray]], Callable[..., stated.Errors]]] = {
    "insecure-plain": (on_plain, lambda program, plan, _: stated.rounded(program, plan, 0.5)),
    "insecure-dealer": (on_dealer, lambda program, plan, _: stated.rounded(program, plan, 1.5)),
    "two-party": (on_two_party, stated.protocols),
    "spu-cheetah": (on_spu, lambda *_: stated.spu),
}
without_spu = pytest.mark.skipif(importlib.util.find_spec("spu") is None, reason="the extra spu is not installed")
EVERY = [pytest.param(name, marks=[without_spu, pytest.mark.slow] if name == "spu-cheetah" else []) for name in ENGINES]


def check(engine: str, program: Program, runs: Runs) -> None:
    """`program` computes every position; `runs` are programs made from it."""
    blocks = [random_ids(program, seed) for seed in range(8)]
    plan = quantize(program, blocks).plan
    run, errors = ENGINES[engine]
    outputs = run(plan, runs)
    state: dict[str, np.ndarray] = {}
    bare: dict[str, str] = {}
    for (one, ids), output in zip(runs, outputs, strict=True):
        exact, next_state = interpret_step(one, ids, state)
        limit = stated.tolerance(one, ids, errors(one, plan, bare), state)
        assert np.abs(output - exact).max() <= limit
        assert limit < np.abs(exact).max(), "a bound that could not fail would show nothing"
        pairs = bare_pairs(one.graph, bare)
        bare = {name: pairs[value] for name, value in one.graph.state_out.items() if value in pairs}
        state = next_state


def one_op(*nodes: Node, seed: int = 0, **weights: tuple[int, ...]) -> Program:
    """An embedding, some nodes, and a linear layer to the output."""
    rng = np.random.default_rng(seed)
    tensors = {name: rng.normal(0, 1, shape) for name, shape in weights.items()}
    tensors |= {"table": rng.normal(0, 1, (VOCABULARY, WIDTH)), "out.w": rng.normal(0, 0.5, (WIDTH, 5))}
    last = nodes[-1].name if nodes else "x"
    end = Node("out", "linear", (last,), ("out.w",))
    return Program.of(LENGTH, [Node("x", "embedding", ("ids",), ("table",)), *nodes, end], tensors, "out")


ATTENTION = (
    Node("scores", "scores", ("x", "x"), (), {"heads": HEADS}),
    Node("p", "softmax", ("scores",)),
    Node("y", "attend", ("p", "x")),
)
GROUPED = (
    Node("k", "linear", ("x",), ("w",)),
    Node("scores", "scores", ("x", "k"), (), {"heads": 4, "group": 2}),
    ATTENTION[1],
    Node("y", "attend", ("p", "k"), (), {"group": 2}),
)
OPERATIONS = {
    "embedding": one_op(),
    "linear": one_op(Node("y", "linear", ("x",), ("w", "b")), w=(WIDTH, WIDTH), b=(WIDTH,)),
    "gain": one_op(Node("y", "gain", ("x",), ("w",)), w=(WIDTH,)),
    "gain, scalar": one_op(Node("y", "gain", ("x",), ("w",)), w=()),
    "gain of each row": one_op(Node("y", "gain", ("x",), ("w",)), w=(LENGTH, WIDTH)),
    "bias": one_op(Node("y", "bias", ("x",), ("w",)), w=(LENGTH, WIDTH)),
    "scale": one_op(Node("y", "scale", ("x",), (), {"factor": -1.3})),
    "add": one_op(Node("z", "scale", ("x",), (), {"factor": 0.3}), Node("y", "add", ("x", "z"))),
    "features side by side": one_op(
        Node("z", "relu", ("x",)),
        Node("both", "concat_columns", ("x", "z")),
        Node("y", "linear", ("both",), ("w",)),
        w=(2 * WIDTH, WIDTH),
    ),
    "multiply": one_op(Node("z", "scale", ("x",), (), {"factor": 0.3}), Node("y", "multiply", ("x", "z"))),
    "rotary": one_op(Node("y", "rotary", ("x",), (), {"heads": HEADS, "rotated": 2, "base": 100.0, "start": 3})),
    "rotary, scaled": one_op(
        Node(
            "y", "rotary", ("x",), (),
            {"heads": HEADS, "rotated": 4, "base": 9.0, "start": 3}
            | {"factor": 8.0, "low": 1.0, "high": 4.0, "original": 20.0},
        )
    ),
    "attention": one_op(*ATTENTION),
    "attention in base 2": one_op(ATTENTION[0], Node("p", "softmax", ("scores",), (), {"base": 2.0}), ATTENTION[2]),
    "attention without a mask": one_op(*(n.replace(attrs={**n.attrs, "mask": "none"}) for n in ATTENTION)),
    "attention, heads that share keys": one_op(*GROUPED, w=(WIDTH, WIDTH // 2)),
    "attention without a mask, heads that share keys": one_op(
        GROUPED[0], *(n.replace(attrs={**n.attrs, "mask": "none"}) for n in GROUPED[1:]), w=(WIDTH, WIDTH // 2)
    ),
    "relu": one_op(Node("y", "relu", ("x",))),
    "gelu": one_op(Node("y", "gelu", ("x",))),
    "silu": one_op(Node("y", "silu", ("x",))),
    "tanh": one_op(Node("y", "tanh", ("x",))),
    "mean of rows": one_op(Node("y", "mean_rows", ("x",))),
    "gelu, exact": one_op(Node("y", "gelu", ("x",), (), {"form": "erf"})),
    "layer norm": one_op(Node("y", "layer_norm", ("x",), (), {"eps": 1e-5})),
    "rms norm": one_op(Node("y", "rms_norm", ("x",), (), {"eps": 1e-5})),
    "rms norm of each head": one_op(Node("y", "rms_norm", ("x",), (), {"eps": 1e-5, "heads": HEADS})),
}  # fmt: skip


def test_every_operation_is_run():
    """Rows are moved by the tests of states."""
    found = {node.op for program in OPERATIONS.values() for node in program.graph.nodes}
    assert found | {"rows", "concat_rows"} == set(OPS)


@pytest.mark.parametrize("engine", EVERY)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_one_operation(engine, operation):
    program = OPERATIONS[operation]
    check(engine, program, [(program, random_ids(program, 99))])


@pytest.mark.parametrize("engine", EVERY)
@pytest.mark.parametrize("rung", RUNGS)
def test_whole_models(engine, rung):
    """Rows are moved in them, as only the last position is wanted."""
    program = random_program(layers=1, every_position=True, **RUNGS[rung])
    check(engine, program, [(prefill(program, program.graph.length), random_ids(program, 99))])


@pytest.mark.parametrize("engine", EVERY)
@pytest.mark.parametrize("form", ENCODERS)
def test_whole_encoders(engine, form):
    program = random_encoder(**ENCODERS[form])
    check(engine, program, [(prefill(program, 5), random_ids(program, 99)[:5])])


@pytest.mark.parametrize("engine", EVERY)
def test_a_prompt_and_the_token_after_it(engine):
    """Keys and values stay in the engine, in shares."""
    program = random_program(layers=1, every_position=True)
    ids = random_ids(program, 99)
    check(engine, program, [(prefill(program, 4, leave_state=True), ids[:4]), (decode(program, 4), ids[4:5])])


def test_scores_in_a_window():
    """Where scores are small, the engine goes without maxima."""
    program = random_program(length=10, layers=1, every_position=True)
    small = {name: w * 0.2 if name.startswith("blocks.0.q.") else w for name, w in program.weights.items()}
    program = dataclasses.replace(program, weights=small)
    ids = random_ids(program, 99)
    runs = [(prefill(program, 9, leave_state=True), ids[:9]), (decode(program, 9), ids[9:])]
    plan = quantize(program, [random_ids(program, seed) for seed in range(8)]).plan
    steps = [step for one, _ in runs for step in plan_steps([one.graph], plan)[0] if step.node.op == "softmax"]
    assert len(steps) == 2 and all(function_plan(step).window is not None for step in steps)
    check("two-party", program, runs)
