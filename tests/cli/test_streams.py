"""Standard output: JSON alone where it is asked for, and a quiet end where nobody reads on."""

import json
import os
import subprocess
import sys

import pytest
from typer.main import get_command

from aero.cli.main import app


def verbs(group, name=""):
    for verb, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{name}{verb} ")
        else:
            yield f"{name}{verb}", command


def aero(*arguments: str, **streams) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "aero.cli.main", *map(str, arguments)]
    return subprocess.run(command, stderr=subprocess.PIPE, timeout=300, **streams)


def test_every_verb_writes_json_to_standard_output_where_told():
    found = 0
    for name, command in verbs(get_command(app)):
        for parameter in command.params:
            if parameter.name == "json":
                found += 1
                assert "- is standard output" in parameter.help, name
                assert parameter.callback is not None, name
                assert parameter.opts == ["--json"], name
    assert found >= 25


def test_standard_output_has_the_json_and_nothing_else(tmp_path):
    done = aero("keys", tmp_path / "keys", "--json", "-", stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert [one["role"] for one in json.loads(done.stdout)["certificates"]] == ["server", "client"]
    assert b"cert.pem, expires" in done.stderr
    assert not (tmp_path / "-").exists()


def test_a_verb_that_fails_writes_no_json(tmp_path):
    done = aero("keys", tmp_path / "keys", "--days", "0", "--json", "-", stdout=subprocess.PIPE)
    assert done.returncode == 1 and done.stdout == b"" and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("options", [["--json", "-"], []])
def test_nobody_reads_standard_output(tmp_path, options):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:
        done = aero("keys", tmp_path / "keys", *options, stdout=pipe)
    assert b"Broken pipe" not in done.stderr and b"Exception" not in done.stderr and b"Traceback" not in done.stderr
    assert (tmp_path / "keys" / "client" / "key.pem").exists()


def test_output_that_the_terminal_cannot_show_is_no_error(tmp_path):
    done = aero(
        "keys", tmp_path / "schl\u00fcssel", stdout=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0 and b"schl\\xfcssel" in done.stdout
