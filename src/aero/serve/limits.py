"""What each client may use of a server: the defaults, and who has others.

    limits.toml, beside the server's keys       tokens_a_day = 100000

                                                [client.alice]
                                                sessions = 8
                                                outputs = 200000

Beside `[client.NAME]`, what the file says holds for everybody. It is read anew for each step, so a change holds at
once; a new one is best moved to its place in one step. One that cannot be read lets nobody go on.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from aero.files.reading import foreign, present, read_bytes
from aero.wire.certificates import check_name

FILE, ACCOUNTS_FILE = "limits.toml", "accounts.sqlite"
MAX_FILE_BYTES = 1 << 20
_MOST = 10**15


class LimitError(ValueError):
    """A step that is not computed now, because of whose it is. The message is for the client and the log.

    limit: which one of `ClientLimits` stands in the way, or "" where its count cannot be had. retry: seconds after
    which it is free again, None where time changes nothing. detail: for the log alone."""

    def __init__(self, message: str, limit: str = "", retry: float | None = None, detail: str = "") -> None:
        super().__init__(message)
        self.limit, self.retry, self.detail = limit, retry, detail


@dataclass(frozen=True)
class ClientLimits:
    """What one client may use. sessions: at the same time. tokens_a_minute, tokens_a_day: that are read, of prompts and
    answers, in a minute and a day of UTC. outputs: rows of logits, or what is revealed of them, in all, ever.

    How the defaults were chosen is in docs/operate/serving.md. ValueError for numbers that are none.
    """

    sessions: int = 3
    tokens_a_minute: int = 20_000
    tokens_a_day: int = 500_000
    outputs: int = 50_000

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if type(value) is not int or not 0 <= value <= _MOST:
                raise ValueError(f"{f.name} = {value!r}; give a whole number of 0 to {_MOST:.0e}")

    @property
    def described(self) -> str:
        return (
            f"{self.sessions} sessions at the same time, {self.tokens_a_minute:,} tokens a minute and "
            f"{self.tokens_a_day:,} a day, {self.outputs:,} outputs in all"
        )


@dataclass(frozen=True)
class LimitsOfAll:
    """Everybody's limits, and those of clients that have their own."""

    everybody: ClientLimits = ClientLimits()
    client: Mapping[str, ClientLimits] = field(default_factory=dict)

    def of(self, name: str) -> ClientLimits:
        return self.client.get(name, self.everybody)

    @classmethod
    def read(cls, home: Path) -> LimitsOfAll:
        """Of a server's folder of keys; the defaults where it has no limits.toml. ValueError for what is none."""
        path = home / FILE
        if not present(path):
            return cls()
        with foreign(str(path), "see docs/operate/serving.md"):
            said = tomllib.loads(read_bytes(path, limit=MAX_FILE_BYTES).decode())
            clients = said.pop("client", {})
            if not isinstance(clients, dict):
                raise ValueError("client is no table; write [client.NAME]")
            everybody = _changed(ClientLimits(), said)
            return cls(everybody, {check_name(name): _changed(everybody, own) for name, own in clients.items()})


def _changed(limits: ClientLimits, said: Any) -> ClientLimits:
    names = [f.name for f in fields(ClientLimits)]
    if not isinstance(said, dict):
        raise ValueError("a client's limits are no table; write [client.NAME]")
    if unknown := sorted(set(said) - set(names)):
        raise ValueError(f"there is no limit {unknown[0]!r}; there are {', '.join(names)}")
    return replace(limits, **said)
