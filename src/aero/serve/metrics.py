"""What a server did, for Prometheus, and whether it is well: counts, sizes and times, and nothing of any text.

The server's parent only counts. A process of its own, forked before there is much to fork, answers HTTP and asks the
parent for the counts, a few times a second at most, so that whoever asks, however he does it, never makes the parent
wait; and an answer shows that the parent's loop turns.

    GET /metrics    the counts, in Prometheus' text format
    GET /healthz    200 where the parent answers, or reads a model
    GET /readyz     200 where a client that comes now gets a place, or waits for one
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

CONNECTIONS = 32
"""HTTP connections at the same time; more are closed."""
_PATIENCE = 5.0  # seconds for a request, and for taking the answer
_ANSWER = 2.0  # seconds for the parent's answer
_FRESH = 0.5  # seconds for which an answer is good
_HEAD = 8192  # bytes of a request

MOST_LABELS, OTHER = 64, "other"
"""Of a metric: more are counted together."""
REASONS = ("busy", "limit", "crowd", "silent", "vanished", "untrusted", "protocol", "stopped", "failed")
"""Why connections and sessions end, in words."""


class ServerMetrics:
    """What a server's parent counts, and the process that shows it over HTTP, as the parent knows it."""

    def __init__(self, host: str, port: int) -> None:
        self._totals: Counter[str] = Counter()
        self._by_label: dict[str, Counter[str]] = {name: Counter() for name in _BY_LABEL}
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            listening = socket.create_server(found[0][4][:2], family=found[0][0])
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ValueError(f"metrics cannot be shown at {host}:{port} ({why}); choose another --metrics") from None
        self.port = int(listening.getsockname()[1])
        self._socket, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            self._socket.close()
            _run(listening, theirs, os.getppid())
        listening.close()
        theirs.close()
        self._socket.setblocking(False)
        self.fileno = self._socket.fileno

    def note(self, kind: str, what: Mapping[str, Any]) -> None:
        """Count an event of `aero.serve.supervisor`."""
        if kind == "begun":
            self._totals["sessions_begun"] += 1
        elif kind == "ended" and what["failure"]:
            self._add("sessions_ended", {what["reason"]: 1})
        elif kind == "refused":
            self._add("connections_refused", {what["reason"]: 1})
        elif kind == "reloaded":
            self._totals["reloads"] += 1
            self._totals["reloads_failed"] += what["failure"] is not None
        elif kind == "told" and "declined" in what:
            self._totals["steps_declined"] += 1
        elif kind == "told":
            self._add("steps", {what["work"]: 1})
            self._add("tokens", {what["work"]: what["tokens"]})
            self._totals.update(what["totals"])
            for name, counts in what["operations"].items():
                self._add(name, counts)

    def _add(self, name: str, counts: Mapping[str, float]) -> None:
        known = self._by_label[name]
        for label, count in counts.items():
            known[label if label in known or len(known) < MOST_LABELS else OTHER] += count  # type: ignore[assignment]

    def asked(self, status: Mapping[str, Any]) -> bool:
        """Answer, when it has asked something; False where it has ended. Never waits: an answer that nobody takes is
        dropped."""
        try:
            if not self._socket.recv(4096):
                return False
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.say(status)
        return True

    def say(self, status: Mapping[str, Any]) -> None:
        """How the server does; with a "state", that it will not answer until it has said something else."""
        line = json.dumps({**status, "counts": {**self._totals, **self._by_label}}).encode() + b"\n"
        with suppress(OSError):
            if self._socket.send(line) < len(line):
                self._socket.shutdown(socket.SHUT_RDWR)  # it has not read for long: it is broken

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        with suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def left_in_child(self) -> None:
        """For a process that was forked from the parent."""
        self._socket.close()


