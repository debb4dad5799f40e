"""The two-party engine on a linear graph: equal to the plain engine within the derived bound, and what it refuses."""

import dataclasses
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from aero.engines import on_shares
from aero.engines.engine import PromptRun
from aero.engines.insecure.plain import InsecurePlainEngine
from aero.engines.on_shares import check_states
from aero.engines.planning.declared import AGREED, declared_run
from aero.engines.planning.stages import joined
from aero.engines.planning.step_plans import bare_pairs, checked_schedule, linear_plan, stacked_plan
from aero.engines.planning.steps import state_format
from aero.engines.two_party import weight_store
from aero.engines.two_party.engine import TwoPartyEngine
from aero.engines.two_party.weight_store import Groups, WeightStore
from aero.graph import Node, Program
from aero.graph.ops import rotary
from aero.graph.ring_plan import Format, RingPlan
from aero.kernels.lattice_matmul import Columns
from aero.kernels.lattice_noise import ColumnSizes, weight_noise
from aero.kernels.rlwe import SHARES, WIDE
from aero.mpc.party import Role
from aero.mpc.protocols.agree import agree_cost
from aero.mpc.protocols.keys import keys_cost
from aero.mpc.protocols.linear import MAX_ERROR
from aero.mpc.share import Share
from aero.wire.keys import make_keys
from aero.wire.memory import channel_pair
from engines.linear_program import (
    INPUT,
    error_bound,
    linear_program,
    plan_without_extensions,
    source_program,
)

FRACTION_BITS, INTEGER_BITS = 11, 9


def numbers(program: Program, seed: int = 1) -> tuple[RingPlan, np.ndarray]:
    plan = plan_without_extensions(program.graph, FRACTION_BITS, INTEGER_BITS)
    return plan, np.random.default_rng(seed).normal(0, 1, program.graph.state_in[INPUT])


def plain_output(program: Program, plan: RingPlan, x: np.ndarray) -> np.ndarray:
    source = source_program(program, x)
    held = plan.values["x"]
    with_table = RingPlan({**plan.values, "one": held}, {**plan.weights, "table": held}, {})
    engine = InsecurePlainEngine(with_table)
    ids = np.arange(len(x))
    engine.run(source.graph, weights=source.weights, ids=ids)
    return engine.run(program.graph, weights=program.weights, ids=ids)


def bound(program: Program, plan: RingPlan, x: np.ndarray) -> np.ndarray:
    """From the actual weights' noise, the plans' noise for shares, and half a step of the plain engine's rounding."""
    errors = {}
    for group in joined([checked_schedule([program.graph], plan).steps[0]])[0]:
        nodes = [step.node for step in group]
        if nodes[0].op in ("linear", "gain"):
            w = np.concatenate([np.atleast_2d(program.weights[node.weights[0]]) for node in nodes], axis=1)
            w = np.diag(w[0]) if nodes[0].op == "gain" else w
            product = linear_plan(group).product
            encoded = np.rint(w * 2.0**FRACTION_BITS).astype(np.int64)
            noise = weight_noise(product, ColumnSizes.of(encoded)).total
            errors.update({node.name: noise + 0.5 for node in nodes})
        elif nodes[0].op in ("scale", "rotary"):
            errors[nodes[0].name] = 1.0  # a truncation
        elif nodes[0].op in ("scores", "attend"):
            errors[nodes[0].name] = stacked_plan(group[0]).error + 0.5
    return error_bound(program, plan, x, errors)


def run_engines(client, server) -> tuple:
    """Both engines' results of functions of an engine, or what they raised."""
    results: list = [None, None]

    def run(index, function):
        try:
            results[index] = function()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=job, daemon=True) for job in enumerate((client, server))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
        assert not thread.is_alive(), "a party hangs"
    return tuple(results)


def run_program(program: Program, plan: RingPlan, x: np.ndarray, times: int = 1):
    engines = [TwoPartyEngine(party, channel, plan) for party, channel in zip(Role, channel_pair(), strict=True)]

    def client():
        for _ in range(times):
            engines[0].share_state(program.graph, INPUT, x)
            output = engines[0].run(program.graph)
        return output

    def server():
        for _ in range(times):
            engines[1].share_state(program.graph, INPUT)
            output = engines[1].run(program.graph, weights=program.weights)
        return output

    output, nothing = run_engines(client, server)
    for result in (output, nothing):
        if isinstance(result, BaseException):
            raise result
    assert nothing is None
    return output, engines


