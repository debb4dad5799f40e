"""Accounts and limits: what is counted, what stands in the way, and that nothing gets around it.

With AERO_TEST_POSTGRESQL=postgresql://... the same tests run against that database, whose table they empty.
"""

import multiprocessing
import os
import resource
import sqlite3
import stat
from pathlib import Path

import pytest
import sqlalchemy

from aero.serve.accounts import DAY, Accounts
from aero.serve.limits import ClientLimits, LimitError, LimitsOfAll

NOON = 1_000_000 * DAY + DAY // 2
POSTGRESQL = os.environ.get("AERO_TEST_POSTGRESQL")
LIMITS = ClientLimits(tokens_a_minute=100, tokens_a_day=250, outputs=1000)


class Clock:
    now = float(NOON)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "accounts.sqlite")
    if POSTGRESQL is None:
        pytest.skip("no AERO_TEST_POSTGRESQL")
    url = sqlalchemy.make_url(POSTGRESQL).set(drivername="postgresql+psycopg")
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("DROP TABLE IF EXISTS aero_used_1"))
    engine.dispose()
    return POSTGRESQL


@pytest.fixture
def accounts(where: str, clock: Clock):
    accounts = Accounts(where, clock)
    accounts.prepare()
    yield accounts
    accounts.close()


def test_what_is_spent_is_counted_for_each_client_and_survives(accounts, where, clock):
    accounts.spend("alice", LIMITS, 30, 1)
    accounts.spend("alice", LIMITS, 5, 3)
    accounts.spend("bob", LIMITS, 7, 1)
    again = Accounts(where, clock)
    again.prepare()
    used = again.used()
    again.close()
    assert {name: (one["minute_tokens"], one["day_tokens"], one["outputs"]) for name, one in used.items()} == {
        "alice": (35, 35, 4),
        "bob": (7, 7, 1),
    }


def test_each_limit_names_itself_and_when_it_is_free_again(accounts, clock):
    clock.now += 18
    accounts.spend("alice", LIMITS, 90, 1)
    with pytest.raises(
        LimitError, match=r"alice has used 90 of its 100 tokens a minute, and asks for 11; free again in 42 s"
    ):
        accounts.spend("alice", LIMITS, 11, 1)
    accounts.spend("alice", LIMITS, 10, 1)  # what was declined is not counted
    with pytest.raises(LimitError) as full:
        accounts.spend("alice", LIMITS, 0, 0)
    assert (full.value.limit, full.value.retry) == ("tokens_a_minute", 42)
    clock.now += 42
    accounts.spend("alice", LIMITS, 100, 1)
    clock.now += 60
    with pytest.raises(
        LimitError, match=r"200 of its 250 tokens a day, and asks for 51; free again in 11 h 58 min"
    ) as day:
        accounts.spend("alice", LIMITS, 51, 1)
    assert (day.value.limit, day.value.retry) == ("tokens_a_day", DAY / 2 - 120)
    for tokens, limit in ((101, "tokens_a_minute"), (251, "tokens_a_day")):
        with pytest.raises(LimitError, match=f"{tokens} tokens at once exceed") as large:
            accounts.spend("bob", LIMITS, tokens, 1)
        assert (large.value.limit, large.value.retry) == (limit, None)
    with pytest.raises(LimitError, match=r"alice has had 3 of its 3 outputs; whoever runs") as outputs:
        accounts.spend("alice", ClientLimits(outputs=3), 1, 1)
    assert (outputs.value.limit, outputs.value.retry) == ("outputs", None)


def test_a_batch_counts_its_outputs_and_none_is_given_beyond(accounts):
    limits = ClientLimits(outputs=10)
    accounts.spend("alice", limits, 8, 8)
    with pytest.raises(LimitError, match="8 of its 10 outputs"):
        accounts.spend("alice", limits, 3, 3)
    accounts.spend("alice", limits, 2, 2)
    with pytest.raises(LimitError):
        accounts.spend("alice", limits, 1, 1)
    accounts.spend("alice", ClientLimits(outputs=11), 1, 1)  # a larger budget holds from the next step on


