"""A real server behind a relay that does to bytes what networks do to them: answers are right, or gone on with."""

import os
import random
import resource
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from aero.cli.private import private_session
from aero.serve.reconnecting import Reconnecting
from aero.wire import WireError, tcp
from aero.wire.keys import Identity
from faults import CUTS, WHAT, Fault, Relay
from serve.test_attacks import PATIENCE, Running, folder, raw, running

assert folder  # the fixture: a run, and keys

COUNT = 3


@pytest.fixture(scope="module")
def server(folder):
    with running(folder, "--sessions", "8") as server:
        yield server


@pytest.fixture(scope="module")
def expected(server) -> list[int]:
    return server.tokens(COUNT)


def answer(server: Running, port: int, most: int = 3) -> tuple[list[int], list[str]]:
    """The tokens, and what the client said of new sessions."""
    keys, said = Identity(server.folder / "keys" / "client"), list[str]()
    address = f"127.0.0.1:{port}"
    with Reconnecting(
        lambda: private_session(address, keys, lambda *_: None, wait=PATIENCE), most, said.append
    ) as client:
        return [token.id for token in client.generate(client.tokenizer.encode_prompt("def main"), COUNT)], said


def held(server: Running) -> tuple[int, int]:
    """Resident kB of the parent, and its descriptors, where the system tells."""
    rss = subprocess.run(["ps", "-o", "rss=", "-p", str(server.process.pid)], capture_output=True, text=True).stdout
    files = Path(f"/proc/{server.process.pid}/fd")
    return int(rss), len(list(files.iterdir())) if files.exists() else 0


def passed(server: Running, expected: list[int]) -> list[int]:
    """Bytes of a session without a fault, up and down."""
    with Relay(server.port) as relay:
        assert answer(server, relay.port) == (expected, [])
        return list(relay.connections[0].passed)


@pytest.mark.parametrize(
    ("what", "up"),
    [
        ("reset", True),
        ("flip", False),
        *(pytest.param(what, up, marks=pytest.mark.slow) for what in WHAT for up in (True, False)),
    ],
)
def test_an_answer_comes_through_a_fault(server, expected, what, up):
    """One that falls silent is noticed after `tcp.DEAD`, by who hears nothing."""
    fault = Fault(what, int(passed(server, expected)[0 if up else 1] * 0.9), up)
    with Relay(server.port, lambda n: fault if n == 0 else None) as relay:
        tokens, said = answer(server, relay.port)
        assert tokens == expected
        breaks = int(what != "delay")
        assert len(said) == breaks and len(relay.connections) == 1 + breaks, said


def test_a_line_that_breaks_every_time_ends_the_answer(server):
    with Relay(server.port, lambda n: Fault("reset", 200_000, up=False)) as relay:
        with pytest.raises(WireError):
            answer(server, relay.port, most=2)
        assert 1 <= len(relay.connections) <= 3
    server.wait_for_children(0)


@pytest.mark.parametrize("what", ["reset", "half-close", pytest.param("flip", marks=pytest.mark.slow)])
def test_cut_at_each_point_of_a_handshake(server, expected, what):
    with Relay(server.port) as relay:
        tcp.connect("127.0.0.1", relay.port, Identity(server.folder / "keys" / "client")).close()
        whole = list(relay.connections[0].passed)
    points = [(up, at) for up in (True, False) for at in range(0, whole[0 if up else 1], 61)]
    with Relay(server.port, lambda n: Fault(what, points[n][1], points[n][0])) as relay:

        def cut(_: int) -> None:
            with suppress(WireError):
                tcp.connect("127.0.0.1", relay.port, Identity(server.folder / "keys" / "client")).close()

        with ThreadPoolExecutor(8 if what == "flip" else 1) as pool:  # a length that is changed is waited for
            list(pool.map(cut, points))
        assert len(relay.connections) == len(points)
    server.wait_for_children(0)
    assert server.tokens(COUNT) == expected


def test_eight_clients_at_once(server, expected):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: answer(server, server.port), range(8)))
    assert answers == [(expected, [])] * 8
    server.wait_for_children(0)


@pytest.mark.slow
def test_many_silent_connections_and_a_port_scan(server, expected):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2048)), hard))
    silent, over = [raw(server) for _ in range(500)], threading.Event()

    def scan() -> None:
        while not over.wait(0.01):
            raw(server).close()

    thread = threading.Thread(target=scan)
    thread.start()
    try:
        assert answer(server, server.port) == (expected, [])
    finally:
        over.set()
        thread.join()
        for sock in silent:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    server.wait_for_children(0)


@pytest.mark.slow
def test_two_hundred_sessions_of_which_half_are_cut(server, expected):
    rng = random.Random(1)
    whole = passed(server, expected)

    def fault_of(number: int) -> Fault | None:
        up = rng.random() < 0.5
        return Fault(rng.choice(CUTS), rng.randrange(whole[0 if up else 1]), up) if number % 2 else None

    before = None
    with Relay(server.port, fault_of) as relay:
        for number in range(200):
            with suppress(WireError):
                assert answer(server, relay.port, most=0)[0] == expected
            if number == 20:
                server.wait_for_children(0)
                before = held(server)
    server.wait_for_children(0)
    after = held(server)
    assert before is not None and after[1] == before[1]
    assert after[0] - before[0] < 2000  # kB; one session's encoded weights are ten times as much
    assert server.tokens(COUNT) == expected


@pytest.mark.slow
def test_workers_that_are_killed_under_load(server, expected):
    """Their clients go on in new sessions, nobody else notices, and the parent lives."""
    rng, over, killed = random.Random(2), threading.Event(), list[int]()

    def kill() -> None:
        while not over.wait(rng.uniform(0.5, 1.5)):
            if children := server.children:
                with suppress(ProcessLookupError):
                    os.kill(rng.choice(children), signal.SIGKILL)
                    killed.append(1)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: answer(server, server.port, most=20), range(24)))
    finally:
        over.set()
        thread.join()
    assert [tokens for tokens, _ in answers] == [expected] * 24
    assert len(killed) > 5 and sum(len(said) for _, said in answers) > 0
    assert server.process.poll() is None
    server.wait_for_children(0)


@pytest.mark.slow
def test_a_signal_under_load_loses_no_answer(folder, expected):
    """Who was being answered when it came has the whole answer; nobody has a part of one."""
    with running(folder, "--sessions", "4") as server:
        begun = threading.Barrier(5)

        def ask(_: int) -> list[int]:
            found: list[int] = []
            with suppress(WireError), server.session() as client:
                for token in client.generate(client.tokenizer.encode_prompt("def main"), COUNT):
                    found.append(token.id)
                    if len(found) == 1:
                        begun.wait(PATIENCE)
            return found

        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(ask, number) for number in range(4)]
            begun.wait(PATIENCE)
            server.process.terminate()
            assert [one.result() for one in answers] == [expected] * 4
        assert server.ended() == 0
