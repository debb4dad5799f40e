"""The fuzzers' corpus, and the first inputs that they make: the same ones each time. `make fuzz` goes on."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FUZZ = HERE / "fuzz.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz", FUZZ)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_corpus_and_the_first_inputs(tmp_path):
    command = [sys.executable, str(FUZZ), "--inputs", "40", "--findings", str(tmp_path / "found")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 findings" in done.stdout
    assert not (tmp_path / "found").exists()


def test_every_corpus_belongs_to_a_target():
    said = (HERE / "targets.py").read_text()
    for folder in (HERE / "corpus").iterdir():
        assert f'"{folder.name}"' in said or folder.name.startswith("identity-"), folder


def test_what_is_a_finding(fuzz, tmp_path, capsys):
    def fail(data: bytes) -> None:
        raise {
            b"k": KeyError("a"),
            b"m": ValueError("two\nlines"),
            b"v": ValueError("one line"),
            b"f": FileNotFoundError(),
        }[data]

    reader = fuzz._Reader({"it": type("Target", (), {"read": staticmethod(fail)})}, tmp_path)
    for data in (b"v", b"f"):
        reader.read("it", data)
    assert not reader.seen
    for data in (b"k", b"m"):
        reader.read("it", data)
    assert {name for _, name, _ in reader.seen} == {"KeyError", "ValueError"}
    assert sorted(path.read_bytes() for path in (tmp_path / "it").iterdir()) == [b"k", b"m"]
    assert capsys.readouterr().out.count("FINDING") == 2


def test_a_process_that_dies_is_a_finding(fuzz, tmp_path, monkeypatch, capsys):
    """Its last input is kept, and another process goes on."""
    codes = iter([-6, 0])

    def worker(command: list[str]) -> subprocess.CompletedProcess:
        (tmp_path / "current").write_bytes(b"it\nabort")
        return subprocess.CompletedProcess(command, next(codes))

    monkeypatch.setattr(fuzz.subprocess, "run", worker)
    monkeypatch.setattr(sys, "argv", ["fuzz.py", "--seconds", "60", "--findings", str(tmp_path)])
    assert fuzz.main() == 1
    assert [path.read_bytes() for path in (tmp_path / "it").iterdir()] == [b"abort"]
    assert "the process died (exit code -6)" in capsys.readouterr().out
