"""Keys made once, pairs of channels over every link, and a way to run two parties."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aero.wire import Channel, memory, tcp
from aero.wire.keys import Identity, make_keys
from aero.wire.network import Network

WATCHDOG = 60.0
"""Seconds after which a test that hangs is stopped; never how long something may take."""


def run_both(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    """Run two parties in two threads; what each returned, or the exception it raised."""
    results: list[Any] = [None, None]

    def run(index: int, party: Callable[[], Any]) -> None:
        try:
            results[index] = party()
        except BaseException as error:
            results[index] = error

    threads = [
        threading.Thread(target=run, args=(index, party), daemon=True) for index, party in enumerate((first, second))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WATCHDOG)
        assert not thread.is_alive(), "a party hangs"
    return results[0], results[1]


@pytest.fixture(scope="session")
def keys_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder)
    return folder


@pytest.fixture(scope="session")
def server_identity(keys_folder: Path) -> Identity:
    return Identity(keys_folder / "server")


@pytest.fixture(scope="session")
def client_identity(keys_folder: Path) -> Identity:
    return Identity(keys_folder / "client")


@pytest.fixture
def both() -> Callable[[Callable[[], Any], Callable[[], Any]], tuple[Any, Any]]:
    return run_both


@pytest.fixture(params=["memory", "tls", "plaintext", "shaped"])
def make_pair(
    request: pytest.FixtureRequest, server_identity: Identity, client_identity: Identity
) -> Callable[..., tuple[Channel, Channel]]:
    """Makes (server's channel, client's channel); arguments as `tcp.connect`."""

    def make(**settings: Any) -> tuple[Channel, Channel]:
        if request.param == "memory":
            return memory.channel_pair(**settings)
        if request.param == "shaped":
            settings["network"] = Network("test", 1e9, 1e-3)
        insecure = tcp.InsecurePlaintext()
        server, client = (insecure, insecure) if request.param == "plaintext" else (server_identity, client_identity)
        with tcp.Listener("127.0.0.1", 0, server, **settings) as listener:
            accepted, connected = run_both(
                lambda: listener.accept(WATCHDOG), lambda: tcp.connect("127.0.0.1", listener.port, client, **settings)
            )
        for channel in (accepted, connected):
            if isinstance(channel, BaseException):
                raise channel
        return accepted, connected

    return make
