"""The engine on SecretFlow SPU: protocol Cheetah (Huang et al. 2022), two semi-honest parties, no dealer.

    client  ids -> one-hot rows --.                                      .-- output share of the server --> output
                                  |-- one SPU program for the graph -----|
    server  weights --------------'                                      '-- (its own share stays secret-shared)

A graph becomes one JAX function (`aero.engines.spu_program`), which SPU compiles and runs on shares in the ring of 64
bits with 18 fractional bits. An input is *private* to its owner: the owner holds the value and the other party a public
zero, so no input leaves its party as such. At the end the server sends its share of the output over the link.

`docs/spu.md` states the approximations, their errors, and what was measured. SPU and JAX are imported by nothing else.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import re
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from aero.engines.engine import Cost, Engine, Party, Progress
from aero.graph import Graph
from aero.graph.interpret import check_ids

log = logging.getLogger(__name__)

_RANK = {Party.CLIENT: 0, Party.SERVER: 1}
_CACHED_PROGRAMS = 32
_MAX_CHUNKS = 1024


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of one party: its certificate and key, and the authority that signed the peer's certificate.

    Both ends of every connection must show a certificate of that authority. SPU does not compare host names, so the
    authority must be one that signs for these two parties and nobody else.
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

    tls: certificates for mutual authentication. Without them `insecure_plaintext=True` must be said: shares are then
        open to whoever reads the wire, which is for loopback, or for links that something else encrypts.
    timeout: seconds without a message from the peer after which it counts as gone.
    connect_timeout: seconds to wait for the peer to appear.
    threads: per party; the smaller of the two parties' numbers is used. The set-up grows with it.
    progress: called when a program is compiled, runs, and is done; SPU tells nothing in between.

    Raises ImportError without SPU, ValueError for bad arguments, ConnectionError when the peer cannot be reached, hangs
    or goes away (also in `run`), OSError when the own address cannot be listened at.
    """

    name: ClassVar[str] = "spu-cheetah"
    insecure: ClassVar[bool] = False

    def __init__(
        self,
        party: Party,
        own_address: str,
        peer_address: str,
        *,
        tls: TlsFiles | None = None,
        insecure_plaintext: bool = False,
        timeout: float = 60.0,
        connect_timeout: float = 20.0,
        threads: int = 2,
        progress: Progress | None = None,
    ) -> None:
        if (tls is None) != insecure_plaintext:
            raise ValueError(
                "give either tls=TlsFiles(...) or insecure_plaintext=True (loopback, or a tunnel of yours)"
            )
        if min(timeout, connect_timeout) <= 0 or threads < 1:
            raise ValueError("timeouts must be positive, and threads at least 1")
        self._party = party
        self._progress = progress or (lambda label, share: None)
        self._spu = _spu()
        self._log = _LinkLog.of_process()
        self._sent = self._received = self._messages = 0
        self._programs: OrderedDict[str, Any] = OrderedDict()
        self._broken: str | None = None
        self._cost: Cost | None = None
        started = time.perf_counter()
        self._link: Any = self._connect(own_address, peer_address, tls, timeout, connect_timeout)
        config = _config(self._spu, threads)
        try:
            self._runtime: Any = self._spu.Runtime(self._link, config)
            self._io = self._spu.Io(2, config)
            self._warm_up(threads)
        except RuntimeError as error:
            raise self._lost(error) from error
        self._set_up_cost = self._take_cost(time.perf_counter() - started)

    @property
    def cost(self) -> Cost:
        if self._cost is None:
            raise ValueError("this engine has not run a graph yet")
        return self._cost

    @property
    def set_up_cost(self) -> Cost:
        """What the constructor cost: keys and base transfers, once per connection; the wait for the peer included."""
        return self._set_up_cost

    def compile(self, graph: Graph) -> None:
        """Compile a graph ahead of `run`, which otherwise does so the first time that it meets the graph."""
        self._program(graph)

    def run(
        self, graph: Graph, *, weights: Mapping[str, np.ndarray] | None = None, ids: np.ndarray | None = None
    ) -> np.ndarray | None:
        if self._broken is not None:
            raise ConnectionError(f"this connection failed before ({self._broken}); make a new engine")
        mine = self._inputs(graph, weights, ids)
        program = self._program(graph)
        self._progress("running", 0.0)
        try:
            self._agree(graph)
            started = time.perf_counter()
            for name, (shape, owner) in _input_layout(graph).items():
                value = mine[name] if owner is self._party else np.zeros(shape, _dtype(name))
                self._runtime.set_var(name, self._private(value, owner))
            self._execute(program)
            share = self._runtime.get_var("output0")
            self._forget(program)
            output = self._reveal_to_client(share)
        except RuntimeError as error:
            raise self._lost(error) from error
        self._cost = self._take_cost(time.perf_counter() - started)
        self._progress("done", 1.0)
        if output is not None and (output.shape != graph.shapes[graph.output] or not np.isfinite(output).all()):
            raise ConnectionError("the server sent a share that does not fit the output")
        return output

    def close(self) -> None:
        if self._link is None:
            return
        if self._broken is None:
            try:
                self._link.stop_link()
            except RuntimeError as error:
                log.debug("closing the link: %s", _first_line(error))
        self._broken = self._broken or "closed"
        self._runtime = self._link = None

    # --- connection ---------------------------------------------------------------------------------------------

    def _connect(self, own: str, peer: str, tls: TlsFiles | None, timeout: float, connect_timeout: float) -> Any:
        link = self._spu.libspu.link
        desc = link.Desc()
        addresses = {self._party: _address(own), self._party.other: _address(peer)}
        for party in _RANK:
            desc.add_party(party.value, addresses[party])
        desc.recv_timeout_ms = int(1000 * timeout)
        desc.http_timeout_ms = int(1000 * timeout)
        # An attempt that nobody refuses lasts two seconds or more; one that is refused ends at once.
        desc.connect_retry_interval_ms = 250
        desc.connect_retry_times = max(1, int(1000 * connect_timeout / desc.connect_retry_interval_ms))
        if tls is not None:
            desc.enable_ssl = True
            for options in (desc.client_ssl_opts, desc.server_ssl_opts):
                options.cert.certificate_path = str(tls.certificate)
                options.cert.private_key_path = str(tls.private_key)
                options.verify.ca_file_path = str(tls.authority)
                options.verify.verify_depth = 3
        self._progress("waiting for the peer", 0.0)
        try:
            return link.create_brpc(desc, _RANK[self._party])
        except RuntimeError as error:
            if "brpc server failed start" in str(error):
                raise OSError(
                    f"cannot listen at {own}: the port is in use, or the address is not this machine's"
                ) from None
            raise ConnectionError(
                f"no {self._party.other} at {peer} within {connect_timeout:g} s; start it, and check both addresses"
                f"{'' if tls is None else ' and certificates'} ({_first_line(error)})"
            ) from None

    def _warm_up(self, threads: int) -> None:
        """Products, comparisons and a matrix product on zeros: SPU exchanges its keys when it first meets each."""
        rows, side = 32, 64 * threads
        private = {"x": ((rows, side), Party.CLIENT), "w": ((side, side), Party.SERVER)}

        def every_protocol(x: Any, w: Any) -> Any:
            y = x @ w
            return (y @ w) * y * (y > 0.5), y.T @ y

        program = self._spu.compile(every_protocol, tuple(private), [np.zeros(s) for s, _ in private.values()])
        for name, (shape, owner) in private.items():
            self._runtime.set_var(name, self._private(np.zeros(shape), owner))
        self._execute(program)
        self._forget(program)

    def _agree(self, graph: Graph) -> None:
        """Both parties must run the same graph: compare digests before anything is computed."""
        mine = json.dumps({"party": self._party, "graph": graph.digest}).encode()
        self._send(mine)
        theirs = self._receive()
        expected = json.dumps({"party": self._party.other, "graph": graph.digest}).encode()
        if theirs != expected:
            self._broken = "the parties disagreed"
            raise ValueError("the parties hold different graphs; use the same model, prompt length and version of aero")

    def _lost(self, error: RuntimeError) -> ConnectionError:
        self._broken = _first_line(error)
        return ConnectionError(f"the {self._party.other} went away or stopped answering ({self._broken})")

    def _send(self, data: bytes) -> None:
        self._link.send(_RANK[self._party.other], data)
        self._sent += len(data)
        self._messages += 1

    def _receive(self) -> bytes:
        data: bytes = self._link.recv(_RANK[self._party.other])
        self._received += len(data)
        self._messages += 1
        return data

    # --- values -------------------------------------------------------------------------------------------------

    def _inputs(
        self, graph: Graph, weights: Mapping[str, np.ndarray] | None, ids: np.ndarray | None
    ) -> Mapping[str, np.ndarray]:
        """This party's inputs of the program, by name."""
        if self._party is Party.CLIENT:
            if ids is None or weights is not None:
                raise ValueError("the client gives ids, and no weights")
            return _one_hot_rows(graph, check_ids(ids, graph.length))
        if weights is None or ids is not None:
            raise ValueError("the server gives weights, and no ids")
        missing = set(graph.weight_shapes) - set(weights)
        if missing:
            raise ValueError(f"the graph reads weights that were not given: {sorted(missing)}")
        return {f"weights:{name}": np.asarray(weights[name], np.float64) for name in graph.weight_shapes}

    def _private(self, value: np.ndarray, owner: Party) -> Any:
        """This party's part of a private input: the value at its owner, a zero of the same shape at the other."""
        rank = _RANK[owner]
        secret = self._spu.libspu.Visibility.VIS_SECRET
        return self._io.make_shares(np.ascontiguousarray(value), secret, rank)[_RANK[self._party]]

    def _reveal_to_client(self, share: Any) -> np.ndarray | None:
        if self._party is Party.SERVER:
            self._send(share.meta)
            self._send(len(share.share_chunks).to_bytes(4, "little"))
            for chunk in share.share_chunks:
                self._send(chunk)
            return None
        theirs = self._spu.libspu.Share()
        theirs.meta = self._receive()
        chunks = int.from_bytes(self._receive(), "little")
        if chunks > _MAX_CHUNKS:
            raise RuntimeError(f"an output in {chunks} pieces")
        theirs.share_chunks = [self._receive() for _ in range(chunks)]
        return np.asarray(self._io.reconstruct([share, theirs]), dtype=np.float64)

    # --- programs -----------------------------------------------------------------------------------------------

    def _program(self, graph: Graph) -> Any:
        program = self._programs.get(graph.digest)
        if program is None:
            self._progress("compiling", 0.0)
            layout = _input_layout(graph)
            examples = [np.zeros(shape, _dtype(name)) for name, (shape, _) in layout.items()]
            program = self._spu.compile(self._spu.program.GraphFunction(graph, tuple(layout)), tuple(layout), examples)
            self._programs[graph.digest] = program
            if len(self._programs) > _CACHED_PROGRAMS:
                self._programs.popitem(last=False)
        self._programs.move_to_end(graph.digest)
        return program

    def _execute(self, program: Any) -> None:
        self._log.forget()
        self._runtime.run(program)
        sent, received, messages = self._log.traffic()
        self._sent += sent
        self._received += received
        self._messages += messages

    def _forget(self, program: Any) -> None:
        for name in (*program.input_names, *program.output_names):
            self._runtime.del_var(name)

    def _take_cost(self, seconds: float) -> Cost:
        up, down = (self._sent, self._received) if self._party is Party.CLIENT else (self._received, self._sent)
        cost = Cost(seconds, bytes_client_to_server=up, bytes_server_to_client=down, messages=self._messages)
        self._sent = self._received = self._messages = 0
        return cost


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not an address HOST:PORT")
    return text