def test_a_linear_graph_is_that_of_the_plain_engine():
    program = linear_program()
    plan, x = numbers(program)
    output, engines = run_program(program, plan, x)
    limit = bound(program, plan, x)
    difference = np.abs(output - plain_output(program, plan, x))
    assert (difference <= limit).all()
    assert limit.max() < 0.35 * np.abs(output).max()  # a bound that could not fail would show nothing
    assert [engine._party.openings for engine in engines] == [engines[0]._party.openings] * 2
    assert [(o.what, o.to) for o in engines[0]._party.openings] == [("out", 0)]


def test_traffic_is_what_was_declared_by_node():
    program = linear_program()
    plan, x = numbers(program)
    _, (client, server) = run_program(program, plan, x)
    declared = {line.label: line for line in declared_run(program.graph, plan).lines}
    assert set(declared) == {"q k v", "scores", "attend", "gain", "out", "output"}
    for name, line in declared.items():
        traffic, cost = client.traffic.by_op[name], line.cost
        assert (traffic.bytes_sent, traffic.bytes_received, traffic.messages) == (
            cost.bytes_client_to_server,
            cost.bytes_server_to_client,
            cost.messages,
        )
        assert traffic.rounds <= line.rounds
    assert set(client.traffic.by_op) == {*declared, "keys", "input"}
    assert dataclasses.replace(client.cost, seconds=0) == dataclasses.replace(server.cost, seconds=0)
    # The first upload travels with the client's keys, which waited for its input.
    assert client.cost.rounds == sum(line.rounds for line in declared.values()) - 1
    assert {r.label: r.bytes_client_to_server for r in client.report if r.rounds} == {
        name: line.cost.bytes_client_to_server for name, line in declared.items() if line.rounds
    }
    assert all(0 <= r.waiting_seconds <= r.seconds for r in client.report)
    set_up = agree_cost(AGREED) + keys_cost([SHARES, WIDE], [SHARES, WIDE])
    traffic = client.traffic.by_op["keys"]
    assert (traffic.bytes_sent, traffic.bytes_received, traffic.messages) == (
        set_up.bytes_client_to_server,
        set_up.bytes_server_to_client,
        set_up.messages,
    )
    assert traffic.rounds <= set_up.rounds


def test_keys_are_exchanged_once():
    program = linear_program(rows=4, width=8, outputs=3)
    plan, x = numbers(program)
    once, _ = run_program(program, plan, x)
    twice, (client, _) = run_program(program, plan, x, times=2)
    assert np.abs(once - twice).max() <= bound(program, plan, x).max() * 2
    assert client.traffic.by_op["keys"].messages == client.set_up_cost.messages


SHOWN = {
    "itself": [],
    "scaled": [Node("end", "scale", ("attend",), (), {"factor": 0.5})],
    "moved": [Node("end", "rows", ("attend",), (), {"start": 0, "stop": 1})],
    "turned": [
        Node("end", "rotary", ("attend",), (), {"heads": 1, "rotated": 8, "base": 10000.0, "start": 0}),
    ],
    "added to": [Node("end", "add", ("attend", INPUT))],
    "biased": [Node("end", "bias", ("attend",), ("b",))],
    "times one weight a column": [Node("end", "gain", ("attend",), ("b",))],
    "where it is positive": [Node("end", "relu", ("attend",))],
    "after GELU": [Node("end", "gelu", ("attend",))],
    "as a multiple of itself": [Node("end", "rms_norm", ("attend",), (), {"eps": 1e-5})],
}


def pair_program(end: list[Node], **states) -> Program:
    nodes = [Node("scores", "scores", (INPUT, INPUT), (), {"heads": 1}), Node("attend", "attend", ("scores", INPUT))]
    weights = {"b": np.ones(8), "w": np.ones((8, 3))}
    output = end[-1].name if end else "attend"
    return Program.of(4, [*nodes, *end], weights, output, state_in={INPUT: (4, 8)}, **states)


@pytest.mark.parametrize("end", SHOWN)
def test_a_product_of_shares_is_not_opened(end):
    """The client may know it exactly: then its noise is a linear equation in the server's secrets."""
    program = pair_program(SHOWN[end])
    plan = RingPlan.uniform(program.graph, 8)
    with pytest.raises(ValueError, match="would show the encryption noise of 'attend'"):
        checked_schedule([program.graph], RingPlan({**plan.values, "x": Format(64, 8)}, plan.weights, {}))


