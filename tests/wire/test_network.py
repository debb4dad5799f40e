"""Shaping: when each byte is due, and that it is not there earlier."""

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.wire import PeerVanishedError, memory, network
from aero.wire.link import Link
from aero.wire.network import LAN, LOOPBACK, WAN, Network, ShapedLink, shape


class Recorder(Link):
    """Takes everything, and remembers it with the moment it came."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.arrivals: list[tuple[float, int]] = []
        self._clock = clock

    def send(self, buffers: Sequence[memoryview]) -> None:
        self.arrivals.append((self._clock(), sum(len(buffer) for buffer in buffers)))

    def receive_into(self, view: memoryview, deadline: float) -> None:
        raise NotImplementedError

    def close(self, *, abruptly: bool = False) -> None:
        pass


class Clock:
    """Stands still except for those who sleep: the writer's own time."""

    def __init__(self) -> None:
        self.start = 100.0
        self.slept = 0.0

    def monotonic(self) -> float:
        return self.start

    def sleep(self, seconds: float) -> None:
        self.slept = seconds


@given(
    sizes=st.lists(st.integers(1, 300_000), min_size=1, max_size=6),
    megabits=st.floats(1, 1000),
    milliseconds=st.floats(0, 500),
)
def test_every_byte_is_due_after_those_before_it_and_half_a_round_trip(
    sizes: list[int], megabits: float, milliseconds: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(network, "time", clock)
        recorder = Recorder(lambda: clock.slept)
        link = ShapedLink(recorder, Network("test", megabits * 1e6, milliseconds / 1e3))
        for size in sizes:
            link.send([memoryview(bytes(size))])
        link.close()
    assert sum(size for _, size in recorder.arrivals) == sum(sizes)
    ends = np.cumsum([size for _, size in recorder.arrivals])
    due = ends * 8 / (megabits * 1e6) + milliseconds / 2e3
    assert np.allclose([moment for moment, _ in recorder.arrivals], due, rtol=1e-6, atol=1e-6)
    assert set(np.cumsum(sizes)) <= set(ends), "the end of each message is due exactly"


def test_a_line_that_was_idle_is_free_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(network, "time", clock)
    recorder = Recorder(lambda: clock.slept)
    link = ShapedLink(recorder, Network("test", 8e6, 0.0))
    link.send([memoryview(bytes(1000))])
    link._outbox.flush()
    clock.start += 50
    link.send([memoryview(bytes(1000))])
    link.close()
    assert [moment for moment, _ in recorder.arrivals] == pytest.approx([1e-3, 1e-3])


def test_the_sender_is_not_held_up_while_bytes_travel() -> None:
    arrived = threading.Event()
    go = threading.Event()

    class Held(Recorder):
        def send(self, buffers: Sequence[memoryview]) -> None:
            go.wait()
            super().send(buffers)
            arrived.set()

    recorder = Held()
    link = ShapedLink(recorder, Network("test", 1e9, 0.01))
    for _ in range(100):
        link.send([memoryview(bytes(1000))])
    assert not arrived.is_set(), "all sends returned before anything arrived"
    go.set()
    link.close()
    assert len(recorder.arrivals) == 100


def test_a_shaped_channel_takes_at_least_its_time() -> None:
    ours, theirs = memory.channel_pair(network=Network("test", 8e6, 0.1))
    start = time.monotonic()
    ours.send(bytes(100_000))
    theirs.send(bytes(100_000))
    theirs.recv(100_000, np.uint8)
    ours.recv(100_000, np.uint8)
    assert time.monotonic() - start >= 0.1 + 0.05
    start = time.monotonic()
    for _ in range(3):
        ours.send(b"ping")
        theirs.recv(4, np.uint8)
        theirs.send(b"pong")
        ours.recv(4, np.uint8)
    assert time.monotonic() - start >= 3 * 0.1
    assert ours.traffic.rounds == 1 + 6


def test_closing_delivers_what_travels() -> None:
    ours, theirs = memory.channel_pair(network=Network("test", 8e6, 0.05))
    ours.send(bytes(50_000))
    ours.close()
    assert theirs.recv(50_000, np.uint8).sum() == 0


def test_a_broken_line_is_reported_to_the_sender() -> None:
    class Broken(Recorder):
        def send(self, buffers: Sequence[memoryview]) -> None:
            raise PeerVanishedError("gone")

    link = ShapedLink(Broken(), Network("test", 1e9, 0.001))
    link.send([memoryview(b"x")])
    link._outbox.flush()
    with pytest.raises(PeerVanishedError, match="gone"):
        link.send([memoryview(b"y")])
    link.close()


def test_profiles() -> None:
    assert Network.parse("lan") is LAN and (LAN.bits_per_second, LAN.round_trip_seconds) == (1e9, 0.2e-3)
    assert Network.parse("wan") is WAN and (WAN.bits_per_second, WAN.round_trip_seconds) == (100e6, 80e-3)
    other = Network.parse("300mbit, 40ms")
    assert (other.bits_per_second, other.round_trip_seconds) == (300e6, 0.04)
    assert WAN.seconds(12_500_000) == 1.0
    link = Recorder()
    assert shape(link, LOOPBACK) is link
    assert isinstance(shape(link, LAN), ShapedLink)


@pytest.mark.parametrize("text", ["", "moon", "300mbit", "0mbit,1ms", "100kbit,1ms", "1gbit,20000ms", "-1gbit,1ms"])
def test_unknown_networks_are_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(ValueError, match=r"loopback, lan, wan|at least 1mbit|0 to 10 s"):
        Network.parse(text)


@pytest.mark.parametrize("numbers", [(float("nan"), 0.1), (1e9, float("nan")), (1e9, -1.0)])
def test_impossible_networks_are_refused(numbers: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="give"):
        Network("test", *numbers)
