"""The engine on SecretFlow SPU: protocol Cheetah (Huang et al. 2022), two semi-honest parties, no dealer.

    client  ids -> one-hot rows --.                                      .-- output share of the server --> output
                                  |-- SPU programs for the nodes --------|
    server  weights --------------'                                      '-- (its own share stays secret-shared)

A graph becomes JAX functions (`program`), which SPU compiles and runs, in a process of its own (`worker`), on
shares in the ring of 64 bits with 18 fractional bits. An input is *private* to its owner: the owner holds the value,
the other party a public zero. So no input leaves its party; at the end the server sends its share of the output.

`docs/understand/spu.md` states the approximations, their errors, and what was measured. This module needs neither SPU
nor JAX.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from aero.engines.engine import Engine, Progress, RunCost
from aero.engines.planning.steps import LOOK_UPS
from aero.graph import Graph
from aero.graph.interpret import check_ids
from aero.mpc.party import Role

WAITING = "waiting for the peer"
_CLOSING_SECONDS = 5.0


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of one party: its certificate and key, and the authority that signed the peer's certificate.

    Both ends of every connection must show a certificate of that authority. SPU does not compare host names, so the
    authority must be one that signs for these two parties and nobody else; the peer's self-signed certificate will do.
    """

    certificate: Path
    private_key: Path
    authority: Path

    def __post_init__(self) -> None:
        for name, path in vars(self).items():
            if not Path(path).is_file():
                raise FileNotFoundError(f"TLS {name.replace('_', ' ')}: no file {path}")


