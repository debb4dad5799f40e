"""The process that SPU lives in: `python -m aero.engines.spu.worker FD`, started by `SpuEngine` and by nothing else.

SPU ends its whole process when a message to the peer cannot be sent, writes to the terminal, and keeps one logger for a
process; none of that may happen to a server. The engine asks over a pipe of its own, one request at a time:

    ("open", options)               ->  ("done", traffic)
    ("run", graph, inputs)          ->  ("progress", label, share)*  ("done", traffic, output or None)
    ("forget",)                     ->  ("done", traffic)
    anything that fails             ->  ("failed", exception)

The worker ends when its standard input does, that is, when the engine's process closes it or dies.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jax.experimental
import numpy as np
from spu import api, libspu
from spu.utils import frontend

from aero.engines.spu.engine import WAITING
from aero.engines.spu.program import FRACTION_BITS, input_layout, programs
from aero.graph import Graph
from aero.graph.serialize import graph_from_json
from aero.mpc.party import Role

log = logging.getLogger(__name__)

MAX_CODES = 1024
MAX_CHUNKS = 1024
LINGER_SECONDS = 0.5

Tell = Callable[[str, float], None]


class Worker:
    """One party's link and SPU runtime. SPU's errors, RuntimeError, become ConnectionError here."""

    def __init__(self, options: Mapping[str, Any], tell: Tell) -> None:
        self._party = Role[options["party"]]
        self._tell = tell
        self._log = LinkLog()
        self._traffic = np.zeros(3, np.int64)  # bytes sent, bytes received, messages
        self._state: dict[str, tuple[tuple[int, ...], Any]] = {}  # this party's shares of what the last run left
        self._codes: OrderedDict[Any, bytes] = OrderedDict()
        tell(WAITING, 0.0)
        self._link = self._connect(options)
        tell("exchanging keys", 0.0)
        try:
            config = _config(options["threads"])
            self._runtime = api.Runtime(self._link, config)
            self._io = api.Io(2, config)
            self._meet_every_protocol()
        except RuntimeError as error:
            raise self._lost(error) from None

    def take_traffic(self) -> list[int]:
        traffic = self._traffic.tolist()
        self._traffic[:] = 0
        return traffic

    def run(self, graph: Graph, inputs: Mapping[str, np.ndarray]) -> tuple[float, np.ndarray | None]:
        """Seconds, and the output at the client. `inputs` are this party's."""
        if any(self._state.get(name, (None,))[0] != shape for name, shape in graph.state_in.items()):
            raise ValueError(
                "this graph continues a run that was not the last; run the graph of the whole prompt first"
            )
        executables = self._executables(graph)
        layout = input_layout(graph)
        try:
            self._agree(graph)
            started = time.perf_counter()
            for name, (shape, dtype, owner) in layout.items():
                value = inputs[name] if owner is self._party else np.zeros(shape, dtype)
                self._runtime.set_var(name, self._private(value, owner))
            for name in graph.state_in:
                self._runtime.set_var(f"value:{name}", self._state[name][1])
            for index, program in enumerate(executables):
                self._tell(program.name, index / len(executables))
                self._execute(program)
            self._state = {
                name: (graph.shapes[value], self._runtime.get_var(f"value:{value}"))
                for name, value in graph.state_out.items()
            }
            output = self._reveal_to_client(self._runtime.get_var(f"value:{graph.output}"))
            left = [f"value:{name}" for name in graph.state_in]
            for name in (*layout, *left, *(name for program in executables for name in program.output_names)):
                self._runtime.del_var(name)
        except RuntimeError as error:
            raise self._lost(error) from None
        return time.perf_counter() - started, output

    def forget(self) -> None:
        """Drop what the last run left."""
        self._state = {}

    # --- connection ---------------------------------------------------------------------------------------------

    def _connect(self, options: Mapping[str, Any]) -> Any:
        desc = libspu.link.Desc()
        for party in Role:
            desc.add_party(party.word, options["own" if party is self._party else "peer"])
        desc.recv_timeout_ms = desc.http_timeout_ms = int(1000 * options["timeout"])
        # SPU counts attempts, of two seconds and more, not time: the engine's process ends a wait that is too long.
        desc.connect_retry_interval_ms = 250
        desc.connect_retry_times = 1 << 30
        if options["tls"] is not None:
            desc.enable_ssl = True
            for end in (desc.client_ssl_opts, desc.server_ssl_opts):
                end.cert.certificate_path, end.cert.private_key_path, end.verify.ca_file_path = options["tls"]
                end.verify.verify_depth = 3
        try:
            return libspu.link.create_brpc(desc, self._party)
        except RuntimeError as error:
            if "server failed start" in str(error):
                raise OSError(
                    f"cannot listen at {options['own']}: the port is in use, or the address is not this machine's"
                ) from None
            raise self._lost(error) from None

    def _meet_every_protocol(self) -> None:
        """Products, comparisons and matrix products of zeros: SPU exchanges its keys when it first meets each."""
        owners = {"x": Role.CLIENT, "w": Role.SERVER}
        zeros = np.zeros((64, 64))

        def every_protocol(x: Any, w: Any) -> Any:
            y = x @ w
            return (y @ w) * y * (y > 0.5), y.T @ y

        code = _compile(every_protocol, [zeros, zeros])
        for name, owner in owners.items():
            self._runtime.set_var(name, self._private(zeros, owner))
        self._execute(libspu.Executable("set-up", list(owners), ["y", "z"], code))
        for name in (*owners, "y", "z"):
            self._runtime.del_var(name)

    def _agree(self, graph: Graph) -> None:
        """Both parties must run the same graph: compare digests before anything is computed."""
        self._send(json.dumps([self._party.word, graph.digest]).encode())
        if self._receive() != json.dumps([self._party.other.word, graph.digest]).encode():
            raise ValueError("the parties hold different graphs; use the same model, prompt length and version of aero")

    def _lost(self, error: RuntimeError) -> ConnectionError:
        reason = re.sub(r"^\[[^\]]*\] ", "", str(error).strip().split("\n")[0])[:200]  # without the C++ stack
        return ConnectionError(f"the {self._party.other.word} went away or stopped answering ({reason})")

    def _send(self, data: bytes) -> None:
        self._link.send(self._party.other, data)
        self._traffic += (len(data), 0, 1)

    def _receive(self) -> bytes:
        data: bytes = self._link.recv(self._party.other)
        self._traffic += (0, len(data), 1)
        return data

    # --- values -------------------------------------------------------------------------------------------------

    def _private(self, value: np.ndarray, owner: Role) -> Any:
        """This party's part of a private input: the value at its owner, a zero of the same shape at the other."""
        shares = self._io.make_shares(np.ascontiguousarray(value), libspu.Visibility.VIS_SECRET, owner)
        return shares[self._party]

    def _reveal_to_client(self, share: Any) -> np.ndarray | None:
        if self._party is Role.SERVER:
            self._send(share.meta)
            self._send(len(share.share_chunks).to_bytes(4, "little"))
            for chunk in share.share_chunks:
                self._send(chunk)
            return None
        theirs = libspu.Share()
        theirs.meta = self._receive()
        chunks = int.from_bytes(self._receive(), "little")
        if chunks > MAX_CHUNKS:
            raise RuntimeError(f"an output in {chunks} pieces")
        theirs.share_chunks = [self._receive() for _ in range(chunks)]
        return np.asarray(self._io.reconstruct([share, theirs]), dtype=np.float64)

    # --- programs -----------------------------------------------------------------------------------------------

    def _executables(self, graph: Graph) -> list[Any]:
        """The graph's executables; code is compiled once for each operation and shapes."""
        examples: dict[str, np.ndarray] = {
            name: np.zeros(shape, dtype) for name, (shape, dtype, _) in input_layout(graph).items()
        }
        examples.update((f"value:{name}", np.zeros(shape)) for name, shape in graph.shapes.items())
        executables = []
        todo = programs(graph)
        for index, found in enumerate(todo):
            if found.key not in self._codes:
                self._tell("compiling", index / len(todo))
                self._codes[found.key] = _compile(found.function, [examples[name] for name in found.inputs])
            self._codes.move_to_end(found.key)
            inputs, outputs = list(found.inputs), list(found.outputs)
            executables.append(libspu.Executable(found.label, inputs, outputs, self._codes[found.key]))
        while len(self._codes) > MAX_CODES:
            self._codes.popitem(last=False)
        return executables

    def _execute(self, program: Any) -> None:
        self._log.forget()
        self._runtime.run(program)
        self._traffic += self._log.traffic()


