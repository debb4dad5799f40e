"""`aero keys`: what it prints, writes and refuses."""

import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from aero.cli.keys import keys
from aero.wire.keys import Identity

app = typer.Typer()
app.command()(keys)


def test_keys_are_made_and_described(tmp_path: Path) -> None:
    folder, record = tmp_path / "keys", tmp_path / "keys.json"
    result = CliRunner().invoke(app, [str(folder), "--days", "30", "--json", str(record)])
    assert result.exit_code == 0, result.output
    assert "server" in result.output and "client" in result.output
    made = json.loads(record.read_text())["certificates"]
    fields = ["certificate", "expires", "fingerprint", "name", "role", "state"]
    assert [sorted(entry) for entry in made] == [fields] * 2
    for entry in made:
        Identity(Path(entry["certificate"]).parent)
        assert entry["fingerprint"] in result.output


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return " ".join(result.output.split())


def listed(folder: Path) -> dict[str, str]:
    """By name, why it is not accepted."""
    run(folder, "--list", "--json", folder / "list.json")
    return {one["name"]: one["state"] for one in json.loads((folder / "list.json").read_text())["certificates"]}


def test_two_machines_exchange_their_certificates(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    made = run(there, "--role", "client", "--name", "alice")
    assert f"give {there}/client/cert.pem to the other party, and run `aero keys {there} --trust`" in made
    assert [path.name for path in there.iterdir()] == ["client"]
    with pytest.raises(ValueError, match="has no keys; make them with `aero keys --role`"):
        run(here, "--trust", there / "client/cert.pem")
    run(here, "--role", "server")
    trusted = run(here, "--trust", there / "client/cert.pem")
    [fingerprint] = re.findall(r"SHA-256 (\w+)", trusted)
    assert fingerprint in made and "alice:" in trusted
    run(there, "--trust", here / "server/cert.pem")
    Identity(there / "client")
    assert Identity(here / "server").problems() == []
    assert listed(here) == {"this server": "", "alice": ""}
    assert listed(there) == {"this client": "", "its server": ""}

    run(here, "--revoke", "alice")
    assert listed(here) == {"this server": "", "alice": "revoked"}
    run(here, "--trust", there / "client/cert.pem", "--name", "alice")
    assert listed(here) == {"this server": "", "alice": ""}


def test_what_is_trusted_is_replaced_on_purpose_alone(tmp_path: Path) -> None:
    run(tmp_path / "here")
    for name in ("one", "two"):
        run(tmp_path / name, "--name", name)
    here = tmp_path / "here"
    with pytest.raises(ValueError, match=r"client\.pem is another certificate; .* --force"):
        run(here, "--trust", tmp_path / "one/client/cert.pem", "--name", "client")
    run(here, "--trust", tmp_path / "one/client/cert.pem", "--name", "client", "--force")
    with pytest.raises(ValueError, match=r"client\.pem is this certificate already; revoke client first"):
        run(here, "--trust", tmp_path / "one/client/cert.pem")
    with pytest.raises(ValueError, match="differs from client in capital letters alone"):
        run(here, "--trust", tmp_path / "two/client/cert.pem", "--name", "Client")
    with pytest.raises(ValueError, match=r"peer\.pem is another server's certificate; --force"):
        run(here, "--trust", tmp_path / "one/server/cert.pem")
    with pytest.raises(ValueError, match="exclude each other"):
        run(here, "--list", "--revoke", "client")
    for name in ("", "../server", "a/b", ".hidden", "-v", "new\nline", "\x1b[2J", "x" * 65, "café"):
        for option in ("--revoke", "--name"):
            with pytest.raises(ValueError, match="no name for a client"):
                run(here, f"{option}={name}", *(("--trust", tmp_path / "two/client/cert.pem") * (option == "--name")))
    assert listed(here) == {"this server": "", "client": "", "this client": "", "its server": ""}


def test_keys_are_not_overwritten(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, [str(tmp_path)]).exit_code == 0
    result = CliRunner().invoke(app, [str(tmp_path)])
    assert result.exit_code != 0
    assert isinstance(result.exception, FileExistsError) and "--force" in str(result.exception)
    assert CliRunner().invoke(app, [str(tmp_path), "--force"]).exit_code == 0
