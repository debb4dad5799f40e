"""A real server process, and what strangers, lost clients and signals do to it: nothing, or what is said of them."""

import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from aero.cli.private import private_session
from aero.wire import PeerBusyError, PeerClosedError, WireError
from aero.wire.frame import VERSION
from aero.wire.keys import Identity, make_keys
from aero.wire.tcp import connect
from serve.test_two_processes import client, folder, start_server

assert folder  # the fixture: a run, and keys

PATIENCE = 60.0
"""Seconds after which a test that hangs is stopped."""
RESET = struct.pack("ii", 1, 0)
GREETING = struct.Struct("<4sB3xdd")


class Running:
    """A server process, and what it has said so far."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.process, self.address = start_server(folder, *options)
        self.port = int(self.address.rpartition(":")[2])
        self.lines: list[str] = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True)
        self.reader.start()

    def wait_for(self, pattern: str) -> None:
        """Until a line says so; the test fails where none does."""
        deadline = time.monotonic() + PATIENCE
        while not any(re.search(pattern, line) for line in list(self.lines)):
            assert time.monotonic() < deadline and self.process.poll() is None, self.lines
            time.sleep(0.02)

    @contextmanager
    def session(self):
        """With a client of our own process; that its session has ended before it leaves is no failure."""
        keys = Identity(self.folder / "keys" / "client")
        with ExitStack() as opened:
            client = opened.enter_context(private_session(self.address, keys, lambda *_: None))
            yield client
            with suppress(WireError):
                opened.close()

    def connect(self):
        return connect("127.0.0.1", self.port, Identity(self.folder / "keys" / "client"))

    def tokens(self, count: int = 1) -> list[int]:
        with self.session() as client:
            return [token.id for token in client.generate(client.tokenizer.encode_prompt("def main"), count)]

    @property
    def children(self) -> list[int]:
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout
        return [int(pid) for pid in found.split()]

    def wait_for_children(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while len(self.children) != count:
            assert time.monotonic() < deadline, self.children
            time.sleep(0.02)

    def ended(self) -> int:
        code = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        return code


@contextmanager
def running(folder: Path, *options: str):
    server = Running(folder, *options)
    try:
        yield server
    finally:
        server.process.kill()
        server.reader.join(PATIENCE)
        server.process.communicate()


@pytest.fixture(scope="module")
def server(folder):
    with running(folder, "--sessions", "3") as server:
        yield server


def raw(server: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port))


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def client_hello(folder: Path) -> bytes:
    """How a client with our own certificate begins."""
    context, _ = Identity(folder / "keys" / "client").tls_context(server_side=False)
    out = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    return out.read()


def test_bytes_and_a_reset(server, folder):
    hello = client_hello(folder)
    for said in (b"", bytes(16), b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n", hello, hello[:-7], hello * 2):
        for end in (socket.socket.close, reset):
            sock = raw(server)
            sock.sendall(said)
            end(sock)
    assert len(server.tokens()) == 1


def test_a_client_that_is_reset_after_its_handshake(server, folder):
    """Known to the server, and gone at each point of what follows."""
    context, _ = Identity(folder / "keys" / "client").tls_context(server_side=False)
    for read in (0, 24):
        tls = context.wrap_socket(raw(server))
        if read:
            tls.sendall(GREETING.pack(b"AERO", VERSION, float("inf"), 0.0))
        if read:
            assert tls.recv(read)[:4] == b"AERO"
        tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        socket.socket.close(tls)
    assert len(server.tokens()) == 1


def test_silent_connections_and_half_handshakes_keep_nobody_out(server, folder):
    """All from the honest client's own address, before it and while it computes."""
    hello = client_hello(folder)
    with ExitStack() as held:
        for number in range(200):
            sock = held.enter_context(raw(server))
            with suppress(ConnectionError):  # ended by the server, which has enough of them
                sock.sendall((b"", hello, hello[:40])[number % 3])
        with server.session() as client:
            tokens = []
            for token in client.generate(client.tokenizer.encode_prompt("def main"), 3):
                tokens.append(token.id)
                for _ in range(20):
                    held.enter_context(raw(server))
            assert len(server.children) <= 16 + 1
        assert tokens == server.tokens(3)
    server.wait_for_children(0)


