"""What the endpoint did, for Prometheus: counts, sizes and times, and nothing of any text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from aero.proxy.batcher import Batcher
from aero.serve.client import PrivateRun

_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


class ProxyMetrics:
    """Of one endpoint, in a registry of its own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, batcher: Batcher) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests answered.", "route", "status")
        self._tokens = self._counter("tokens", "Tokens: read of prompts, or chosen.", "kind")
        self._bytes = self._counter(
            "private_bytes", "Bytes to and from the private server: of computations, or of set-up.", "work", "direction"
        )
        self._set_up_seconds = self._counter("set_up_seconds", "Seconds of set-up.")
        self._guesses = self._counter("guesses", "Tokens that were guessed: those that held, and all.", "kind")
        self._rounds = self._counter("private_rounds", "Rounds with the private server.")
        self._sessions = self._counter("private_sessions", "Sessions opened with the private server.")
        self._seconds = Histogram(
            "aero_run_seconds", "Of one computation, for all prompts that share it.", ["work"], buckets=_SECONDS,
            registry=self._registry,
        )  # fmt: skip
        for name, text, read in (
            ("running", "Prompts that are being continued.", lambda: batcher.running),
            ("waiting", "Prompts that wait for a place.", lambda: batcher.waiting),
            ("private_server_away", "1 while the private server cannot be reached.", lambda: int(batcher.away)),
        ):
            Gauge(f"aero_{name}", text, registry=self._registry).set_function(read)

    def answered(self, route: str, status: int) -> None:
        self._requests.labels(route, str(status)).inc()

    def chosen(self) -> None:
        self._tokens.labels("chosen").inc()

    def ran(self, run: PrivateRun) -> None:
        self._seconds.labels(run.work).observe(run.cost.seconds)
        self._tokens.labels("read").inc(sum(step.length for step in run.steps))
        for work, cost in (("computation", run.cost), ("set-up", run.set_up)):
            self._bytes.labels(work, "to_server").inc(cost.bytes_client_to_server or 0)
            self._bytes.labels(work, "from_server").inc(cost.bytes_server_to_client or 0)
        self._set_up_seconds.inc(run.set_up.seconds)
        self._guesses.labels("made").inc(run.guessed)
        self._guesses.labels("held").inc(run.held)
        self._rounds.inc(run.cost.rounds or 0)

    def opened(self) -> None:
        self._sessions.inc()

    def page(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"aero_{name}", text, labels, registry=self._registry)
