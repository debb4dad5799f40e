"""Files and folders appear whole, whatever fails: a full disk, a killed process, a system without exchange of names."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aero.files import atomic
from aero.files.atomic import new_folder, replacing, set_aside, write_text
from aero.files.lock import locked

MARKER = "made.json"


def make(folder: Path, text: str, force: bool = False) -> None:
    with new_folder(folder, MARKER, force) as new:
        (new / "sub").mkdir()
        (new / "sub" / "text").write_text(text)
        (new / MARKER).write_text("{}")


def text_of(folder: Path) -> str:
    return (folder / "sub" / "text").read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["exchange", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "two renames":
        monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    return request.param


def test_a_folder_is_replaced_in_one_step(way: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out, "old")
    with pytest.raises(ValueError, match="--force"):
        make(out, "new")
    make(out, "new", force=True)
    assert text_of(out) == "new"
    assert names(tmp_path) == ["out"], "nothing is left over"


def test_two_folders_change_names(tmp_path: Path) -> None:
    """On this system, if it can; Linux and macOS can on their usual file systems."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not atomic._exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this file system cannot exchange names")
    assert (names(tmp_path / "one"), names(tmp_path / "other")) == (["other"], ["one"])
    with pytest.raises(FileNotFoundError):
        atomic._exchange(tmp_path / "one", tmp_path / "absent")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_what_fails_leaves_the_old_one(number: int, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk may show when a file is written, or first when it is brought to the disk."""
    out, calls, real = tmp_path / "out", 0, os.fsync
    make(out, "old")
    file = tmp_path / "result.json"
    write_text(file, "old")

    def fail_at(call: int) -> None:
        def fsync(descriptor: int) -> None:
            nonlocal calls
            calls += 1
            if calls == call:
                raise OSError(number, os.strerror(number))
            real(descriptor)

        nonlocal calls
        calls = 0
        monkeypatch.setattr(os, "fsync", fsync)

    for call in (1, 2, 3, 4):  # of two files and two folders
        fail_at(call)
        with pytest.raises(OSError, match=os.strerror(number)):
            make(out, "new", force=True)
        assert text_of(out) == "old"
        assert [name for name in names(tmp_path) if name.startswith(".")] == []
    fail_at(1)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_text(file, "new")
    assert file.read_text() == "old"
    monkeypatch.undo()
    make(out, "new", force=True)
    assert text_of(out) == "new"


def test_what_a_killed_process_leaves_is_removed_or_put_back(tmp_path: Path) -> None:
    """Killed within the block, and between the two renames of a system that cannot exchange names."""
    out = tmp_path / "out"
    make(out, "old")
    script = """
import os, signal, sys
from pathlib import Path
from aero.files import atomic

out, where = Path(sys.argv[1]), sys.argv[2]
atomic._exchange = lambda one, other: False
rename, renames = os.rename, []

def die_after_the_first(one, other):
    rename(one, other)
    if not renames and where == "rename":
        os.kill(os.getpid(), signal.SIGKILL)
    renames.append(one)

os.rename = die_after_the_first
with atomic.new_folder(out, "made.json", force=True) as new:
    (new / "sub").mkdir()
    (new / "sub" / "text").write_text("new")
    (new / "made.json").write_text("{}")
    if where == "block":
        os.kill(os.getpid(), signal.SIGKILL)
"""
    for where in ("block", "rename"):
        done = subprocess.run([sys.executable, "-c", script, str(out), where], check=False)
        assert done.returncode == -signal.SIGKILL
    assert not out.exists() and (tmp_path / ".out.old").is_dir()
    with pytest.raises(ValueError, match="--force"):
        make(out, "new")
    assert text_of(out) == "old", "put back"
    make(out, "new", force=True)
    assert text_of(out) == "new"
    assert names(tmp_path) == ["out"], "nothing is left over"


def test_one_that_another_process_works_in_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out, "old")
    with locked(out), pytest.raises(ValueError, match="another process is at work in "):
        make(out, "new", force=True)
    make(out, "new", force=True)
    with pytest.raises(ValueError, match="exists already"), new_folder(tmp_path / "late", MARKER) as new:
        (new / MARKER).touch()
        make(tmp_path / "late", "first")
    assert text_of(tmp_path / "late") == "first"


def test_a_link_stays_a_link_and_a_device_is_written_itself(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    make(tmp_path / "far" / "out", "old")
    (tmp_path / "near").symlink_to(tmp_path / "far" / "out")
    make(tmp_path / "near", "new", force=True)
    assert (tmp_path / "near").is_symlink() and text_of(tmp_path / "far" / "out") == "new"
    with replacing(Path("/dev/null")) as path:
        assert path == Path("/dev/null")
    reading, writing = os.pipe()
    write_text(Path(f"/dev/fd/{writing}"), "through a pipe")
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "through a pipe"


def test_set_aside_and_put_back(tmp_path: Path) -> None:
    demo = tmp_path / "demo"
    demo.mkdir()
    (demo / "old").touch()
    with pytest.raises(RuntimeError), set_aside(demo):
        demo.mkdir()
        raise RuntimeError
    assert names(demo) == ["old"]
    script = """
import os, signal, sys
from pathlib import Path
from aero.files.atomic import set_aside

with set_aside(Path(sys.argv[1])):
    Path(sys.argv[1]).mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script, str(demo)], check=False)
    assert names(demo) == []
    with pytest.raises(RuntimeError), set_aside(demo):
        raise RuntimeError
    assert names(demo) == ["old"], "of the killed process"
    with set_aside(demo):
        demo.mkdir()
        (demo / "new").touch()
    assert names(demo) == ["new"]
    assert names(tmp_path) == ["demo"]