def test_probabilities_are_not_opened():
    """Their ratios are differences of scores, noise included."""
    program = pair_program([Node("end", "softmax", ("scores",))])
    with pytest.raises(ValueError, match="would show the encryption noise of 'scores'"):
        checked_schedule([program.graph], RingPlan.uniform(program.graph, 8))


def test_a_product_of_shares_is_not_opened_after_it_was_kept_as_a_state():
    weighted = [Node("end", "linear", ("attend",), ("w",))]
    first = pair_program(weighted, state_out={"kept.past": "attend"})
    move = [Node("out", "rows", ("kept.past",), (), {"start": 0, "stop": 1})]
    second = Program.of(4, move, {}, "out", state_in={"kept.past": (4, 8)})
    assert bare_pairs(first.graph) == {"scores": "scores", "attend": "attend"}
    plan = plan_without_extensions(first.graph, FRACTION_BITS, INTEGER_BITS)
    held = plan.values["attend"]
    plan = RingPlan({**plan.values, "kept": held, "out": held}, plan.weights, {})
    client, server = (TwoPartyEngine(p, c, plan) for p, c in zip(Role, channel_pair(), strict=True))

    def play(engine, x=None, weights=None):
        engine.share_state(first.graph, INPUT, x)
        engine.run(first.graph, weights=weights)
        with pytest.raises(ValueError, match="out: opening it would show the encryption noise of 'attend'"):
            engine.run(second.graph, weights=None if weights is None else {})

    assert run_engines(lambda: play(client, x=np.ones((4, 8))), lambda: play(server, weights=first.weights)) == (
        None,
        None,
    )
    assert [o.to for engine in (client, server) for o in engine._party.openings] == [0, 0]


def two_layers(rows: int, w: np.ndarray, held: Format) -> tuple[Program, RingPlan]:
    """x w, and the same again through the identity: the first product is not the one that is opened, so its modulus is
    the usual one."""
    nodes = [Node("wide", "linear", (INPUT,), ("w",)), Node("out", "linear", ("wide",), ("one",))]
    weights = {"w": w, "one": np.eye(w.shape[1])}
    program = Program.of(rows, nodes, weights, "out", state_in={INPUT: (rows, len(w))})
    formats = {"x": Format(41, 14), "wide": held, "out": Format(32, 19)}
    return program, RingPlan(formats, {"w": Format(20, 14), "one": Format(3, 0)}, {})


def test_noise_that_would_not_fit_is_refused_when_weights_are_loaded():
    program, plan = two_layers(4, np.random.default_rng(0).normal(0, 1, (64, 8)), Format(41, 28))  # nothing is dropped
    (_, channel) = channel_pair()
    with pytest.raises(ValueError, match="wide: the noise may reach"):
        TwoPartyEngine(Role.SERVER, channel, plan).prepare(program.graph, program.weights)
    assert channel.traffic.messages == 0


def test_a_refusal_reaches_the_other_party():
    """The server's weights do not fit; the client, who waits for an answer, is told that the server failed."""
    program, plan = two_layers(4, np.ones((64, 8)), Format(41, 28))
    client, server = (TwoPartyEngine(p, c, plan) for p, c in zip(Role, channel_pair(), strict=True))

    def ask():
        client.share_state(program.graph, INPUT, np.zeros((4, 64)))
        return client.run(program.graph)

    def answer():
        server.share_state(program.graph, INPUT)
        return server.run(program.graph, weights=program.weights)

    told, refused = run_engines(ask, answer)
    assert isinstance(refused, ValueError) and "noise may reach" in str(refused)
    assert isinstance(told, ConnectionError) and "it failed" in str(told)
    with pytest.raises(ConnectionError):  # nothing is tried again on this channel
        client.share_state(program.graph, INPUT, np.zeros((4, 64)))


