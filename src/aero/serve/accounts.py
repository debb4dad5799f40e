"""What each client has used, counted in a database that survives restarts and that replicas may share.

A step is counted before it is computed, in one transaction with the look at the limits: of any number of sessions at
the same time, none gets what another has taken. What was counted stays counted, also when the step is then declined or
the connection breaks: the work was begun, and an output that did not arrive may have been told in part.

SQLite in a file, mode 0600, unless a URL names a PostgreSQL database. Where it is locked, full, damaged or away,
nothing is computed.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from aero.files.reading import present
from aero.serve.limits import ClientLimits, LimitError

MINUTE, DAY = 60, 86400
_PATIENCE = 3  # seconds for a lock, or a connection: a client waits for its greeting no longer than 10
_AWAY = "this server cannot count what its clients use at the moment; try again later"
_RETRY = 30.0

# The name has the version: another format is another table.
_USED = sql.Table(
    "aero_used_1",
    sql.MetaData(),
    sql.Column("client", sql.String(64), primary_key=True),
    # Windows by their numbers since 1970, and the tokens in each.
    *(sql.Column(name, sql.BigInteger, nullable=False) for name in ("minute", "minute_tokens", "day", "day_tokens")),
    sql.Column("outputs", sql.BigInteger, nullable=False),
)
_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class Accounts:
    """The accounts of all clients. where: a file for SQLite, or the URL of a PostgreSQL database. clock: seconds since
    1970. An object is of one process; ValueError for a URL that is none of these."""

    def __init__(self, where: str | Path, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._file, self._opened = clock, None, (0, 0)
        if "://" not in str(where):
            self._file = Path(where)
            self._shown = str(where)
            pool: dict[str, Any] = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
            self._engine = sql.create_engine("sqlite://", creator=self._open, **pool)
            # A transaction has the lock from its beginning: two that read first and write then would stand in each
            # other's way.
            sql.event.listen(self._engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
            return
        try:
            url = sql.make_url(str(where))
        except ArgumentError:
            raise ValueError("--accounts is neither a file nor a URL such as postgresql://user@host/name") from None
        if url.get_backend_name() != "postgresql":
            raise ValueError(f"accounts are kept by SQLite, in a file, or PostgreSQL, not {url.get_backend_name()!r}")
        self._shown = url.render_as_string(hide_password=True)
        options = f"-c lock_timeout={_PATIENCE}s -c statement_timeout={_PATIENCE}s"
        self._engine = sql.create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args={"connect_timeout": _PATIENCE, "options": options},
        )

    def prepare(self) -> None:
        """Make the file and the table where they are missing. ValueError, in one line, where that cannot be: for before
        any client is served, and with `close` before a fork."""
        try:
            if self._file is not None:
                self._make_file(self._file)
                # Written ahead, a count waits for no disk: where the power fails, those of the last seconds are lost.
                self._open().execute("PRAGMA journal_mode=WAL").connection.close()
            with suppress(SQLAlchemyError), self._engine.begin() as connection:
                _USED.metadata.create_all(connection)  # another replica may be quicker
            with self._engine.begin() as connection:
                connection.execute(sql.select(_USED).limit(1))
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise ValueError(f"the accounts at {self._shown} cannot be used: {_why(error)}") from None

    def spend(self, client: str, limits: ClientLimits, tokens: int, outputs: int) -> None:
        """Count what a step is about to use, or raise LimitError and count nothing; with nothing to count, only look
        whether there is something left."""
        with self._transaction() as connection:
            insert, mine = _INSERT[self._engine.dialect.name], _USED.c.client == client
            nothing = {column.name: 0 for column in _USED.columns} | {"client": client}
            connection.execute(insert(_USED).values(nothing).on_conflict_do_nothing())
            row = connection.execute(sql.select(_USED).where(mine).with_for_update()).one()
            now = self._clock()
            minute, in_minute = _window(row.minute, row.minute_tokens, int(now // MINUTE))
            day, in_day = _window(row.day, row.day_tokens, int(now // DAY))
            objection = _objection(
                client, limits, tokens, outputs, row.outputs, now, (minute, in_minute), (day, in_day)
            )
            if objection is not None:
                tokens = outputs = 0
            spent = {"minute": minute, "minute_tokens": in_minute + tokens, "day": day, "day_tokens": in_day + tokens}
            connection.execute(sql.update(_USED).where(mine).values(**spent, outputs=row.outputs + outputs))
        if objection is not None:
            raise objection

    def used(self) -> dict[str, dict[str, int]]:
        """By client, outputs in all, and tokens in the minute and the day that were counted last."""
        with self._transaction() as connection:
            rows = connection.execute(sql.select(_USED).order_by(_USED.c.client)).all()
        return {row.client: {name: value for name, value in row._mapping.items() if name != "client"} for row in rows}

    def close(self) -> None:
        self._engine.dispose()

    def _open(self) -> sqlite3.Connection:
        """Never makes a new file: after a file that was taken away, nothing would count as used."""
        assert self._file is not None
        uri = f"file:{quote(os.path.abspath(self._file))}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    def _make_file(self, path: Path) -> None:
        if not present(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ValueError(f"{path} may be read or written by others; run `chmod 600 {path}`")

    @contextmanager
    def _transaction(self) -> Iterator[sql.Connection]:
        """LimitError where the database cannot be used; nothing has then been counted, or it is not known."""
        try:
            if self._file is not None:
                found = os.stat(self._file)
                if self._opened != (found.st_dev, found.st_ino):  # another file than that which is open
                    self._engine.dispose()
                self._opened = found.st_dev, found.st_ino
            with self._engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            self._engine.dispose()  # what it has open may be in no better state
            raise LimitError(_AWAY, "", _RETRY, f"the accounts at {self._shown}: {_why(error)}") from None


def _objection(
    client: str,
    limits: ClientLimits,
    tokens: int,
    outputs: int,
    had: int,
    now: float,
    minute: tuple[int, int],
    day: tuple[int, int],
) -> LimitError | None:
    """Why a step may not be: the limit that stays in the way longest. minute, day: the windows, and what was used in
    them; had: outputs so far."""
    if had + max(outputs, 1) > limits.outputs:
        more = "whoever runs this server can give it more"
        return LimitError(f"{client} has had {had} of its {limits.outputs} outputs; {more}", "outputs")
    for limit, name, length, (window, used), most in (
        ("tokens_a_day", "a day", DAY, day, limits.tokens_a_day),
        ("tokens_a_minute", "a minute", MINUTE, minute, limits.tokens_a_minute),
    ):
        if tokens > most:
            return LimitError(f"{tokens} tokens at once exceed the {most} {name} of {client}", limit)
        if used + max(tokens, 1) > most:
            wait = max((window + 1) * length - now, 1.0)
            asked = f", and asks for {tokens}" if used < most else ""
            text = f"{client} has used {used} of its {most} tokens {name}{asked}; free again in {_duration(wait)}"
            return LimitError(text, limit, wait)
    return None


def _window(stored: int, used: int, current: int) -> tuple[int, int]:
    """Which window counts, and what was used in it.

    A clock that was set back gives nothing back: by one window, as clocks of replicas may differ at a border, the later
    one goes on; by more, what was used counts in the earlier one."""
    if current > stored:
        return current, 0
    return (stored if stored == current + 1 else current), used


def _duration(seconds: float) -> str:
    minutes = int(-(-seconds // 60))
    if seconds <= 90:
        return f"{int(-(-seconds // 1))} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _why(error: Any) -> str:
    """The first line of what the driver says."""
    text = str(getattr(error, "orig", None) or error).strip()
    return " ".join((text.splitlines() or [type(error).__name__])[0].split())[:200]