def test_sessions_side_by_side(server):
    """Each begins before any has ended, and has the model's tokens; the one beyond the places is told so."""
    alone = server.tokens(3)
    with ExitStack() as sessions:
        clients = [sessions.enter_context(server.session()) for _ in range(3)]
        with pytest.raises(PeerBusyError, match="is busy: place 1 in its queue; try again, or wait longer"):
            server.connect()
        prompt = clients[0].tokenizer.encode_prompt("def main")
        answers = [one.generate(prompt, 3) for one in clients]
        for _ in range(3):
            for answer in answers:
                next(answer)
        assert [[token.id for token in one.generate(prompt, 3)] for one in clients] == [alone] * 3
    server.wait_for_children(0)
    assert server.tokens(3) == alone


def test_sessions_that_break_off_leave_nothing(server):
    def held() -> tuple[int, int]:
        rss = subprocess.run(["ps", "-o", "rss=", "-p", str(server.process.pid)], capture_output=True, text=True)
        files = Path(f"/proc/{server.process.pid}/fd")
        return int(rss.stdout), len(list(files.iterdir())) if files.exists() else 0

    memory = files = 0
    for number in range(24):
        with suppress(WireError), server.session() as client:
            answer = client.generate(client.tokenizer.encode_prompt("def main"), 3)
            next(answer)
            socket.socket.shutdown(client.engine._party.channel._link._socket, socket.SHUT_RDWR)
            next(answer)
        server.wait_for_children(0)
        if number == 3:
            memory, files = held()
    after = held()
    assert after[1] == files
    assert after[0] - memory < 2000  # kB; one session's encoded weights are ten times as much


@pytest.mark.slow
def test_keys_that_are_replaced_while_clients_come(folder, tmp_path):
    home = tmp_path / "both"
    make_keys(home / "keys")
    (home / "run").symlink_to(folder / "run")
    done = threading.Event()
    known = failed = 0
    with running(home) as server:

        def replace() -> None:
            names = "key.pem", "cert.pem", "clients/client.pem"
            files = {name: (home / "keys/server" / name).read_bytes() for name in names}
            make_keys(home / "others")
            others = {name: (home / "others/server" / name).read_bytes() for name in files}
            for number in range(100):
                for name, data in (others if number % 2 else files).items():
                    new = home / "new"
                    new.write_bytes(data)
                    new.chmod(0o600)
                    os.replace(new, home / "keys/server" / name)
                time.sleep(0.01)
            for name, data in files.items():
                (home / "keys/server" / name).write_bytes(data)
            done.set()

        thread = threading.Thread(target=replace)
        thread.start()
        while not done.is_set():
            try:
                server.connect().close()
                known += 1
            except WireError:
                failed += 1
        thread.join()
        assert known and failed, "nothing was replaced while clients came"
        assert len(server.tokens()) == 1
        (home / "keys/server/key.pem").rename(home / "key.pem")
        with pytest.raises(WireError):
            server.connect()
        (home / "key.pem").rename(home / "keys/server/key.pem")
        assert len(server.tokens()) == 1


def test_a_record_that_cannot_be_written_is_said(folder, tmp_path):
    (tmp_path / "place").write_text("a file where a folder belongs")
    with running(folder, "--json", str(tmp_path / "place" / "server.json")) as server:
        first = server.tokens()
        server.wait_for("server.json cannot be written")
        (tmp_path / "place").unlink()
        assert server.tokens() == first
        server.wait_for("session 2 finished")
        server.process.terminate()
        assert server.ended() == 0
    records = json.loads((tmp_path / "place" / "server.json").read_text())
    assert [record["work"] for record in records] == ["prefill"] * 2


@pytest.mark.slow
def test_clients_that_fall_silent_are_ended_and_cost_nobody_else_anything(folder):
    with running(folder, "--sessions", "2", "--stall", "5", "--idle", "8") as server:
        with server.session() as thinking:
            silent = server.connect()  # which never says hello
            server.wait_for("session 2 ended: the other side sent nothing within the timeout")
            silent.close()
            stopped = client(folder, server.address, "--prompt", "def main", "-n", "4")
            assert "prompt tokens" in stopped.stderr.readline()
            os.kill(stopped.pid, signal.SIGSTOP)
            server.wait_for("session 1 ended: the other side sent nothing within the timeout")
            server.wait_for("session 3 ended: the other side sent nothing within the timeout")
            with pytest.raises(PeerClosedError, match="waited for this side longer than its timeout"):
                list(thinking.generate([0, 1], 1))
        stopped.kill()
        stopped.communicate()
        assert len(server.tokens()) == 1


