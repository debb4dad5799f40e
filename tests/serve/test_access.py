"""A real server process, its clients by name: revoked, swapped, limited, and what it counts with damaged or away."""

import json
import os
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest

from aero.cli.private import private_session
from aero.data import tokenizer as tokenizers
from aero.serve.accounts import Accounts
from aero.serve.session import DeclinedError
from aero.wire import PeerBusyError, ProtocolError, RefusedByPeerError, WireError, clients
from aero.wire.keys import Identity, make_keys, trust_server
from serve.test_attacks import running
from serve.test_two_processes import PATIENCE, client, folder

assert folder  # the fixture: a run, and keys


@pytest.fixture
def home(folder, tmp_path) -> Path:
    """A server's folder that knows alice and bob, and theirs."""
    make_keys(tmp_path / "keys", roles=("server",))
    for name in ("alice", "bob"):
        make_keys(tmp_path / name, roles=("client",), name=name)
        clients.trust(tmp_path / "keys/server", tmp_path / name / "client/cert.pem")
        trust_server(tmp_path / name / "client", tmp_path / "keys/server/cert.pem")
    (tmp_path / "run").symlink_to(folder / "run")
    return tmp_path


def limit(home: Path, text: str) -> None:
    new = home / "limits.new"
    new.write_text(text)
    os.replace(new, home / "keys/server/limits.toml")