def _first_line(error: Exception) -> str:
    """SPU appends its C++ stack to a message."""
    return re.sub(r"^\[[^\]]*\] ", "", str(error).strip().split("\n")[0])[:200]


# --- inputs -----------------------------------------------------------------------------------------------------


def _input_layout(graph: Graph) -> dict[str, tuple[tuple[int, ...], Party]]:
    """Names, shapes and owners of the program's inputs: one-hot rows for each size of table, and the weights."""
    layout: dict[str, tuple[tuple[int, ...], Party]] = {}
    for node in graph.nodes:
        if node.op == "embedding":
            vocabulary = graph.weight_shapes[node.weights[0]][0]
            layout[f"ids:{vocabulary}"] = ((graph.length, vocabulary), Party.CLIENT)
    for name in sorted(graph.weight_shapes):
        layout[f"weights:{name}"] = (graph.weight_shapes[name], Party.SERVER)
    return layout


def _dtype(name: str) -> type:
    return np.int64 if name.startswith("ids:") else np.float64


def _one_hot_rows(graph: Graph, ids: np.ndarray) -> dict[str, np.ndarray]:
    """The ids as one-hot rows [length, V]: made by the client, who knows them, so that no equality test is computed."""
    rows = {}
    for name, (shape, owner) in _input_layout(graph).items():
        if owner is Party.CLIENT:
            if ids.min() < 0 or ids.max() >= shape[1]:
                raise ValueError(f"token ids must lie in [0, {shape[1]}); use the tokenizer that belongs to the model")
            rows[name] = np.eye(shape[1], dtype=np.int64)[ids]
    return rows


