"""The SPU engine against the float64 meaning of the operations; each party computes in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aero.engines.spu.connect import _session_certificate
from aero.engines.spu.engine import SpuEngine, TlsFiles, one_hot_rows
from aero.graph import Graph, Node, Program, interpret
from aero.graph.graph import INPUT
from aero.graph.interpret import apply, interpret_step
from aero.graph.ops.gelu import gelu
from aero.graph.ops.layer_norm import layer_norm
from aero.graph.ops.rotary import rotary
from aero.graph.ops.silu import silu
from aero.graph.ops.softmax import softmax
from aero.mpc.party import Role

pytest.importorskip("spu", reason="SPU runs on Linux with Python 3.10 or 3.11")

LENGTH, WIDTH, HEADS, VOCABULARY = 5, 16, 2, 20
ULP = 2.0**-18
# Largest error that one operation adds, beyond the rounding of products: docs/understand/spu.md.
STATED_ERROR = {"softmax": 1.5e-3, "gelu": 1e-3, "silu": 1.5e-3, "layer_norm": 2e-3, "rms_norm": 2e-3}


def program(
    length: int, *, layer_norm_and: str | None = None, layers: int = 2, rotary: bool = False, **form: str
) -> Program:
    """A decoder with random weights; a Softmax-only one, or one with LayerNorm and this activation (in this form)."""
    rng = np.random.default_rng(length)
    weights: dict[str, np.ndarray] = {}
    nodes: list[Node] = []

    def weight(name: str, *shape: int) -> str:
        weights[name] = rng.normal(size=shape) / np.sqrt(shape[0] if len(shape) > 1 else 4.0)
        return name

    def add(name: str, op: str, inputs: list[str], used: tuple[str, ...] = (), **attrs: Any) -> str:
        nodes.append(Node(name, op, tuple(inputs), used, attrs))
        return name

    def linear(name: str, x: str, columns: int, rows: int = WIDTH) -> str:
        return add(name, "linear", [x], (weight(f"{name}.w", rows, columns), weight(f"{name}.b", columns)))

    x = add("embedding", "embedding", [INPUT], (weight("table", VOCABULARY, WIDTH),))
    x = add("scaled", "scale", [x], factor=3.0)
    x = add("positions", "bias", [x], (weight("positions.w", length, WIDTH),))
    for i in range(layers):
        h = add(f"{i}.norm", "layer_norm", [x], eps=1e-5) if layer_norm_and else x
        last = i == layers - 1
        q = linear(f"{i}.q", add(f"{i}.last", "rows", [h], start=length - 1, stop=length) if last else h, WIDTH)
        k, v = linear(f"{i}.k", h, WIDTH), linear(f"{i}.v", h, WIDTH)
        if rotary:
            turned = {"heads": HEADS, "rotated": 4, "base": 100.0}
            q = add(f"{i}.q.rotary", "rotary", [q], start=length - 1 if last else 0, **turned)
            k = add(f"{i}.k.rotary", "rotary", [k], start=0, **turned)
        p = add(f"{i}.p", "softmax", [add(f"{i}.scores", "scores", [q, k], heads=HEADS)])
        h = linear(f"{i}.o", add(f"{i}.attend", "attend", [p, v]), WIDTH)
        x = add(f"{i}.sum", "add", [h, add(f"{i}.x", "rows", [x], start=length - 1, stop=length) if last else x])
        if layer_norm_and:
            h = linear(f"{i}.in", add(f"{i}.norm2", "layer_norm", [x], eps=1e-5), 2 * WIDTH)
            h = linear(f"{i}.out", add(f"{i}.act", layer_norm_and, [h], **form), WIDTH, 2 * WIDTH)
            x = add(f"{i}.sum2", "add", [h, x])
    x = add("gain", "gain", [x], (weight("gain.w", WIDTH),))
    nodes.append(Node("logits", "linear", (x,), (weight("head", WIDTH, VOCABULARY),)))
    return Program.of(length, nodes, weights, "logits")


def tolerance(program: Program, ids: np.ndarray) -> float:
    """How far the output moves if every operation errs as much as stated, in random directions; twice the worst of 20.

    Products: both factors are rounded to half an ulp, and the result is truncated with an error of up to two.
    """
    rng = np.random.default_rng(0)
    exact = interpret(program, ids)
    worst = 0.0
    for _ in range(20):
        values: dict[str, np.ndarray] = {INPUT: ids}
        for node in program.graph.nodes:
            inputs, weights = [values[i] for i in node.inputs], [program.weights[w] for w in node.weights]
            value = apply(node, inputs, weights)
            factors = [] if node.op == "embedding" else [np.abs(a).max() * a.shape[-1] for a in inputs + weights[:1]]
            error = STATED_ERROR.get(node.op, ULP * (2.0 + 0.5 * sum(factors)))
            values[node.name] = value + rng.uniform(-error, error, value.shape)
        worst = max(worst, float(np.abs(values[program.graph.output] - exact).max()))
    return 2.0 * worst


def free_addresses() -> tuple[str, str]:
    with socket.socket() as a, socket.socket() as b:
        a.bind(("127.0.0.1", 0))
        b.bind(("127.0.0.1", 0))
        return tuple(f"127.0.0.1:{s.getsockname()[1]}" for s in (a, b))  # type: ignore[return-value]


def connect(tls: tuple[TlsFiles, TlsFiles] | None = None, **options: Any) -> tuple[SpuEngine, SpuEngine]:
    ours, theirs = free_addresses()
    security = [{"insecure_plaintext": True}] * 2 if tls is None else [{"tls": files} for files in tls]
    with ThreadPoolExecutor(2) as pool:
        client = pool.submit(SpuEngine, Role.CLIENT, ours, theirs, **security[0], **options)
        server = pool.submit(SpuEngine, Role.SERVER, theirs, ours, **security[1], **options)
        failure = client.exception() or server.exception()
        if failure is not None:
            for engine in (client, server):
                if engine.exception() is None:
                    engine.result().close()
            raise failure
        return client.result(), server.result()


@pytest.fixture
def engines() -> Iterator[tuple[SpuEngine, SpuEngine]]:
    client, server = connect(timeout=8.0)
    yield client, server
    client.close()
    server.close()


def run(client: SpuEngine, server: SpuEngine, program: Program, ids: np.ndarray) -> np.ndarray:
    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(client.run, program.graph, ids=ids)
        theirs = pool.submit(server.run, program.graph, weights=program.weights)
        assert theirs.result() is None
        output = ours.result()
    assert output is not None and output.dtype == np.float64
    return output


def certificates(folder: Path) -> tuple[TlsFiles, TlsFiles]:
    """Self-signed certificates for the two parties, each the other's authority."""
    folders = folder / "client", folder / "server"
    for own in folders:
        own.mkdir()
        _session_certificate(own)
    (a, b) = folders
    return (
        TlsFiles(a / "cert.pem", a / "key.pem", b / "cert.pem"),
        TlsFiles(b / "cert.pem", b / "key.pem", a / "cert.pem"),
    )


