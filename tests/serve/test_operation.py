"""A server as whoever runs it sees it: its log, its metrics, its health, and models that are put in place."""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aero.cli.logs import EventLog, LogFormat, events, start_log
from aero.cli.serve import metrics_at, threads_of
from aero.cli.served import serve_run
from aero.compiler.folder import write
from aero.serve import metrics
from aero.serve.metrics import ServerMetrics, memory_of, page
from aero.serve.supervisor import Event
from aero.wire import PeerClosedError
from aero.wire.keys import make_keys
from serve.test_attacks import PATIENCE, running
from small_models import save_run

STEP = {
    "line": "prefill: 4 tokens  0.50 s", "work": "prefill", "seconds": 0.5, "tokens": 4,
    "operations": {
        "operation_seconds": {"linear": 0.25}, "operation_waiting_seconds": {"linear": 0.1},
        "operation_bytes_received": {"linear": 1000}, "operation_bytes_sent": {"linear": 2000},
    },
    "totals": {"set_up_seconds": 1.5, "oblivious_transfers": 640, "keys_renewed": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Keys, and two compiled models that give other tokens: one and two."""
    home = tmp_path_factory.mktemp("models")
    make_keys(home / "keys")
    for seed, name in enumerate(("one", "two")):
        run, folder = home / f"run-{name}", home / name
        model = save_run(run, seed)
        served, _ = serve_run(run, model)
        folder.mkdir()
        shutil.copy(run / "tokenizer.json", folder)
        write(folder, served.compiled, str(model.config.notation), plan=served.quantized.plan)
    return home


@pytest.fixture
def home(models, tmp_path):
    """A folder to be served, `run`, with the first of the models."""
    (tmp_path / "keys").symlink_to(models / "keys")
    shutil.copytree(models / "one", tmp_path / "run")
    return tmp_path


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def samples(text: str) -> dict[tuple, float]:
    """Every sample by its name and its labels' values, as Prometheus' own reader understands the page."""
    return {
        (sample.name.removeprefix("aero_server_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# The log


@pytest.fixture
def log(capsys):
    """Sets the log up, and gives the lines so far."""
    ours = logging.getLogger("aero")
    before = ours.handlers[:], ours.propagate, events.handlers[:], events.propagate, events.level

    def start(form: LogFormat):
        start_log(form)
        return lambda: capsys.readouterr().out.splitlines()

    yield start
    ours.handlers, ours.propagate, events.handlers, events.propagate, events.level = before


def test_nothing_that_a_peer_says_is_more_than_a_part_of_a_line(log):
    why = 'closed\n2026-01-01 00:00:00 INFO    session 9 begins, with root\x1b[2J\u2028"}\r{' + "!" * 5000
    event = Event("refused", "192.0.2.1:9", "alice", 0, {"why": why, "reason": "protocol"})
    for form in LogFormat:
        lines = log(form)
        EventLog()(event)
        logging.getLogger("aero.wire").warning("%s", why)
        first, second = lines()
        for line in (first, second):
            assert len(line) < 5000 and "\x1b" not in line and "\u2028" not in line
        if form is LogFormat.JSON:
            said = json.loads(first)
            assert said["event"] == "refused" and said["client"] == "alice" and said["reason"] == "protocol"
            assert said["level"] == "info" and json.loads(second)["level"] == "warning"


def test_an_event_a_line_with_what_a_program_wants_to_know(log):
    lines, write_event = log(LogFormat.JSON), EventLog()
    where = "192.0.2.1:9", "alice", 3
    write_event(Event("waits", *where[:2], 0, {"place": 2}))
    write_event(Event("begun", *where, {}))
    write_event(Event("told", *where, STEP))
    write_event(Event("told", *where, {"declined": "no room for noise"}))
    write_event(Event("ended", *where, {"failure": "gone", "reason": "vanished", "seconds": 2.0}))
    write_event(Event("reloaded", "", None, 0, {"failure": "graph.json is lost"}))
    said = [json.loads(line) for line in lines()]
    assert [one["event"] for one in said] == ["waits", "begun", "step", "declined", "ended", "reloaded"]
    assert [one["level"] for one in said] == ["info"] * 3 + ["warning", "info", "error"]
    assert all(one["session"] == 3 and one["client"] == "alice" for one in said[1:5])
    assert said[0]["place"] == 2 and said[2]["tokens"] == 4 and said[4]["reason"] == "vanished"
    assert "operations" not in said[2]


def test_connections_that_come_to_nothing_cannot_fill_the_log(log):
    lines, write_event = log(LogFormat.TEXT), EventLog()
    for number in range(1000):
        kind, what = ("waits", {"place": 1}) if number % 2 else ("refused", {"why": "no", "reason": "protocol"})
        write_event(Event(kind, "192.0.2.1:9", None, 0, what))
    assert len(lines()) == EventLog._MOST
    write_event._since -= EventLog._MINUTE + 1
    write_event(Event("refused", "192.0.2.1:9", None, 0, {"why": "no", "reason": "protocol"}))
    assert "990 more connections" in lines()[0]


def test_a_server_that_logs_json(home):
    with running(home, "--log-format", "json") as server:
        assert len(server.tokens(2)) == 2
        server.wait_for('"event": "ended"')
        server.process.terminate()
        assert server.ended() == 0
    said = [json.loads(line) for line in server.lines]
    found = [one.get("event") for one in said]
    assert [one for one in found if one] == ["begun", "step", "step", "ended", "stopped"]
    assert all(one["client"] == "client" and one["session"] == 1 for one in said if one.get("event") == "step")
    assert "main" not in "".join(server.lines)


def test_a_fault_of_ours_has_its_traceback_and_ends_one_session_alone():
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "faulty_server.py", "DEBUG"],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0 and "its process ended with 1" in done.stdout, done.stderr
    assert "Traceback" in done.stderr and "TypeError: a fault of ours" in done.stderr


# Metrics


@pytest.fixture
def shown():
    found = ServerMetrics("127.0.0.1", 0)
    yield found
    found.close()


def test_what_is_counted(shown):
    shown.note("begun", {})
    shown.note("told", STEP)
    shown.note("told", STEP)
    shown.note("told", {"declined": "no room"})
    shown.note("ended", {"failure": "gone", "reason": "vanished"})
    shown.note("ended", {"failure": None, "reason": ""})
    shown.note("refused", {"why": "busy", "reason": "busy"})
    shown.note("reloaded", {"failure": "lost"})
    status = {"sessions": 2, "queue": 1, "handshakes": 3, "pids": [], "not_ready": ""}
    found = samples(page({**status, "counts": {**shown._totals, **shown._by_label}}, 1).decode())
    for name, value in {
        ("sessions",): 2, ("queue",): 1, ("handshakes",): 3, ("ready",): 1, ("sessions_begun_total",): 1,
        ("steps_total", "prefill"): 2, ("tokens_total", "prefill"): 8, ("steps_declined_total",): 1,
        ("sessions_ended_total", "vanished"): 1, ("connections_refused_total", "busy"): 1,
        ("operation_seconds_total", "linear"): 0.5, ("operation_bytes_received_total", "linear"): 2000,
        ("operation_bytes_sent_total", "linear"): 4000, ("set_up_seconds_total",): 3,
        ("oblivious_transfers_total",): 1280, ("keys_renewed_total",): 2, ("reloads_failed_total",): 1,
    }.items():  # fmt: skip
        assert found[name] == value, name


def test_where_metrics_cannot_be_shown(shown, monkeypatch):
    with pytest.raises(ValueError, match=f"cannot be shown at 127.0.0.1:{shown.port} .*choose another --metrics"):
        ServerMetrics("127.0.0.1", shown.port)
    for wrong in ("here", "localhost:", "1:2:99999"):
        with pytest.raises(ValueError, match="give PORT, or HOST:PORT"):
            metrics_at(wrong)
    monkeypatch.setattr("aero.cli.serve.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'aero-private-inference\[server\]'"):
        metrics_at("9464")


def test_labels_are_bounded(shown):
    for number in range(1000):
        shown.note("refused", {"why": "", "reason": f"reason {number}"})
    known = shown._by_label["connections_refused"]
    assert len(known) <= metrics.MOST_LABELS + 1 and sum(known.values()) == 1000 and known[metrics.OTHER] > 900


def test_who_asks_over_http_is_bounded_and_never_makes_the_parent_wait(shown, monkeypatch):
    """The parent answers when it looks, once for many who ask; silence, noise and floods are the other process's."""
    with ExitStack() as held:
        for number in range(metrics.CONNECTIONS + 20):
            sock = held.enter_context(socket.create_connection(("127.0.0.1", shown.port)))
            sock.sendall((b"", b"GET /metr", b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000, b"\x16\x03\x01")[number % 4])
        time.sleep(0.2)
    wait_until(lambda: get(shown.port, "/elsewhere")[0] == 404)
    assert get(shown.port, "/readyz") == (503, "loading the model\n")
    assert get(shown.port, "/healthz") == (200, "ok\n")
    shown.say({"sessions": 0, "not_ready": "", "pids": []})
    assert get(shown.port, "/readyz") == (200, "ok\n")
    time.sleep(metrics._FRESH)
    assert get(shown.port, "/healthz") == (503, "the server does not answer\n")
    shown._socket.setblocking(True)
    assert set(shown._socket.recv(4096)) == {ord("?")}
    shown._socket.setblocking(False)
    shown.say({"sessions": 0, "not_ready": "being stopped", "pids": []})
    assert get(shown.port, "/readyz") == (503, "being stopped\n")
    assert shown.asked({"not_ready": ""})  # nobody has: nothing to read


def test_a_process_that_shows_nothing_any_more_is_noticed(shown):
    shown._socket.setblocking(True)
    os.kill(shown._pid, signal.SIGKILL)
    assert not shown.asked({})


def test_memory_is_that_of_the_processes():
    with subprocess.Popen(["sleep", "60"]) as process:
        found = memory_of([process.pid, 2**22 + 1])
        process.kill()
    if found:  # a system with /proc
        assert 0 < found["pss"] <= found["rss"] < 1e8


def test_metrics_of_a_server(home):
    with running(home, "--metrics", "0", "--sessions", "1", "--queue", "0") as server:
        server.wait_for("metrics at port")
        port = int(next(line for line in server.lines if "metrics at" in line).split()[-1])
        wait_until(lambda: get(port, "/readyz")[0] == 200)
        with server.session() as client:
            assert len(list(client.generate(client.tokenizer.encode_prompt("def main"), 3))) == 3
            server.wait_for("token after 5")
            time.sleep(metrics._FRESH)
            status, text = get(port, "/metrics")
            assert status == 200
            assert get(port, "/readyz") == (503, "busy: 1 sessions, 0 waiting\n")
        found = samples(text)
        assert found["sessions",] == 1 and found["steps_total", "next-token"] == 2
        assert found["oblivious_transfers_total",] > 0 and found["set_up_seconds_total",] > 0
        sent = sum(value for name, value in found.items() if name[0] == "operation_bytes_sent_total")
        assert sent > 1e5 and {"linear", "softmax", "ots"} <= {name[1] for name in found if len(name) > 1}
        server.process.terminate()
        assert server.ended() == 0
        with pytest.raises(urllib.error.URLError):
            get(port, "/healthz")


# Threads


@pytest.mark.parametrize(("cores", "sessions", "threads"), [(2, 4, 1), (2, 1, 2), (16, 4, 4), (16, 5, 3), (1, 1, 1)])
def test_sessions_share_the_cores(monkeypatch, cores, sessions, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert threads_of(sessions) == threads


# Models put in place


def test_a_new_model_is_taken_for_new_sessions_and_a_damaged_one_for_none(home, models):
    with running(home) as server:
        first = server.tokens(3)
        with server.session() as old:
            ids = old.tokenizer.encode_prompt("def main")
            (home / "run").rename(home / "before")
            shutil.copytree(models / "two", home / "run")
            for _ in range(10):
                server.process.send_signal(signal.SIGHUP)
                time.sleep(0.05)
            server.wait_for("reloaded")
            second = server.tokens(3)
            assert second != first
            assert [token.id for token in old.generate(ids, 3)] == first, "a running session keeps its model"
        (home / "run" / "graph.json").unlink()
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("ERROR .* the old model goes on: .*graph.json")
        assert server.tokens(3) == second
        assert sum("reloaded" in line for line in server.lines) <= 4
        server.wait_for_children(0)


def test_a_stopping_server_reads_nothing_again(home):
    with running(home) as server, server.session() as talking:
        answer = talking.generate(talking.tokenizer.encode_prompt("def main"), 3)
        next(answer)
        server.process.terminate()
        server.process.send_signal(signal.SIGHUP)
        assert len(list(answer)) == 2
        with pytest.raises(PeerClosedError):
            list(talking.generate([0, 1], 1))
        assert server.ended() == 0
    assert not any("reloaded" in line for line in server.lines)