def put(path: Path, data: bytes) -> None:
    """In place of what is there, which may be open."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.chmod(0o600)
    os.replace(new, path)


def used(home: Path) -> dict[str, dict[str, int]]:
    accounts = Accounts(home / "keys/server/accounts.sqlite")
    found = accounts.used()
    accounts.close()
    return found


def session(server, home: Path, name: str):
    return private_session(server.address, Identity(home / name / "client"), lambda *_: None)


def test_a_revoked_or_swapped_client_ends_at_its_next_step_and_nobody_else_does(home):
    with running(home) as server, session(server, home, "bob") as bob:
        with pytest.raises(ProtocolError, match="alice was revoked"), session(server, home, "alice") as alice:
            server.wait_for("session 2 begins, with alice at 127")
            growing = alice.generate([1, 2], 4)
            next(growing)
            clients.revoke(home / "keys/server", "alice")
            next(growing)
        server.wait_for("session 2 ended: alice was revoked")
        with pytest.raises(RefusedByPeerError):
            server_side = session(server, home, "alice")
            server_side.__enter__()
        # Somebody else gets the name: not the sessions of who had it.
        clients.trust(home / "keys/server", home / "alice/client/cert.pem", "alice")
        with pytest.raises(ProtocolError, match="alice was revoked"), session(server, home, "alice") as alice:
            list(alice.generate([1, 2], 1))
            make_keys(home / "mallory", roles=("client",), name="alice")
            clients.trust(home / "keys/server", home / "mallory/client/cert.pem", force=True)
            list(alice.generate([1, 2], 1))
        assert len(list(bob.generate([1, 2], 2))) == 2
    found = used(home)
    assert found["alice"]["outputs"] == 2 and found["bob"]["outputs"] == 2  # what was not computed is not counted


def test_limits_are_told_counted_and_survive_a_restart(home):
    limit(home, "[client.alice]\noutputs = 5\nsessions = 1\n")
    with running(home) as server:
        with session(server, home, "alice") as alice:
            with pytest.raises(PeerBusyError, match="alice has 1 sessions, and may have 1; try again"):
                session(server, home, "alice").__enter__()
            with session(server, home, "bob") as bob:
                assert len(list(bob.generate_batch([[1], [2], [3]], 2))) == 6
            assert len(list(alice.generate_batch([[1], [2]], 2))) == 4
            with pytest.raises(DeclinedError, match="alice has had 4 of its 5 outputs; whoever runs") as told:
                list(alice.generate_batch([[1], [2]], 1))
            assert (told.value.limit, told.value.retry) == ("outputs", None)
            server.wait_for("declined: alice has had 4 of its 5 outputs")
            assert len(list(alice.generate([1], 1))) == 1
        assert used(home)["alice"]["outputs"] == 5 and used(home)["bob"]["outputs"] == 6
    with running(home) as server:
        with pytest.raises(RefusedByPeerError, match="alice has had 5 of its 5 outputs"):
            session(server, home, "alice").__enter__()
        server.wait_for("no session with alice at .*5 of its 5 outputs")
        limit(home, "[client.alice]\noutputs = 6\n")  # without a restart
        with session(server, home, "alice") as alice:
            assert len(list(alice.generate([1], 1))) == 1


def test_a_verb_keeps_what_it_has_and_says_which_limit(home):
    count = len(tokenizers.load(home / "run").encode_prompt("def main"))
    limit(home, f"tokens_a_minute = {count + 1}\ntokens_a_day = {count + 1}\n")
    with running(home) as server:
        done = client(
            home, server.address, "--prompt", "def main", "-n", "4", "--json", str(home / "out.json"), keys="alice"
        )
        _, error = done.communicate(timeout=PATIENCE)
        assert done.returncode == 1
        assert "the server declines: alice has used" in error and "tokens a day" in error
        assert "free again in" in error
        assert len(json.loads((home / "out.json").read_text())["new_ids"]) == 2


@pytest.mark.parametrize(
    "trouble", ["damaged", *(pytest.param(one, marks=pytest.mark.slow) for one in ("locked", "away", "limits"))]
)
def test_what_it_counts_with_in_trouble_declines_steps_and_no_more(home, trouble):
    path, limits = home / "keys/server/accounts.sqlite", home / "keys/server/limits.toml"
    with running(home) as server, session(server, home, "alice") as alice:
        list(alice.generate([1], 1))
        with sqlite3.connect(path) as copied:
            copied.execute("VACUUM INTO ?", [str(home / "whole")])
        whole = (home / "whole").read_bytes()
        holder = None
        if trouble == "locked":
            holder = sqlite3.connect(path, isolation_level=None)
            holder.execute("BEGIN EXCLUSIVE")
        elif trouble == "damaged":
            put(path, os.urandom(len(whole)))
            for beside in ("-wal", "-shm"):  # which have all that was written lately
                path.with_name(path.name + beside).unlink(missing_ok=True)
        elif trouble == "away":
            path.rename(home / "away")
        else:
            limits.write_text("tokens_a_day = ")
        with pytest.raises(DeclinedError, match=r"this server cannot .* at the moment; try again later") as told:
            list(alice.generate([1], 1))
        assert str(home) not in str(told.value) and told.value.retry == 30
        server.wait_for(
            r"session 1 \(alice\): declined: .*" + ("limits.toml" if trouble == "limits" else "accounts.sqlite")
        )
        with pytest.raises(PeerBusyError, match="is busy: this server cannot"):
            session(server, home, "bob").__enter__()
        if holder is not None:
            holder.execute("ROLLBACK")
            holder.close()
        elif trouble == "limits":
            limits.unlink()
        else:
            put(path, whole)
        assert len(list(alice.generate([1], 1))) == 1
        with session(server, home, "bob") as bob:
            assert len(list(bob.generate([1], 1))) == 1


@pytest.mark.parametrize(
    "bad", ["accounts", *(pytest.param(one, marks=pytest.mark.slow) for one in ("limits", "mode"))]
)
def test_a_server_that_could_not_count_does_not_begin(home, bad):
    import subprocess
    import sys

    server = home / "keys/server"
    if bad == "limits":
        (server / "limits.toml").write_text("outputs = -1")
    else:
        (server / "accounts.sqlite").write_bytes(b"no database" * 1000 if bad == "accounts" else b"")
        (server / "accounts.sqlite").chmod(0o644 if bad == "mode" else 0o600)
    command = [sys.executable, "-m", "aero.cli.main", "serve", str(home / "run"), "--keys", str(home / "keys")]
    done = subprocess.run([*command, "--port", "0"], capture_output=True, text=True, timeout=PATIENCE)
    words = {"accounts": "not a database", "limits": "outputs = -1", "mode": "chmod 600"}[bad]
    assert done.returncode == 1 and words in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.slow
def test_garbage_among_the_clients_under_load(home):
    """Files come and go while both clients connect; who has a whole certificate there comes in."""
    folder = home / "keys/server/clients"
    with running(home) as server:
        for number in range(10):
            junk = folder / f"junk{number}.pem"
            (os.mkfifo if number % 3 == 0 else Path.mkdir if number % 3 == 1 else Path.touch)(junk)
            whole = (folder / "alice.pem").read_bytes()
            (folder / "alice.pem").write_bytes(whole[: number * 60])
            with suppress(WireError):
                session(server, home, "alice").__enter__()
            with session(server, home, "bob") as bob:
                assert bob.offer.context
            (folder / "alice.pem").write_bytes(whole)
        with session(server, home, "alice") as alice:
            assert alice.offer.context
        shutil.rmtree(folder)
        with pytest.raises(RefusedByPeerError):
            session(server, home, "alice").__enter__()
        server.wait_for("no session with")