def test_weights_that_do_not_fit_for_some_rows_are_found_before_anything_is_sent():
    """Fewer rows share their ciphertexts in other tiles, of more noise. The engine then computes what does fit."""
    w = np.random.default_rng(0).integers(-15000, 15000, (64, 8)) * 2.0**-14
    (small, plan), (large, _) = (two_layers(rows, w, Format(32, 19)) for rows in (4, 12))
    programs = {4: small, 12: large}
    client, server = (TwoPartyEngine(p, c, plan) for p, c in zip(Role, channel_pair(), strict=True))
    with pytest.raises(ValueError, match="wide: the noise may reach"):
        server.load([PromptRun(programs[4].graph, weights=programs[4].weights)])
    assert server.traffic.messages == 0 and not server._party.channel.ended
    server.load([PromptRun(programs[12].graph, weights=programs[12].weights)])
    x = np.random.default_rng(1).normal(0, 1, (12, 64))

    def ask():
        client.share_state(programs[12].graph, INPUT, x)
        return client.run(programs[12].graph)

    def answer():
        server.share_state(programs[12].graph, INPUT)
        return server.run(programs[12].graph, weights=programs[12].weights)

    output, nothing = run_engines(ask, answer)
    rounding = 2.0**-15 * np.abs(w).sum(axis=0).max()
    assert nothing is None and np.abs(output - x @ w).max() <= 2 * (1 + MAX_ERROR) * 2.0**-19 + rounding
    with pytest.raises(ValueError, match="the client has no weights"):
        client.load([PromptRun(programs[12].graph, weights={})])


def test_what_each_party_gives():
    program = linear_program()
    plan, x = numbers(program)
    client, server = (TwoPartyEngine(p, c, plan) for p, c in zip(Role, channel_pair(), strict=True))
    with pytest.raises(ValueError, match="gives no weights"):
        client.run(program.graph, weights=program.weights)
    with pytest.raises(ValueError, match="gives no ids"):
        server.run(program.graph, weights=program.weights, ids=np.arange(6))
    with pytest.raises(ValueError, match="share_state"):
        client.run(program.graph)
    with pytest.raises(ValueError, match="the client gives the state"):
        client.share_state(program.graph, INPUT, x[:3])
    with pytest.raises(ValueError, match="reads no state"):
        client.share_state(program.graph, "y.past", x)
    assert TwoPartyEngine.name == "two-party" and not TwoPartyEngine.insecure


@pytest.mark.parametrize(
    ("what", "change"),
    [
        (
            "the shape (4, 8), and the state that is here has (3, 8)",
            lambda x, f: (x.values[:3], f.bits, f.fraction_bits),
        ),
        ("ring bits 29, and the state that is here has 28", lambda x, f: (x.values, f.bits - 1, f.fraction_bits)),
        ("fraction bits 8, and the state that is here has 9", lambda x, f: (x.values, f.bits, f.fraction_bits + 1)),
    ],
)
def test_a_state_is_read_in_its_shape_and_ring(what, change):
    graph, plan = pair_program([Node("end", "linear", ("attend",), ("w",))]).graph, pair_plan_of_rings()
    held = state_format(graph, plan, INPUT)
    good = Share(np.zeros((4, 8), np.uint64), held.bits, held.fraction_bits)
    check_states(graph, plan, {INPUT: good, "other": good})
    with pytest.raises(ValueError, match=rf"the state 'x.past' with {re.escape(what)}"):
        check_states(graph, plan, {INPUT: Share(*change(good, held))})
    with pytest.raises(ValueError, match=r"the state 'x.past': run what leaves it"):
        check_states(graph, plan, {})


def pair_plan_of_rings() -> RingPlan:
    return RingPlan({name: Format(20, 8) for name in ("x", "scores", "attend", "end")}, {"w": Format(10, 8)}, {})


def test_a_state_in_another_ring_is_refused_before_anything_is_sent():
    """No product of two shares reads it in the graph for which it was shared, and one does in the graph that is run."""
    nodes = [Node("end", "linear", (INPUT,), ("w",))]
    alone = Program.of(4, nodes, {"w": np.ones((8, 3))}, "end", state_in={INPUT: (4, 8)})
    pairs = pair_program([Node("end", "linear", ("attend",), ("w",))])
    client_channel, server_channel = channel_pair()
    client, server = (
        TwoPartyEngine(party, channel, pair_plan_of_rings())
        for party, channel in zip(Role, (client_channel, server_channel), strict=True)
    )
    run_engines(
        lambda: client.share_state(alone.graph, INPUT, np.ones((4, 8))), lambda: server.share_state(alone.graph, INPUT)
    )
    sent = client_channel.traffic.messages
    with pytest.raises(ValueError, match="with ring bits 29, and the state that is here has 21"):
        client.run(pairs.graph)
    assert client_channel.traffic.messages == sent and not client_channel.ended


