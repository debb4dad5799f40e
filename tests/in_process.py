"""The command, in this process."""

import sys

import pytest

from aero.cli import main as command


def aero(*arguments: object, monkeypatch: pytest.MonkeyPatch) -> int:
    """Its exit status."""
    monkeypatch.setattr(sys, "argv", ["aero", *map(str, arguments)])
    try:
        command.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0
