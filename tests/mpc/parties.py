"""Two parties in two threads, and parties whose randomness a test chooses. Nothing like it exists outside the tests."""

import threading
from collections.abc import Callable
from typing import Any

from aero.kernels.prg import Prg
from aero.mpc.party import Party, Role
from aero.wire import Channel
from aero.wire.link import Link
from aero.wire.memory import link_pair

PATIENCE = 240.0


class SeededParty(Party):
    """Every stream is made from one seed, so that a whole run can be repeated byte by byte."""

    def __init__(self, role: Role, channel: Channel, seed: bytes) -> None:
        super().__init__(role, channel)
        self._seed = seed

    def _new_stream(self, purpose: str) -> Prg:
        return Prg(self._seed, f"test/{self.role.name}/{purpose}")


class RecordingLink(Link):
    """A link that keeps what is sent through it."""

    def __init__(self, inner: Link) -> None:
        super().__init__(inner.timeout)
        self.inner = inner
        self.sent: list[bytes] = []

    def send(self, buffers: Any) -> None:
        self.sent.append(b"".join(bytes(buffer) for buffer in buffers))
        self.inner.send(buffers)

    def receive_into(self, view: memoryview, deadline: float) -> None:
        self.inner.receive_into(view, deadline)

    def close(self, *, abruptly: bool = False) -> None:
        self.inner.close(abruptly=abruptly)


class Run:
    """What two parties did: results[role], parties[role], and sent[role], the frames that each of them sent."""

    def __init__(self, program: Callable[[Party], Any], seeds: tuple[bytes, bytes] | None = None) -> None:
        links = [RecordingLink(link) for link in link_pair(timeout=PATIENCE)]
        self.parties: list[Party] = []
        for role, link in zip(Role, links, strict=True):
            channel = Channel(link)
            self.parties.append(Party(role, channel) if seeds is None else SeededParty(role, channel, seeds[role]))
        self.results: list[Any] = [None, None]
        self.failures: list[BaseException | None] = [None, None]

        def run(party: Party) -> None:
            try:
                self.results[party.role] = program(party)
            except BaseException as error:
                self.failures[party.role] = error
                party.channel.close()

        threads = [threading.Thread(target=run, args=(party,), daemon=True) for party in self.parties]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a party hangs"
        self.sent = [link.sent for link in links]

    def checked(self) -> "Run":
        for failure in self.failures:
            if failure is not None:
                raise failure
        return self


def run_both(program: Callable[[Party], Any], seeds: tuple[bytes, bytes] | None = None) -> Run:
    """Run a program as both parties; raises what a party raised."""
    return Run(program, seeds).checked()
