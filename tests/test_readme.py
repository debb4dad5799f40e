"""The README is true: its tree is the tree, its commands exist with the options they are given."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from aero.cli.main import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CODE = [line.strip() for line in README.splitlines() if line.startswith("    ")]
COMMANDS = [line.split("#")[0] for line in CODE if line.startswith("aero ")]
TARGETS = [line.split("#")[0].split()[1] for line in CODE if line.startswith("make ")]


def test_the_tree_is_the_tree():
    named = [line.split()[0] for line in CODE if re.match(r"[\w/]+/ +\S", line)]
    assert len(named) > 10
    for path in named:
        assert (ROOT / path).is_dir(), path
    packages = {f"src/aero/{p.name}/" for p in (ROOT / "src/aero").iterdir() if (p / "__init__.py").exists()}
    assert packages <= set(named), "a package is missing from the README"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_exists_with_its_options(command):
    _, verb, *arguments = shlex.split(command)
    parser = typer.main.get_command(app).commands[verb]
    context = parser.make_context(verb, list(arguments), resilient_parsing=False)
    assert context.params


def test_make_targets_exist():
    assert TARGETS == ["demo", "demo-web", "test"]
    makefile = (ROOT / "Makefile").read_text()
    for target in (*TARGETS, "test-all", "check", "bench", "docs", "venv"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
