"""A relay between a client and a server that does to their bytes what networks and strangers do."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

CUTS = ("reset", "close", "half-close", "flip", "duplicate")
"""Faults after which a session cannot go on, and both sides learn it at once."""
WHAT = (*CUTS, "stall", "delay")
_RESET = struct.pack("ii", 1, 0)
_PIECE = 1 << 16


@dataclass(frozen=True)
class Fault:
    """What happens to a connection when byte `at` of one direction comes; up is to the server.

    reset and close end both directions, half-close this one; flip changes a bit of the byte, duplicate sends twice what
    came together from it on; stall passes nothing on in this direction from then on, delay waits once for `seconds`.
    """

    what: str
    at: int
    up: bool = True
    seconds: float = 0.2

    def __post_init__(self) -> None:
        if self.what not in WHAT:
            raise ValueError(f"no fault {self.what!r}; there are {', '.join(WHAT)}")


class Relay:
    """Passes on from a port of this machine to another; `fault_of(n)` is what happens to connection n, from 0."""

    def __init__(self, port: int, fault_of: Callable[[int], Fault | None] = lambda _: None) -> None:
        self._target, self._fault_of = port, fault_of
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = int(self._listener.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        self.connections: list[Connection] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                self.connections.append(Connection(client, server, self._fault_of(len(self.connections))))

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # which wakes who accepts
        self._listener.close()
        for connection in self.connections:
            connection.end()


class Connection:
    """Two sockets, and a thread for each direction. passed: bytes that came so far, up and down."""

    def __init__(self, client: socket.socket, server: socket.socket, fault: Fault | None) -> None:
        self._ends, self._fault = (client, server), fault
        self.passed = [0, 0]
        self._lock, self._running = threading.Lock(), 2
        for way in (0, 1):
            threading.Thread(target=self._run, args=(way,), daemon=True).start()

    def end(self) -> None:
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _run(self, way: int) -> None:
        source, sink = self._ends if way == 0 else self._ends[::-1]
        try:
            self._pass_on(way, source, sink)
            sink.shutdown(socket.SHUT_WR)
        except (OSError, ValueError):  # of a socket that the other thread has closed
            self.end()
        with self._lock:
            self._running -= 1
            if not self._running:
                for end in self._ends:
                    end.close()

    def _pass_on(self, way: int, source: socket.socket, sink: socket.socket) -> None:
        fault = self._fault if self._fault is not None and self._fault.up == (way == 0) else None
        while data := _received(source):
            before = self.passed[way]
            self.passed[way] += len(data)
            if fault is not None and fault.at < self.passed[way]:
                sink.sendall(data[: fault.at - before])
                data = self._suffer(fault, data[fault.at - before :], source, sink)
                fault = None
            sink.sendall(data)

    def _suffer(self, fault: Fault, data: bytes, source: socket.socket, sink: socket.socket) -> bytes:
        """What of `data` is passed on."""
        if fault.what == "flip":
            return bytes([data[0] ^ 1]) + data[1:]
        if fault.what == "duplicate":
            return data * 2
        if fault.what == "delay":
            time.sleep(fault.seconds)
            return data
        if fault.what == "reset":
            for end in self._ends:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.close()
            raise ConnectionResetError("by the test")
        if fault.what == "close":
            self.end()
            raise ConnectionAbortedError("by the test")
        if fault.what == "half-close":
            sink.shutdown(socket.SHUT_WR)
        while _received(source):
            pass
        return b""


def _received(source: socket.socket) -> bytes:
    """What comes next. Waits in short turns, because a reset is sent when nobody waits for the socket any more."""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    while not poll.poll(50):
        pass
    return source.recv(_PIECE)