# --- SPU itself -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Spu:
    """SPU's modules and our JAX program, imported late: they are heavy, and exist for few platforms."""

    libspu: Any
    frontend: Any
    Runtime: Any
    Io: Any
    enable_x64: Any
    program: Any

    def compile(self, function: Callable[..., Any], names: tuple[str, ...], examples: list[np.ndarray]) -> Any:
        """An executable with inputs of these names, all secret, and outputs "output0", "output1", ..."""
        secret = [self.libspu.Visibility.VIS_SECRET] * len(names)
        with self.enable_x64():
            executable, _ = self.frontend.compile(
                self.frontend.Kind.JAX,
                function,
                examples,
                {},
                list(names),
                secret,
                lambda outputs: [f"output{i}" for i in range(len(outputs))],
            )
        return executable


@functools.cache
def _spu() -> _Spu:
    if importlib.util.find_spec("spu") is None:
        raise ImportError('SPU is not installed: pip install "aero[spu]" (Linux, Python 3.10 or 3.11)')
    from jax.experimental import enable_x64
    from spu import api, libspu
    from spu.utils import frontend

    from aero.engines import spu_program

    return _Spu(libspu, frontend, api.Runtime, api.Io, enable_x64, spu_program)


def _config(spu: _Spu, threads: int) -> Any:
    libspu = spu.libspu
    config = libspu.RuntimeConfig(libspu.ProtocolKind.CHEETAH, libspu.FieldType.FM64, spu.program.FRACTION_BITS)
    config.max_concurrency = threads
    # Weights stay in the clear at their owner, who multiplies them by the other party's ciphertexts.
    config.experimental_enable_colocated_optimization = True
    # The link's statistics reach Python only through this profile's log.
    config.enable_pphlo_profile = True
    return config


