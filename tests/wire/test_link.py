"""The outbox: order, limits, and what happens when its writer fails."""

import threading

import pytest

from aero.wire import PeerSilentError, PeerVanishedError, WireError, link, memory
from aero.wire.link import Outbox


def test_items_are_written_in_order_and_the_thread_ends() -> None:
    written: list[int] = []
    outbox = Outbox(written.append, timeout=10)
    for number in range(1000):
        outbox.put(number, 1)
    outbox.flush()
    assert written == list(range(1000))
    assert outbox.empty
    outbox.join()
    assert not [thread for thread in threading.enumerate() if thread.name == "aero-wire-outbox"]


def test_a_failure_drops_the_rest_and_is_raised_to_the_next_caller() -> None:
    written = []

    def write(item: int) -> None:
        if item == 2:
            raise PeerVanishedError("gone")
        written.append(item)

    outbox = Outbox(write, timeout=10)
    go = threading.Event()
    for number in range(3):
        outbox.put(number, 1)
    outbox.flush()
    go.set()
    assert written == [0, 1]
    with pytest.raises(PeerVanishedError, match="gone"):
        outbox.put(9, 1)
    with pytest.raises(PeerVanishedError, match="gone"):
        _ = outbox.empty


def test_a_full_outbox_waits_and_then_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "MAX_WAITING_BYTES", 100)
    go = threading.Event()
    written = []

    def write(item: int) -> None:
        go.wait()
        written.append(item)

    outbox = Outbox(write, timeout=0.1)
    outbox.put(0, 1000)  # One item alone may exceed the limit: it has to go somewhere.
    with pytest.raises(PeerSilentError, match=r"took nothing for 0\.1 s while 1000 bytes waited"):
        outbox.put(1, 1)
    go.set()
    outbox.flush()
    outbox.put(2, 60)
    outbox.flush()
    assert written == [0, 2]


def test_a_closed_outbox_takes_no_more() -> None:
    outbox = Outbox(lambda item: None, timeout=1)
    outbox.fail(WireError("closed"))
    with pytest.raises(WireError, match="closed"):
        outbox.put(1, 1)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_link_needs_a_timeout(timeout: float) -> None:
    with pytest.raises(ValueError, match="positive, finite"):
        memory.link_pair(timeout=timeout)
