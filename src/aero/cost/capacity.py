"""How many tokens a second and how many sessions at once a server holds.

Asymptotic bounds of a closed queueing network (Lazowska, Zahorjan, Graham, Sevcik, Quantitative System Performance,
1984, chapter 5): N clients, each with one piece of work under way, share what the server has, its cores and both
directions of its line. Together they get no more than the busiest of these gives, and no more than N that never stand
in line. A client's own machine and line are its own, and its line is as quick as the server's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aero.cost.algebra import Price, total
from aero.cost.estimate import seconds_on
from aero.cost.session import SessionEstimate
from aero.wire.network import Network

CLIENTS = "clients"


@dataclass(frozen=True)
class Processor:
    """Seconds that a piece of work takes of each party's processor, of one thread, on the machine that was measured."""

    client: float
    server: float

    def __post_init__(self) -> None:
        if not (self.client > 0 and self.server > 0):
            raise ValueError(f"processor seconds are {self.client} and {self.server}; both are above zero")


@dataclass(frozen=True)
class Capacity:
    """Of one kind of work on one network. tokens: that a piece of it gives; alone: seconds that it takes a client with
    the server to itself, at least; bounds: tokens a second of all clients, by what bounds them: processors,
    client-to-server, server-to-client, and clients, each taking `alone` for its own."""

    work: str
    network: str
    tokens: int
    clients: int
    alone: float
    bounds: Mapping[str, float]

    @property
    def limit(self) -> str | None:
        """The name of the least bound; None where there is none."""
        return min(self.bounds, key=lambda name: self.bounds[name], default=None)

    @property
    def tokens_per_second(self) -> float | None:
        """Of all clients."""
        return None if self.limit is None else self.bounds[self.limit]

    @property
    def seconds_per_token(self) -> float | None:
        """Of each client."""
        return None if self.tokens_per_second is None else self.clients / self.tokens_per_second

    @property
    def sessions(self) -> float | None:
        """At once, before they slow each other; None where nothing that they share is known to bound them."""
        shared = [bound for name, bound in self.bounds.items() if name != CLIENTS]
        return min(shared) * self.alone / self.tokens if shared else None

    def to_json(self) -> dict[str, Any]:
        derived = ("tokens_per_second", "limit", "seconds_per_token", "sessions")
        return {**vars(self), "bounds": dict(self.bounds), **{name: getattr(self, name) for name in derived}}


def capacity(
    work: str,
    tokens: int,
    cost: Price,
    network: Network,
    clients: int,
    cores: int | None = None,
    processor: Processor | None = None,
) -> Capacity:
    """cost: of one piece of work, `tokens` tokens, of one client. Without cores and processor, processors bound nothing
    and `alone` has no computing in it. ValueError where bytes of a direction or rounds are not known."""
    if min(clients, tokens, 1 if cores is None else cores) < 1:
        raise ValueError(f"{clients} clients, {tokens} tokens, {cores} cores: give at least one of each")
    if (cores is None) != (processor is None):
        raise ValueError("cores and processor seconds bound a server together; give both or neither")
    sent = {"client-to-server": cost.bytes_client_to_server, "server-to-client": cost.bytes_server_to_client}
    if None in sent.values() or cost.rounds is None:
        raise ValueError(
            "a capacity takes the bytes of each direction and the rounds; this cost does not have them all"
        )
    computing = None if processor is None else processor.client + processor.server
    alone = seconds_on(network, replace(cost, compute_seconds=computing)).at_least
    seconds = {name: (count or 0) * 8 / network.bits_per_second for name, count in sent.items()}
    if cores is not None and processor is not None:
        seconds = {"processors": processor.server / cores, **seconds}
    seconds[CLIENTS] = alone / clients
    bounds = {name: tokens / value for name, value in seconds.items() if value}
    return Capacity(work, network.name, tokens, clients, alone, bounds)


def capacities(
    session: SessionEstimate,
    network: Network,
    clients: int,
    cores: int | None = None,
    measured: Mapping[str, Processor] | None = None,
) -> list[Capacity]:
    """Of the works of a session of one prompt, "prefill" and "next-token", and of "answer", a prompt with all its
    tokens; set-up apart. measured: what a piece of each takes. ValueError as `capacity`, and where one is missing."""
    if session.prompts != 1:
        raise ValueError(f"a capacity is of sessions of one prompt, not of {session.prompts}")
    runs = {work.name: work.runs for work in session.works if work.runs}
    costs = {work.name: work.cost * (1 / work.runs) for work in session.works if work.runs}
    if measured is not None and (missing := runs.keys() - measured.keys()):
        raise ValueError(f"no processor seconds of {' and '.join(sorted(missing))} were measured")
    found = []
    for name, tokens, parts in [*((name, 1, {name: 1.0}) for name in runs), ("answer", session.new_tokens, runs)]:
        processor = None
        if measured is not None:
            taken = [(measured[part].client * n, measured[part].server * n) for part, n in parts.items()]
            processor = Processor(*map(sum, zip(*taken, strict=True)))
        cost = total(costs[part] * n for part, n in parts.items())
        found.append(capacity(name, tokens, cost, network, clients, cores, processor))
    return found