def test_softmax_only_graphs_over_tls_on_one_connection(tmp_path: Path) -> None:
    client, server = connect(certificates(tmp_path))
    with client, server:
        assert client.set_up_cost.bytes_client_to_server == server.set_up_cost.bytes_client_to_server
        for length in (LENGTH, LENGTH + 1):
            p = program(length)
            ids = np.random.default_rng(1).integers(0, VOCABULARY, length)
            error = np.abs(run(client, server, p, ids) - interpret(p, ids)).max()
            assert error <= tolerance(p, ids)
            ours, theirs = client.cost, server.cost
            assert ours.bytes_client_to_server == theirs.bytes_client_to_server
            assert ours.bytes_server_to_client == theirs.bytes_server_to_client
            assert ours.messages == theirs.messages
            assert min(ours.bytes_client_to_server or 0, ours.bytes_server_to_client or 0, ours.messages or 0) > 0


@pytest.mark.slow
def test_layer_norm_and_activations(engines: tuple[SpuEngine, SpuEngine]) -> None:
    ids = np.arange(LENGTH)
    for activation in ("gelu", "relu"):
        p = program(LENGTH, layer_norm_and=activation)
        assert np.abs(run(*engines, p, ids) - interpret(p, ids)).max() <= tolerance(p, ids)