def wide_program(**plan) -> tuple[Program, RingPlan]:
    nodes = [Node("wide", "linear", (INPUT,), ("w",))]
    program = Program.of(4, nodes, {"w": np.full((64, 8), 0.25)}, "wide", state_in={INPUT: (4, 64)})
    formats = {"x": Format(41, 14), "wide": Format(27, 14)} | plan
    return program, RingPlan(formats, {"w": Format(20, 14)}, {})


def test_other_weights_are_loaded_again_and_equal_ones_are_not(monkeypatch):
    program, plan = wide_program()
    client, server = (TwoPartyEngine(p, c, plan) for p, c in zip(Role, channel_pair(), strict=True))
    changing = np.full((64, 8), 0.25)
    given = [program.weights, program.weights, {"w": changing}, {"w": changing}]
    loads = []
    original = weight_store.encoded_matrix
    monkeypatch.setattr(weight_store, "encoded_matrix", lambda *args: loads.append(1) or original(*args))
    expected = [16, 16, 16, 32]

    def ask():
        outputs = []
        for _ in given:
            client.share_state(program.graph, INPUT, np.ones((4, 64)))
            outputs.append(client.run(program.graph))
        return outputs

    def answer():
        for i, weights in enumerate(given):
            if i == 3:
                changing[:] = 0.5  # in place: the same array, other numbers
            server.share_state(program.graph, INPUT)
            server.run(program.graph, weights=weights)

    outputs, nothing = run_engines(ask, answer)
    assert nothing is None
    for output, value in zip(outputs, expected, strict=True):
        assert np.abs(output - value).max() <= 33 * 2.0**-14
    assert len(loads) == 2 * 2 and server._loaded.encoded_bytes.numbers == 64 * 8 * 2


def products_of(count: int, rows: int = 4) -> tuple[RingPlan, list[Groups], dict[str, np.ndarray]]:
    """Products of one value with so many matrices of one size, each a product of its own; and the matrices."""
    _, plan = wide_program()
    plan = RingPlan(
        {**plan.values, **{f"n{i}": plan.values["wide"] for i in range(count)}},
        {f"w{i}": Format(20, 14) for i in range(count)},
        {},
    )
    several, weights = [], {}
    for i in range(count):
        node = Node(f"n{i}", "linear", (INPUT,), (f"w{i}",))
        program = Program.of(rows, [node], {f"w{i}": np.ones((64, 8))}, f"n{i}", state_in={INPUT: (rows, 64)})
        [groups] = joined([checked_schedule([program.graph], plan).steps[0]])
        several.append([groups[0]])
        weights |= program.weights
    return plan, several, weights


def test_transforms_take_no_more_memory_than_allowed_and_a_matrix_without_one_is_read_by_its_columns():
    plan, several, weights = products_of(5, rows=1)
    store = WeightStore(plan)
    store.load(several[:1], weights)
    each = store.encoded_bytes.transforms
    assert each == store.of(several[0]).encoded.nbytes > 0
    store = WeightStore(plan, 3 * each)
    for _ in range(2):
        store.load(several, weights)
        assert [isinstance(store.of(groups).encoded, Columns) for groups in several] == [False] * 3 + [True] * 2
        assert store.encoded_bytes.transforms == 3 * each
    others = {name: 2 * w for name, w in weights.items()}
    store.load(several[:1], others)  # its transforms are of no use any more
    assert store.encoded_bytes.transforms == 3 * each
    product = store.of(several[0]).plan.product
    fresh = product.prepare_weights(Columns.of(np.full((64, 8), 2 << 14)))
    assert np.array_equal(store.of(several[0]).encoded, fresh)
    with pytest.raises(ValueError, match="give 0"):
        WeightStore(plan, -1)


def test_products_with_any_number_of_rows_read_the_same_memory():
    plan, _, weights = products_of(1)
    store, plans = WeightStore(plan, 0), set()
    for rows in range(1, 12):
        _, [groups], _ = products_of(1, rows)
        store.load([groups], weights)
        loaded = store.of(groups)
        plans.add(loaded.plan)
        assert loaded.encoded.parts[0] is next(iter(store._matrices.values())).columns
    assert len(plans) == 11 and store.encoded_bytes.numbers == 64 * 8 * 2