class SpuEngine(Engine):
    """One party of a computation on SPU.

    Each party listens at its own address and connects to the other's: both must be reachable ("HOST:PORT").
    The constructor waits for the peer and exchanges the keys and the base oblivious transfers; an engine then runs any
    number of graphs, the same ones in the same order at both parties.

    tls: certificates for mutual authentication; read before the constructor returns. Without them
        `insecure_plaintext=True` must be said: shares are then open to whoever reads the wire, which is for loopback,
        or for links that something else encrypts.
    timeout: seconds without a message from the peer after which it counts as gone. It must cover what the peer does
        between two runs.
    connect_timeout: seconds to wait for the peer to appear.
    threads: per party; the smaller of the two parties' numbers is used. The set-up grows with it.
    progress: called with the label of what SPU does now and the share that is done.

    Raises ImportError without SPU, ValueError for bad arguments, ConnectionError when the peer cannot be reached, hangs
    or goes away (also in `run`), OSError when the own address cannot be listened at.
    """

    name: ClassVar[str] = "spu-cheetah"
    insecure: ClassVar[bool] = False

    def __init__(
        self,
        party: Role,
        own_address: str,
        peer_address: str,
        *,
        tls: TlsFiles | None = None,
        insecure_plaintext: bool = False,
        timeout: float = 60.0,
        connect_timeout: float = 20.0,
        threads: int = 1,
        progress: Progress | None = None,
    ) -> None:
        if (tls is None) != insecure_plaintext:
            raise ValueError("give either tls=TlsFiles(...) or insecure_plaintext=True, on loopback or inside a tunnel")
        if min(timeout, connect_timeout) <= 0 or threads < 1:
            raise ValueError("timeouts must be positive, and threads at least 1")
        if importlib.util.find_spec("spu") is None:
            raise ImportError(
                "SPU is not installed: pip install 'aero-private-inference[spu]' (Linux on x86-64, Python 3.11)"
            )
        options = {
            "party": party.name,
            "own": _address(own_address),
            "peer": _address(peer_address),
            "tls": tls and (str(tls.certificate), str(tls.private_key), str(tls.authority)),
            "timeout": timeout,
            "threads": threads,
        }
        self._party = party
        self._peer = peer_address
        self._connect_timeout = connect_timeout
        self._progress = progress
        self._cost: RunCost | None = None
        self._closed: str | None = None
        self._pipe, theirs = multiprocessing.Pipe()
        with theirs:
            self._worker = subprocess.Popen(
                [sys.executable, "-m", "aero.engines.spu.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.PIPE,  # closed with this process, whatever ends it; the worker then ends, too
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._set_up_cost, _ = self._ask("open", options)

    @property
    def cost(self) -> RunCost:
        if self._cost is None:
            raise ValueError("this engine has not run a graph yet")
        return self._cost

    @property
    def set_up_cost(self) -> RunCost:
        """What the constructor cost: keys and base transfers, once for a connection; the wait for the peer included."""
        return self._set_up_cost

    def run(
        self, graph: Graph, *, weights: Mapping[str, np.ndarray] | None = None, ids: np.ndarray | None = None
    ) -> np.ndarray | None:
        inputs = self._inputs(graph, weights, ids)
        self._cost, output = self._ask("run", graph.to_json(), inputs)
        if output is not None and (output.shape != graph.shapes[graph.output] or not np.isfinite(output).all()):
            raise self._fail(ConnectionError("the server sent a share that does not fit the output"))
        return output

    def forget(self, prompt: int) -> None:
        if prompt == 0:
            self._ask("forget")

    def close(self) -> None:
        self._closed = self._closed or "it was closed"
        self._pipe.close()
        assert self._worker.stdin is not None
        with contextlib.suppress(OSError):
            self._worker.stdin.close()
        try:
            self._worker.wait(_CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self._worker.kill()
            self._worker.wait()

    def _inputs(
        self, graph: Graph, weights: Mapping[str, np.ndarray] | None, ids: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """This party's inputs of the programs, by name."""
        if self._party is Role.CLIENT:
            if ids is None or weights is not None:
                raise ValueError("the client gives ids, and no weights")
            return one_hot_rows(graph, check_ids(ids, graph.length))
        if weights is None or ids is not None:
            raise ValueError("the server gives weights, and no ids")
        inputs = {}
        for name, shape in graph.weight_shapes.items():
            if name not in weights or np.shape(weights[name]) != shape:
                raise ValueError(f"the graph reads the weight {name!r} of shape {shape}, which was not given")
            inputs[f"weights:{name}"] = np.asarray(weights[name], np.float64)
        return inputs

    def _ask(self, *request: object) -> tuple[RunCost, np.ndarray | None]:
        """Have the worker do something; every failure closes the engine, for the two parties are out of step then."""
        if self._closed is not None:
            raise ConnectionError(f"this engine cannot be used: {self._closed}; make a new one, at both parties")
        try:
            self._pipe.send(request)
            deadline: float | None = None
            while True:
                if not self._pipe.poll(None if deadline is None else max(0.0, deadline - time.monotonic())):
                    other, within = self._party.other.word, f"within {self._connect_timeout:g} s"
                    raise ConnectionError(
                        f"no {other} answers at {self._peer} {within}; start it, and check both addresses and, with "
                        "TLS, the certificates"
                    )
                kind, *answer = self._pipe.recv()
                if kind == "done":
                    seconds, (sent, received, messages), output = answer
                    up, down = (sent, received) if self._party is Role.CLIENT else (received, sent)
                    return RunCost(seconds, up, down, messages=messages), output
                if kind == "failed":
                    self._closed = str(answer[0])
                    self.close()
                    raise answer[0]
                deadline = time.monotonic() + self._connect_timeout if answer[0] == WAITING else None
                if self._progress is not None:
                    self._progress(*answer)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise self._fail(ConnectionError(f"the {self._party.other.word} went away, and SPU ended")) from None
        except BaseException as error:
            if self._closed is None:
                self._fail(error)
            raise

    def _fail(self, error: BaseException) -> BaseException:
        self._closed = self._closed or str(error) or type(error).__name__
        self._worker.kill()
        self.close()
        return error


def one_hot_rows(graph: Graph, ids: np.ndarray) -> dict[str, np.ndarray]:
    """The ids as one-hot rows [length, V]: made by the client, who knows them, so that no equality test is computed.

    One entry for each size of table that the graph looks up.
    """
    rows: dict[str, np.ndarray] = {}
    for node in graph.nodes:
        if node.op in LOOK_UPS:
            vocabulary = graph.weight_shapes[node.weights[0]][0]
            if ids.min() < 0 or ids.max() >= vocabulary:
                raise ValueError(f"token ids must lie in [0, {vocabulary}); use the tokenizer of the model")
            one_hot = np.zeros((len(ids), vocabulary), dtype=np.int64)
            one_hot[np.arange(len(ids)), ids] = 1
            rows[f"ids:{vocabulary}"] = one_hot
    return rows


def free_port(host: str = "127.0.0.1") -> int:
    """A port of this machine's address `host` at which nobody listens now, for an engine to listen at."""
    family = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0][0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not an address HOST:PORT")
    return text