@pytest.mark.slow
def test_rotary_positions_and_the_exact_gelu(engines: tuple[SpuEngine, SpuEngine]) -> None:
    ids = np.arange(LENGTH)
    p = program(LENGTH, layer_norm_and="gelu", rotary=True, form="erf")
    assert np.abs(run(*engines, p, ids) - interpret(p, ids)).max() <= tolerance(p, ids)


@pytest.mark.slow
def test_state_is_carried_from_one_run_to_the_next(engines: tuple[SpuEngine, SpuEngine]) -> None:
    """Two tokens, then a third that reads what they left: the values before and the values of its own."""
    rng = np.random.default_rng(3)
    weights = {"table": rng.normal(size=(VOCABULARY, WIDTH))}
    x, x0 = Node("x", "embedding", (INPUT,), ("table",)), (2, WIDTH)
    first = Program(Graph(2, (x,), {"table": (VOCABULARY, WIDTH)}, "x", state_out={"past": "x"}), weights)
    nodes = (
        x,
        Node("all", "concat_rows", ("past", "x")),
        Node("scores", "scores", ("x", "all"), attrs={"heads": HEADS}),
        Node("p", "softmax", ("scores",), attrs={"base": 2.0}),
        Node("seen", "attend", ("p", "all")),
        Node("normed", "rms_norm", ("seen",), attrs={"eps": 1e-5}),
    )
    second = Program(Graph(1, nodes, {"table": (VOCABULARY, WIDTH)}, "normed", state_in={"past": x0}), weights)
    with pytest.raises(ValueError, match="the whole prompt first"):
        run(*engines, second, np.array([7]))
    client, server = connect(timeout=8.0)
    with client, server:
        run(client, server, first, np.array([4, 9]))
        _, past = interpret_step(first, np.array([4, 9]), {})
        exact = interpret(second, np.array([7]), state=past)
        found = run(client, server, second, np.array([7]))
        # Three probabilities within the stated error, times values below 4, over an rms of about 1; and the norm's own.
        assert np.abs(found - exact).max() <= 3 * 4 * STATED_ERROR["softmax"] + STATED_ERROR["rms_norm"]
        run(client, server, first, np.array([4, 9]))
        client.forget(0)
        server.forget(0)
        with pytest.raises(ValueError, match="the whole prompt first"):
            run(client, server, second, np.array([7]))


def test_approximations_keep_their_stated_errors() -> None:
    import jax

    from aero.engines.spu import program

    rng = np.random.default_rng(0)
    with jax.experimental.enable_x64():
        x = np.linspace(-60.0, 60.0, 48_001).reshape(1, -1)
        for form in ("tanh", "erf"):
            assert np.abs(program._gelu(x, form) - gelu(x, form)).max() < 8e-4
        assert np.abs(program._silu(x) - silu(x)).max() < 1.3e-3
        assert 3e-4 < np.abs(gelu(x, "tanh") - gelu(x, "erf")).max() < 5e-4
        x = np.linspace(-100.0, 0.0, 100_001)
        assert np.abs(program._exp(x) - np.exp(x)).max() < 6e-5
        x = rng.normal(size=(4, 64)) * 5
        turned = {"heads": 4, "rotated": 6, "base": 100.0, "start": 9}
        np.testing.assert_allclose(program._rotary(jax.numpy.asarray(x), **turned), rotary(x, **turned), atol=1e-12)
        np.testing.assert_allclose(program._layer_norm(x, 1e-5), layer_norm(x, 1e-5), atol=1e-12)
        scores = rng.normal(size=(3, 4, 7)) * 10
        found = np.asarray(program._softmax(scores))
        # A numerator and the sum of seven, which is at least one, err by that much each.
        assert np.abs(found - softmax(scores)).max() < 6e-5 * (1 + 7)
        assert (found[:, 0, 4:] == 0).all()


