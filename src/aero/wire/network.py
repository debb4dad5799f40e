"""Networks as numbers, and a link that behaves like one of them on a machine that is not on it.

    loopback    no shaping
    lan         1 Gbit/s,   0.2 ms round trip
    wan         100 Mbit/s, 80 ms round trip

The emulation runs in user space and is what a store-and-forward pipe does. Each direction is a line of the given
bandwidth: a chunk of n bytes occupies it for n / bandwidth after the chunk before it, then travels for half a round
trip. The sender goes on at once, both directions are independent, and chunks are small, so that streaming, pipelining
and overlap cost what they cost on such a line. Each party delays what it sends, so both need the same network; `tcp`
checks that. Not emulated: loss, congestion control, and the bytes that TLS, TCP and IP add (4 to 5 % on Ethernet).
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from aero.wire.errors import WireError
from aero.wire.link import SLOWEST_BYTES_PER_SECOND, Link, Outbox

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Network:
    """Bandwidth of each direction and round-trip time between two parties."""

    name: str
    bits_per_second: float
    round_trip_seconds: float

    def __post_init__(self) -> None:
        if not self.bits_per_second >= 8 * SLOWEST_BYTES_PER_SECOND:
            raise ValueError(f"{self.bits_per_second:g} bit/s is too slow for the timeouts; give at least 1mbit")
        if not 0 <= self.round_trip_seconds <= 10:
            raise ValueError(f"a round trip of {self.round_trip_seconds:g} s; give 0 to 10 s")

    @property
    def is_shaped(self) -> bool:
        """False for loopback, which is whatever the machine does."""
        return self.bits_per_second < float("inf") or self.round_trip_seconds > 0

    def seconds(self, nbytes: int) -> float:
        """Time for which `nbytes` occupy one direction."""
        return nbytes * 8 / self.bits_per_second

    @classmethod
    def parse(cls, text: str) -> Network:
        """A profile's name, or bandwidth and round trip like "300mbit,40ms". Raises ValueError."""
        if text in PROFILES:
            return PROFILES[text]
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(k|m|g)bit,(\d+(?:\.\d+)?)ms", text.replace(" ", "").lower())
        if match is None:
            raise ValueError(f"unknown network {text!r}; give {', '.join(PROFILES)}, or a form like 300mbit,40ms")
        bandwidth = float(match[1]) * {"k": 1e3, "m": 1e6, "g": 1e9}[match[2]]
        return cls(text, bandwidth, float(match[3]) / 1e3)

    def __str__(self) -> str:
        return self.name


LOOPBACK = Network("loopback", float("inf"), 0.0)
LAN = Network("lan", 1e9, 0.2e-3)
WAN = Network("wan", 100e6, 80e-3)
PROFILES = {network.name: network for network in (LOOPBACK, LAN, WAN)}


def shape(link: Link, network: Network) -> Link:
    """The link, made as slow as `network`; unchanged on loopback."""
    return ShapedLink(link, network) if network.is_shaped else link


class ShapedLink(Link):
    """A link whose outgoing bytes reach `inner` when `network` would have delivered them."""

    def __init__(self, inner: Link, network: Network) -> None:
        super().__init__(inner.timeout)
        self._inner = inner
        self._network = network
        self._line_free = 0.0
        self._outbox: Outbox[tuple[float, bytes]] = Outbox(self._deliver, inner.timeout)

    @property
    def hosts(self) -> tuple[str, str] | None:
        return self._inner.hosts

    def send(self, buffers: Sequence[memoryview]) -> None:
        data = b"".join(buffers)
        for start in range(0, len(data), _CHUNK):
            chunk = data[start : start + _CHUNK]
            self._line_free = max(self._line_free, time.monotonic()) + self._network.seconds(len(chunk))
            self._outbox.put((self._line_free + self._network.round_trip_seconds / 2, chunk), len(chunk))

    def receive_into(self, view: memoryview, deadline: float) -> None:
        self._inner.receive_into(view, deadline)

    @property
    def arrived(self) -> bool:
        return self._inner.arrived

    def close(self, *, abruptly: bool = False) -> None:
        self._outbox.flush(abruptly=abruptly)
        self._outbox.fail(WireError("this link is closed"))
        self._inner.close(abruptly=abruptly)

    def _deliver(self, item: tuple[float, bytes]) -> None:
        due, chunk = item
        time.sleep(max(0.0, due - time.monotonic()))
        self._inner.send([memoryview(chunk)])