class _LinkLog:
    """SPU's log, in a file instead of on the terminal: what it says of the link's traffic is read from there."""

    _TRAFFIC = re.compile(
        r"Link details: total send bytes (\d+), recv bytes (\d+), send actions (\d+), recv actions (\d+)"
    )

    def __init__(self) -> None:
        logging_of_spu = _spu().libspu.logging
        self._folder = tempfile.TemporaryDirectory(prefix="aero-spu-")
        self._path = Path(self._folder.name) / "spu.log"
        options = logging_of_spu.LogOptions()
        options.enable_console_logger = False
        options.system_log_path = str(self._path)
        options.log_level = logging_of_spu.LogLevel.INFO
        logging_of_spu.setup_logging(options)
        self._read = 0

    @classmethod
    @functools.cache
    def of_process(cls) -> _LinkLog:
        """One for all engines: SPU has one logger in a process."""
        return cls()

    def forget(self) -> None:
        self._read = self._path.stat().st_size

    def traffic(self) -> tuple[int, int, int]:
        """Bytes sent, bytes received and messages of the one program that ran since `forget`."""
        with open(self._path, encoding="utf-8", errors="replace") as file:
            file.seek(self._read)
            found = self._TRAFFIC.findall(file.read())
        assert len(found) == 1, "SPU reports the traffic of each program once"
        sent, received, sends, receives = map(int, found[0])
        return sent, received, sends + receives