def test_programs_are_shared_between_layers_and_products_of_one_value_are_one() -> None:
    from aero.engines.spu.program import programs

    def keys(layers: int) -> set[Any]:
        return {step.key for step in programs(program(LENGTH, layers=layers).graph)}

    assert keys(5) == keys(3)
    assert "0.q 0.k 0.v" in [step.label for step in programs(program(LENGTH).graph)]


def test_one_hot_rows_select() -> None:
    p = program(LENGTH)
    ids = np.array([0, 19, 3, 3, 1])
    (rows,) = one_hot_rows(p.graph, ids).values()
    np.testing.assert_array_equal(rows @ p.weights["table"], p.weights["table"][ids])
    with pytest.raises(ValueError, match=r"\[0, 20\)"):
        one_hot_rows(p.graph, np.array([0, 20, 3, 3, 1]))


def test_a_peer_that_goes_away_in_mid_run(engines: tuple[SpuEngine, SpuEngine]) -> None:
    client, server = engines
    p = program(LENGTH)
    computing = threading.Event()
    client._progress = lambda label, share: computing.set() if label == "0.p" else None
    with ThreadPoolExecutor(2) as pool:
        theirs: Future[Any] = pool.submit(server.run, p.graph, weights=p.weights)
        ours = pool.submit(client.run, p.graph, ids=np.arange(LENGTH))
        assert computing.wait(60)
        server._worker.kill()
        with pytest.raises(ConnectionError, match="the server went away"):
            ours.result(60)
        with pytest.raises(ConnectionError):
            theirs.result(60)
    with pytest.raises(ConnectionError, match="make a new one"):
        client.run(p.graph, ids=np.arange(LENGTH))
    assert client._worker.poll() is not None


@pytest.mark.slow
def test_a_peer_that_hangs(engines: tuple[SpuEngine, SpuEngine]) -> None:
    client, server = engines
    os.kill(server._worker.pid, signal.SIGSTOP)
    with pytest.raises(ConnectionError, match="the server went away"):
        client.run(program(LENGTH).graph, ids=np.arange(LENGTH))
    os.kill(server._worker.pid, signal.SIGCONT)


@pytest.mark.slow
def test_different_graphs_are_refused_by_both(engines: tuple[SpuEngine, SpuEngine]) -> None:
    client, server = engines
    mine, theirs = program(LENGTH), program(LENGTH, layers=1)
    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(client.run, mine.graph, ids=np.arange(LENGTH))
        other = pool.submit(server.run, theirs.graph, weights=theirs.weights)
        for result in (ours, other):
            with pytest.raises(ValueError, match="different graphs"):
                result.result(60)


@pytest.mark.slow
def test_an_unknown_certificate_is_refused(tmp_path: Path) -> None:
    files, strangers = certificates(tmp_path), tmp_path / "strangers"
    strangers.mkdir()
    stranger, _ = certificates(strangers)
    impostor = TlsFiles(stranger.certificate, stranger.private_key, files[0].authority)
    with pytest.raises(ConnectionError, match="certificates"):
        connect((impostor, files[1]), connect_timeout=3.0, timeout=5.0)


def test_an_absent_peer() -> None:
    own, peer = free_addresses()
    with pytest.raises(ConnectionError, match=f"no server answers at {peer}"):
        SpuEngine(Role.CLIENT, own, peer, insecure_plaintext=True, connect_timeout=0.5)


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        own = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="cannot listen"):
            SpuEngine(Role.SERVER, own, "127.0.0.1:1", insecure_plaintext=True)


def test_bad_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def make(own: str = "127.0.0.1:1", peer: str = "127.0.0.1:2", **options: Any) -> SpuEngine:
        return SpuEngine(Role.CLIENT, own, peer, **options)

    with pytest.raises(ValueError, match="insecure_plaintext"):
        make()
    with pytest.raises(ValueError, match="HOST:PORT"):
        make(own="localhost", insecure_plaintext=True)
    with pytest.raises(ValueError, match="positive"):
        make(insecure_plaintext=True, timeout=0.0)
    with pytest.raises(FileNotFoundError, match=r"TLS certificate: no file"):
        TlsFiles(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'aero-private-inference\[spu\]'"):
        make(insecure_plaintext=True)
