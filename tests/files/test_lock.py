"""A lock has one holder, and none when that has died."""

from __future__ import annotations

import errno
import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aero.files.lock import claimed, is_abandoned, locked

HOLD = """
import sys, time
from pathlib import Path
from aero.files.lock import claimed, locked

with locked(Path(sys.argv[1])), claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    with pytest.raises(ValueError, match="another process is at work"), locked(tmp_path):
        pass
    assert not is_abandoned(tmp_path)
    moved = tmp_path.rename(tmp_path.with_name(tmp_path.name + "-moved"))
    with pytest.raises(ValueError, match="another process is at work"), locked(moved):
        pass
    other.send_signal(signal.SIGKILL)
    other.wait()
    other.stdout.close()
    with locked(moved):
        pass
    assert is_abandoned(moved)


def test_where_the_file_system_has_no_locks_nothing_is_held_and_nothing_taken_for_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path), locked(tmp_path), claimed(tmp_path):
        assert not is_abandoned(tmp_path)
    assert not is_abandoned(tmp_path / "absent")