def _run(listening: socket.socket, parent: socket.socket, pid: int) -> None:
    """In the process itself. Never returns."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal, to all: it ends with the parent
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        asyncio.run(_Pages(parent, pid).serve(listening))
        code = 0
    finally:
        os._exit(code)


class _Pages:
    def __init__(self, parent: socket.socket, pid: int) -> None:
        self._parent, self._pid = parent, pid
        self._open = 0
        self._heard = b""
        self._asked: asyncio.Future[Mapping[str, Any]] | None = None
        self._last: tuple[float, Mapping[str, Any]] = 0.0, {"state": "loading the model"}

    async def serve(self, listening: socket.socket) -> None:
        self._parent.setblocking(False)
        asyncio.get_running_loop().add_reader(self._parent, self._hear)
        server = await asyncio.start_server(self._answer, sock=listening, limit=_HEAD)
        async with server:
            await server.serve_forever()

    def _hear(self) -> None:
        data = b""
        with suppress(OSError):
            data = self._parent.recv(1 << 16)
        if not data:
            os._exit(0)  # with the parent
        *lines, self._heard = (self._heard + data).split(b"\n")
        if lines:
            self._last = time.monotonic(), json.loads(lines[-1])
            if self._asked is not None and not self._asked.done():
                self._asked.set_result(self._last[1])

    async def _status(self) -> Mapping[str, Any]:
        """What the parent says of itself; TimeoutError where it says nothing."""
        when, last = self._last
        if "state" in last or time.monotonic() < when + _FRESH:  # it reads a model, and will say when it has
            return last
        if self._asked is None or self._asked.done():
            self._asked = asyncio.get_running_loop().create_future()
            with suppress(BlockingIOError):
                self._parent.send(b"?")
        return await asyncio.wait_for(asyncio.shield(self._asked), _ANSWER)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > CONNECTIONS:
                return
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _PATIENCE)
            status, kind, body = await self._page(head.split(b"\r\n", 1)[0].split(b" "))
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                "Cache-Control: no-store\r\nConnection: close\r\n\r\n".encode()
                + (b"" if head.startswith(b"HEAD") else body)
            )
            await asyncio.wait_for(writer.drain(), _PATIENCE)
        except (OSError, ValueError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass  # whoever asked so gets nothing
        finally:
            self._open -= 1
            writer.close()

    async def _page(self, request: Sequence[bytes]) -> tuple[str, str, bytes]:
        plain = "text/plain; charset=utf-8"
        if len(request) != 3 or request[0] not in (b"GET", b"HEAD"):
            return "405 Method Not Allowed", plain, b"GET alone\n"
        path = request[1].split(b"?")[0]
        if path not in (b"/metrics", b"/healthz", b"/readyz"):
            return "404 Not Found", plain, b"/metrics, /healthz or /readyz\n"
        try:
            status = await self._status()
        except TimeoutError:
            return "503 Service Unavailable", plain, b"the server does not answer\n"
        if path == b"/metrics":
            from prometheus_client.exposition import CONTENT_TYPE_LATEST

            return "200 OK", CONTENT_TYPE_LATEST, page(status, self._pid)
        if path == b"/healthz":
            return "200 OK", plain, b"ok\n"
        reason = status.get("state") or status["not_ready"]
        return ("503 Service Unavailable", plain, f"{reason}\n".encode()) if reason else ("200 OK", plain, b"ok\n")


_GAUGES = {
    "sessions": "Sessions that run.",
    "queue": "Clients that wait for a place.",
    "handshakes": "Connections whose client has not proved who it is.",
}
_TOTALS = {
    "sessions_begun": "Sessions begun.",
    "steps_declined": "Steps that were not computed.",
    "set_up_seconds": "Seconds of set-up: keys, base transfers, encoding of weights.",
    "oblivious_transfers": "Oblivious transfers made.",
    "keys_renewed": "Keys for products of shares that were worn, and made anew.",
    "reloads": "Times that keys, limits and model were read again.",
    "reloads_failed": "Of them, those that left the old model serving.",
}
_BY_LABEL = {
    "sessions_ended": ("Sessions ended too early.", "reason"),
    "connections_refused": ("Connections that came to nothing.", "reason"),
    "steps": ("Steps computed, each for one prompt or several.", "work"),
    "tokens": ("Tokens of steps: those of prompts, and next ones.", "work"),
    "operation_seconds": ("Seconds by operation, waiting for the client included.", "operation"),
    "operation_waiting_seconds": ("Of them, those waited for the client.", "operation"),
    "operation_bytes_received": ("Bytes from clients by operation.", "operation"),
    "operation_bytes_sent": ("Bytes to clients by operation.", "operation"),
}


def page(status: Mapping[str, Any], pid: int) -> bytes:
    """What the parent said, in Prometheus' text format. pid: the parent's, whose memory is looked up."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector

    class ServerCollector(Collector):
        def collect(self) -> Iterator[Metric]:
            counts = status.get("counts", {})
            for name, text in _GAUGES.items():
                yield GaugeMetricFamily(f"aero_server_{name}", text, value=status.get(name, 0))
            ready = not (status.get("state") or status.get("not_ready"))
            yield GaugeMetricFamily("aero_server_ready", "1 where a client that comes is served.", value=int(ready))
            for name, text in _TOTALS.items():
                yield CounterMetricFamily(f"aero_server_{name}", text, value=counts.get(name, 0))
            for name, (text, label) in _BY_LABEL.items():
                family = CounterMetricFamily(f"aero_server_{name}", text, labels=[label])
                for value, count in sorted(counts.get(name, {}).items()):
                    family.add_metric([value], count)
                yield family
            memory = GaugeMetricFamily(
                "aero_server_memory_bytes",
                "Resident memory, and with shared pages counted once.",
                labels=["process", "kind"],
            )
            for process, pids in (("server", [pid]), ("sessions", status.get("pids", []))):
                for kind, size in memory_of(pids).items():
                    memory.add_metric([process, kind], size)
            yield memory

    registry = CollectorRegistry()
    registry.register(ServerCollector())
    return generate_latest(registry)


def memory_of(pids: Sequence[int]) -> dict[str, int]:
    """Bytes of some processes together: resident (rss), and with pages that several share counted once (pss). Empty
    where the system has no /proc."""
    found: Counter[str] = Counter()
    for pid in pids:
        with suppress(OSError, ValueError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name in ("Rss", "Pss"):
                    found[name.lower()] += 1024 * int(rest.split()[0])
    return dict(found)