@pytest.mark.slow
def test_a_busy_server_and_the_verb(folder):
    with running(folder, "--sessions", "1", "--queue", "0") as server, server.session():
        second = client(folder, server.address, "--wait", "0")
        _, error = second.communicate(timeout=PATIENCE)
    assert second.returncode == 75 and len(error.strip().splitlines()) == 1, error
    assert f"{server.address} is busy: 1 session, 0 waiting; try again" in error


class Waiting:
    """A client in a thread that waits for a place, and what it was told meanwhile."""

    def __init__(self, server: Running, wait: float = PATIENCE) -> None:
        self.told: list[str] = []
        self.failure: Exception | None = None
        self.inside, self.leave = threading.Event(), threading.Event()
        self._changed = threading.Condition()
        self._arguments = server.address, Identity(server.folder / "keys" / "client"), self._progress, None, wait
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _progress(self, label: str, share: float) -> None:
        with self._changed:
            self.told.append(label)
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            with private_session(*self._arguments):
                self.inside.set()
                self.leave.wait(PATIENCE)
        except WireError as error:
            self.failure = error
        self._progress("over", 1.0)

    def wait_for(self, label: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: any(label in told for told in self.told), PATIENCE), self.told

    def end(self) -> None:
        self.leave.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


def test_clients_wait_in_order_and_are_told_their_place(folder):
    with running(folder, "--sessions", "1", "--queue", "2") as server:
        first = Waiting(server)
        assert first.inside.wait(PATIENCE)
        second = Waiting(server)
        second.wait_for("1 in the queue")
        third = Waiting(server)
        third.wait_for("2 in the queue")
        fourth = Waiting(server, wait=0)
        fourth.wait_for("over")
        assert "is busy: 1 session, 2 waiting; try again" in str(fourth.failure)
        assert not second.inside.is_set()
        first.end()
        assert second.inside.wait(PATIENCE)
        third.wait_for("1 in the queue")
        assert not third.inside.is_set()
        second.end()
        assert third.inside.wait(PATIENCE)
        third.end()
        assert [one.failure for one in (first, second, third)] == [None] * 3
        server.wait_for("waits, place 2")
        server.wait_for_children(0)


def test_who_waits_and_goes_gives_its_place_up_at_once(folder):
    """By a goodbye of its own patience, by a reset, and by an end of its process without a word."""
    with running(folder, "--sessions", "1", "--queue", "3") as server:
        first = Waiting(server)
        assert first.inside.wait(PATIENCE)
        with pytest.raises(PeerBusyError, match="place 1 in its queue"):
            server.connect()
        server.wait_for_children(1)
        context, _ = Identity(folder / "keys" / "client").tls_context(server_side=False)
        greeting = GREETING.pack(b"AERO", VERSION, float("inf"), 0.0)
        for end in (socket.socket.close, reset):
            tls = context.wrap_socket(raw(server))
            tls.sendall(greeting)
            told = b""
            while len(told) < len(greeting) + 5:
                told += tls.recv(64)
            assert told[len(greeting) :][:3] == b"\x01\x01\x00", "waits, at place 1"
            last = Waiting(server)
            last.wait_for("2 in the queue")
            end(tls)
            last.wait_for("1 in the queue")
            first.end()
            assert last.inside.wait(PATIENCE)
            first = last
        first.end()
        server.wait_for_children(0)


def test_who_speaks_before_it_was_asked_to_come_in_is_refused(folder):
    with running(folder, "--sessions", "1") as server, server.session():
        context, _ = Identity(folder / "keys" / "client").tls_context(server_side=False)
        with context.wrap_socket(raw(server)) as tls:
            tls.sendall(GREETING.pack(b"AERO", VERSION, float("inf"), 0.0) + b"\x01\x01let me in")
            server.wait_for("no session with .*: the client")
        server.wait_for_children(1)


