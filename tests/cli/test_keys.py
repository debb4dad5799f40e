"""`aero keys`: what it prints, writes and refuses."""

import json
from pathlib import Path

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
    assert [sorted(entry) for entry in made] == [["certificate", "expires", "fingerprint", "folder", "role"]] * 2
    for entry in made:
        Identity(Path(entry["folder"]))
        assert entry["fingerprint"] in result.output


def test_one_party_alone_is_told_what_to_exchange(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path), "--role", "client"])
    assert result.exit_code == 0, result.output
    assert f"store its cert.pem as {tmp_path / 'client' / 'peer.pem'}" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["client"]


def test_keys_are_not_overwritten(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, [str(tmp_path)]).exit_code == 0
    result = CliRunner().invoke(app, [str(tmp_path)])
    assert result.exit_code != 0
    assert isinstance(result.exception, FileExistsError) and "--force" in str(result.exception)
    assert CliRunner().invoke(app, [str(tmp_path), "--force"]).exit_code == 0