def _compile(function: Callable[..., Any], examples: list[np.ndarray]) -> bytes:
    """SPU's code for a function of secrets, shaped like the examples."""
    names = [f"input{i}" for i in range(len(examples))]
    secret = [libspu.Visibility.VIS_SECRET] * len(names)
    with jax.experimental.enable_x64():
        executable, _ = frontend.compile(
            frontend.Kind.JAX, function, examples, {}, names, secret, lambda outputs: ["" for _ in outputs]
        )
    code: bytes = executable.code
    return code


def _config(threads: int) -> Any:
    config = libspu.RuntimeConfig(libspu.ProtocolKind.CHEETAH, libspu.FieldType.FM64, FRACTION_BITS)
    config.max_concurrency = threads
    # Weights stay in the clear at their owner, who multiplies them by the other party's ciphertexts.
    config.experimental_enable_colocated_optimization = True
    # The link's statistics reach Python only through this profile's log.
    config.enable_pphlo_profile = True
    return config


class LinkLog:
    """SPU's log, in a file instead of on the terminal: what it says of the link's traffic is read from there."""

    _TRAFFIC = re.compile(
        r"Link details: total send bytes (\d+), recv bytes (\d+), send actions (\d+), recv actions (\d+)"
    )

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="aero-spu-")
        path = Path(self._folder.name) / "spu.log"
        options = libspu.logging.LogOptions()
        options.enable_console_logger = False
        options.system_log_path = str(path)
        options.log_level = libspu.logging.LogLevel.INFO
        libspu.logging.setup_logging(options)
        self._file = open(path, encoding="utf-8", errors="replace")  # noqa: SIM115
        # The file is read and written through its open ends; without a name, nothing stays behind in any kind of end.
        self._folder.cleanup()

    def forget(self) -> None:
        self._file.seek(0, os.SEEK_END)

    def traffic(self) -> tuple[int, int, int]:
        """Bytes sent, bytes received and messages of the one program that ran since `forget`."""
        found = self._TRAFFIC.findall(self._file.read())
        assert len(found) == 1, "SPU reports the traffic of each program once"
        sent, received, sends, receives = map(int, found[0])
        return sent, received, sends + receives


def serve(pipe: Connection) -> None:
    def tell(label: str, share: float) -> None:
        pipe.send(("progress", label, share))

    worker: Worker | None = None
    while True:
        request, *arguments = pipe.recv()
        try:
            if request == "open":
                started = time.perf_counter()
                worker = Worker(arguments[0], tell)
                pipe.send(("done", time.perf_counter() - started, worker.take_traffic(), None))
            elif request == "forget":
                assert worker is not None
                worker.forget()
                pipe.send(("done", 0.0, worker.take_traffic(), None))
            else:
                assert worker is not None and request == "run"
                seconds, output = worker.run(graph_from_json(arguments[0]), arguments[1])
                pipe.send(("done", seconds, worker.take_traffic(), output))
        except (ValueError, OSError) as error:
            pipe.send(("failed", error))


def _end_with_standard_input() -> None:
    sys.stdin.buffer.read()
    # The peer's last message may still wait for the acknowledgement, without which its SPU takes us for lost.
    time.sleep(LINGER_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the engine's process decides, and closes standard input
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    serve(Connection(int(sys.argv[1])))