def test_sessions_of_limited_length(folder):
    with running(folder, "--longest", "2") as server, server.session() as long:
        prompt = long.tokenizer.encode_prompt("def main")
        with pytest.raises(PeerClosedError, match="the session has lasted as long as one may; begin a new one"):
            while True:
                list(long.generate(prompt, 1))
        server.wait_for("session 1 ended: it has lasted as long as a session may")
        assert len(server.tokens()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_sessions_after_their_answers(folder, number):
    with running(folder, "--sessions", "3") as server:
        with server.session() as thinking, server.session() as talking, server.session() as pausing:
            waiting = Waiting(server)
            waiting.wait_for("1 in the queue")
            prompt = talking.tokenizer.encode_prompt("def main")
            assert len(list(thinking.generate(prompt, 1))) == 1
            answer, paused = talking.generate(prompt, 3), pausing.generate(prompt, 3)
            next(paused)
            next(answer)
            server.process.send_signal(number)
            assert len(list(answer)) == 2
            waiting.wait_for("is being stopped; try again in a while")
            for number in (1, 2, 3):
                server.wait_for(f"session {number} ended")  # no answer goes on there
            for one in (talking.generate(prompt, 1), thinking.generate(prompt, 1), paused):
                with pytest.raises(PeerClosedError, match="it is being stopped; begin a new session"):
                    list(one)
            with pytest.raises(WireError):
                server.connect()
        assert server.ended() == 0
    assert sum("ended: this server is being stopped" in line for line in server.lines) == 3


@pytest.mark.slow
def test_a_stopped_server_under_load_loses_no_answer(folder):
    with running(folder, "--sessions", "4", "--queue", "0") as server:
        expected = server.tokens(8)
        begun, answers = threading.Barrier(5), []

        def talk() -> None:
            with server.session() as talking:
                answer = talking.generate(talking.tokenizer.encode_prompt("def main"), 8)
                tokens = [next(answer).id]
                begun.wait(PATIENCE)
                tokens += [token.id for token in answer]
                answers.append(tokens)

        threads = [threading.Thread(target=talk) for _ in range(4)]
        for thread in threads:
            thread.start()
        begun.wait(PATIENCE)
        server.process.terminate()
        for thread in threads:
            thread.join(PATIENCE)
        assert answers == [expected] * 4
        assert server.ended() == 0


@pytest.mark.slow
def test_an_answer_that_takes_too_long_ends_after_its_step(folder):
    with running(folder, "--drain", "4") as server:
        with server.session() as talking:
            prompt = talking.tokenizer.encode_prompt("def main")
            server.process.terminate()
            with pytest.raises(PeerClosedError, match="it is being stopped"):
                while True:
                    list(talking.generate(prompt, 4))
        assert server.ended() == 0


@pytest.mark.slow
def test_a_second_signal_ends_at_once_what_the_first_waits_for(folder):
    with running(folder, "--stall", "600") as server:
        stopped = client(folder, server.address, "--prompt", "def main", "-n", "4")
        assert "prompt tokens" in stopped.stderr.readline()
        os.kill(stopped.pid, signal.SIGSTOP)
        server.wait_for("session 1 begins")
        [child] = server.children
        server.process.terminate()
        time.sleep(0.5)
        if server.process.poll() is None:  # its step was under way
            server.process.terminate()
        assert server.ended() in (0, 1)
        stopped.kill()
        stopped.communicate()
    assert_gone(child)


def test_sessions_end_with_a_server_that_is_killed(folder):
    with running(folder) as server, server.session() as client:
        [child] = server.children
        server.process.kill()
        server.process.wait()
        with pytest.raises(WireError):
            list(client.generate([0, 1], 1))
    assert_gone(child)


@pytest.mark.slow
def test_a_session_whose_process_is_killed_ends_alone(folder):
    with running(folder) as server, server.session() as other:
        with pytest.raises(WireError), server.session() as lost:
            os.kill(max(server.children), signal.SIGKILL)
            list(lost.generate([0, 1], 1))
        server.wait_for("session 2 ended: its process ended by signal 9")
        assert len(list(other.generate([0, 1], 1))) == 1


def assert_gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    with suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            assert time.monotonic() < deadline
            time.sleep(0.02)