def test_days_and_minutes_begin_at_their_borders(accounts, clock):
    clock.now = (NOON // DAY + 1) * DAY - 0.5
    accounts.spend("alice", LIMITS, 100, 1)
    with pytest.raises(LimitError, match="free again in 1 s"):
        accounts.spend("alice", LIMITS, 1, 1)
    clock.now += 0.5
    accounts.spend("alice", LIMITS, 100, 1)
    assert accounts.used()["alice"]["day_tokens"] == 100
    assert accounts.used()["alice"]["outputs"] == 2


@pytest.mark.parametrize("back", [1, 61, 3600, DAY + 1, 400 * DAY])
def test_a_clock_that_is_set_back_gives_nothing_back(accounts, clock, back):
    limits = ClientLimits(tokens_a_minute=100, tokens_a_day=150)
    clock.now = NOON - NOON % DAY + 1  # just after a day began
    accounts.spend("alice", limits, 100, 1)
    clock.now -= back
    for _ in range(2):
        with pytest.raises(LimitError) as full:
            accounts.spend("alice", limits, 1, 1)
        assert full.value.retry is not None and full.value.retry <= 2 * 60  # and it does not lock out for ever
    clock.now += full.value.retry
    accounts.spend("alice", limits, 50, 1)
    with pytest.raises(LimitError):
        accounts.spend("alice", limits, 51, 1)


def test_replicas_with_clocks_on_both_sides_of_a_border_share_one_count(where, clock):
    ahead, behind = Clock(), clock
    behind.now, ahead.now = NOON - 1.0, NOON + 1.0
    both = [Accounts(where, ahead), Accounts(where, behind)]
    both[0].prepare()
    for number in range(10):
        both[number % 2].spend("alice", LIMITS, 10, 1)
    for accounts in both:
        with pytest.raises(LimitError, match="100 of its 100 tokens a minute"):
            accounts.spend("alice", LIMITS, 1, 1)
        accounts.close()


def _spend_all(where: str, number: int, start, results) -> None:
    """As many steps of one token as there are, for two clients in turn."""
    accounts = Accounts(where, lambda: float(NOON))
    limits = ClientLimits(tokens_a_minute=50, tokens_a_day=1000, outputs=40)
    start.wait()
    got = {"alice": 0, "bob": 0}
    for name, tokens in (("alice", 2), ("bob", 1)):
        while True:
            try:
                accounts.spend(name, limits, tokens, 1)
            except LimitError as error:
                if not error.limit:
                    results.put(error.detail)
                    return
                break
            got[name] += 1
    accounts.close()
    results.put(got)


def test_processes_that_race_get_exactly_what_there_is(where):
    accounts = Accounts(where)
    accounts.prepare()
    accounts.close()
    context = multiprocessing.get_context("spawn")
    start, results = context.Event(), context.Queue()
    processes = [context.Process(target=_spend_all, args=(where, n, start, results)) for n in range(8)]
    for process in processes:
        process.start()
    start.set()
    got = [results.get(timeout=240) for _ in processes]
    for process in processes:
        process.join(60)
    assert all(isinstance(one, dict) for one in got), got
    assert sum(one["alice"] for one in got) == 25  # 50 tokens
    assert sum(one["bob"] for one in got) == 40  # outputs
    assert accounts.used()["alice"]["minute_tokens"] == 50 and accounts.used()["bob"]["outputs"] == 40
    accounts.close()


# A file that is not as it should be


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "accounts.sqlite"
    accounts = Accounts(path)
    accounts.prepare()
    accounts.spend("alice", LIMITS, 1, 1)
    accounts.close()
    return path


def refused(path: Path) -> str:
    """What the log is told; the client hears nothing of the file."""
    accounts = Accounts(path)
    with pytest.raises(LimitError, match=r"^this server cannot count what its clients use") as error:
        accounts.spend("alice", LIMITS, 1, 1)
    assert (error.value.limit, error.value.retry) == ("", 30)
    accounts.close()
    return error.value.detail


def test_the_file_is_its_owners_alone(path):
    accounts = Accounts(path)
    accounts.spend("alice", LIMITS, 1, 1)
    assert len(list(path.parent.iterdir())) == 3  # what SQLite writes ahead lies beside it
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    accounts.close()
    path.chmod(0o640)
    with pytest.raises(ValueError, match="chmod 600"):
        Accounts(path).prepare()


def test_a_file_that_is_taken_away_does_not_begin_anew(path):
    accounts = Accounts(path)
    accounts.spend("alice", LIMITS, 1, 1)
    path.rename(path.with_suffix(".away"))
    with pytest.raises(LimitError) as away:
        accounts.spend("alice", LIMITS, 1, 1)  # not into the file that is open
    assert "No such file" in away.value.detail or "unable to open" in away.value.detail
    assert not path.exists()
    path.with_suffix(".away").rename(path)
    assert accounts.used()["alice"]["outputs"] == 2
    accounts.close()
    path.rename(path.with_suffix(".away"))
    refused(path)
    assert not path.exists()
    path.mkdir()
    refused(path)


def test_a_damaged_or_foreign_file(path):
    whole = path.read_bytes()
    for data, words in ((b"no database" * 1000, "not a database"), (b"", "no such table"), (whole[:4096], "malformed")):
        path.write_bytes(data)
        assert words in refused(path)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(ValueError, match=r"accounts at .* cannot be used: file is not a database"):
        Accounts(path).prepare()
    path.write_bytes(whole)
    accounts = Accounts(path)
    assert accounts.used()["alice"]["outputs"] == 1
    accounts.close()


def test_a_locked_database(path, monkeypatch):
    monkeypatch.setattr("aero.serve.accounts._PATIENCE", 0.2)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert "locked" in refused(path)
    holder.execute("ROLLBACK")
    holder.close()
    Accounts(path).spend("alice", LIMITS, 1, 1)


def test_a_full_disk_counts_nothing(path):
    """By a limit of the process on how large a file may grow, which SQLite meets as it meets a full disk."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_spend_within, args=(path, path.stat().st_size, results))
    process.start()
    said = results.get(timeout=120)
    process.join(60)
    assert "this server cannot count" in said
    accounts = Accounts(path)
    assert sum(one["outputs"] for one in accounts.used().values()) < 2000
    accounts.close()


def _spend_within(path: Path, size: int, results) -> None:
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    accounts = Accounts(path)
    for number in range(2000):
        try:
            accounts.spend(f"client{number:04}" + "x" * 50, LIMITS, 1, 1)
        except LimitError as error:
            results.put(str(error))
            return
    results.put("no limit was met")


def test_what_is_no_database():
    for where in ("mysql://user@host/name", "no url://x"):
        with pytest.raises(ValueError, match=r"SQLite, in a file, or PostgreSQL|neither a file nor a URL"):
            Accounts(where)


def test_a_database_that_nobody_serves():
    pytest.importorskip("psycopg")
    accounts = Accounts("postgresql://aero:secret@127.0.0.1:1/none")
    with pytest.raises(
        ValueError, match=r"accounts at postgresql://aero:\*\*\*@127\.0\.0\.1:1/none cannot be used"
    ) as error:
        accounts.prepare()
    with pytest.raises(LimitError) as declined:
        accounts.spend("alice", LIMITS, 1, 1)
    assert "secret" not in str(error.value) + declined.value.detail and "127" not in str(declined.value)


# limits.toml


def test_the_file_of_limits(tmp_path):
    assert LimitsOfAll.read(tmp_path).of("alice") == ClientLimits()
    (tmp_path / "limits.toml").write_text(
        "tokens_a_day = 7\n[client.alice]\nsessions = 8\n[client.'b.o-b']\ntokens_a_day = 9\n"
    )
    limits = LimitsOfAll.read(tmp_path)
    assert limits.of("mallory") == ClientLimits(tokens_a_day=7)
    assert limits.of("alice") == ClientLimits(tokens_a_day=7, sessions=8)
    assert limits.of("b.o-b") == ClientLimits(tokens_a_day=9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tokens_a_day = -1", "whole number"),
        ("tokens_a_day = 1.5", "whole number"),
        ("tokens_a_day = true", "whole number"),
        ("tokens_a_day = inf", "whole number"),
        ("tokens_a_day = 1e400", "whole number"),
        ("tokens_a_day = '7'", "whole number"),
        ("tokens_a_day = 9999999999999999999999", "whole number"),
        ("tokens_per_day = 7", "there is no limit 'tokens_per_day'; there are sessions"),
        ("[client.alice]\ntokens = 7", "there is no limit 'tokens'"),
        ("[clients.alice]\noutputs = 7", "there is no limit 'clients'"),
        ("client = 7", "write \\[client.NAME\\]"),
        ("[client]\nalice = 7", "write \\[client.NAME\\]"),
        ("[client.'../alice']\noutputs = 7", "no name for a client"),
        ('[client."new\\nline"]\noutputs = 7', "no name for a client"),
        ("tokens_a_day = 7\ntokens_a_day = 8", "not usable"),
        ("[client.alice", "not usable"),
        ("x = " + "[" * 100_000, "not usable"),
        ("\x00", "not usable"),
    ],
)
def test_limits_that_are_none_are_refused_in_one_line(tmp_path, text, words):
    (tmp_path / "limits.toml").write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        LimitsOfAll.read(tmp_path)
    assert len(str(error.value).splitlines()) == 1 and "limits.toml" in str(error.value)