@pytest.mark.parametrize("what", ["ring plan", "graph"])
def test_parties_that_differ_are_told_before_keys_are_sent(what):
    program, plan = wide_program()
    mine, own_plan = program, plan
    if what == "graph":
        both = {"w": program.weights["w"], "b": np.zeros(8)}
        mine = Program.of(4, [Node("wide", "linear", (INPUT,), ("w", "b"))], both, "wide", state_in={INPUT: (4, 64)})
    else:
        _, own_plan = wide_program(x=Format(41, 13), wide=Format(27, 13))
    channels = channel_pair()
    client = TwoPartyEngine(Role.CLIENT, channels[0], plan)
    server = TwoPartyEngine(Role.SERVER, channels[1], own_plan)
    told = run_engines(lambda: client.prepare(program.graph), lambda: server.prepare(mine.graph, mine.weights))
    for error in told:
        assert isinstance(error, ValueError) and f"do not have the same {what}:" in str(error)
    assert client.traffic.by_op["keys"].bytes_sent < 200


def test_public_angles_that_differ_in_a_last_place_are_noticed(monkeypatch):
    """As numpy computes them with other instructions on another processor."""
    program = linear_program()
    plan, _ = numbers(program)
    steps = checked_schedule([program.graph], plan).steps[0]
    digest = on_shares.angles_digest(steps)
    assert digest == on_shares.angles_digest(steps)
    channels, exact = channel_pair(), rotary.turns
    mine = threading.local()

    def turned(*shape, **attrs):
        by = exact(*shape, **attrs)
        moved = by.cosine.copy()
        moved[-1, -1] += getattr(mine, "error", 0.0)
        return dataclasses.replace(by, cosine=moved)

    monkeypatch.setattr(rotary, "turns", turned)
    client, server = (TwoPartyEngine(p, c, plan) for p, c in zip(Role, channels, strict=True))

    def prepare_elsewhere():
        mine.error = 2.0**-FRACTION_BITS
        server.prepare(program.graph, program.weights)

    for error in run_engines(lambda: client.prepare(program.graph), prepare_elsewhere):
        assert isinstance(error, ValueError) and "do not have the same rotary angles" in str(error)


PARTY = """
import json, sys
from pathlib import Path
import numpy as np
from aero.engines.two_party.engine import TwoPartyEngine
from aero.mpc.party import Role
from aero.graph.ring_plan import load_plan
from aero.graph.serialize import load
from aero.wire import tcp
from aero.wire.keys import Identity

role, folder = Role[sys.argv[1]], Path(sys.argv[2])
identity = Identity(folder / "keys" / role.word)
if role is Role.SERVER:
    with tcp.Listener("127.0.0.1", 0, identity) as listener:
        print(listener.port, flush=True)
        channel = listener.accept(120)
else:
    channel = tcp.connect("127.0.0.1", int(sys.argv[3]), identity)
program = load(folder / "program")
state, = program.graph.state_in
with TwoPartyEngine(role, channel, load_plan(folder / "plan.json")) as engine:
    x = np.load(folder / "x.npy") if role is Role.CLIENT else None
    engine.share_state(program.graph, state, x)
    output = engine.run(program.graph, weights=program.weights if role is Role.SERVER else None)
    if output is not None:
        np.save(folder / "output.npy", output)
"""


def test_two_processes_over_tls(tmp_path: Path):
    """The whole linear graph, end to end, between two processes with certificates of their own."""
    from aero.graph.serialize import save

    program = linear_program(rows=20, width=32, heads=4)
    plan, x = numbers(program)
    make_keys(tmp_path / "keys")
    save(program, tmp_path / "program")
    (tmp_path / "plan.json").write_text(json.dumps(plan.to_json()))
    np.save(tmp_path / "x.npy", x)
    command = [sys.executable, "-c", PARTY]
    with subprocess.Popen([*command, "SERVER", str(tmp_path)], stdout=subprocess.PIPE, text=True) as server:
        port = server.stdout.readline().strip()
        subprocess.run([*command, "CLIENT", str(tmp_path), port], check=True, timeout=240)
        assert server.wait(60) == 0
    output = np.load(tmp_path / "output.npy")
    assert (np.abs(output - plain_output(program, plan, x)) <= bound(program, plan, x)).all()
