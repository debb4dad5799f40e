"""--force: what is replaced stays, whole, until the new one is whole; a full disk costs nothing."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
import torch
import typer
from transformers import GPT2Config, GPT2LMHeadModel
from typer.testing import CliRunner, Result

from aero.cli.main import app
from aero.files.lock import LOCK_FILE
from full_disk import file_limit

RUNNER = CliRunner()


def aero(*arguments: object) -> Result:
    return RUNNER.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """texts/, data/, run/ and hf/, a small GPT-2 of Hugging Face with the data's tokenizer."""
    home = tmp_path_factory.mktemp("force")
    (home / "texts").mkdir()
    for i in range(20):
        (home / "texts" / f"{i}.py").write_text("".join(f"def f{i}_{j}(x):\n    return {j}\n" for j in range(80)))
    for arguments in (
        ("data", home / "data", "--source", home / "texts", "--vocab", 300, "--valid-fraction", 0.1),
        ("train", home / "run", "--data", home / "data", "--size", "demo", "--steps", 1, "--batch-size", 2),
    ):
        done = aero(*arguments)
        assert done.exit_code == 0, (done.output, done.exception)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_positions=16, n_embd=32, n_layer=2, n_head=4))
    model.save_pretrained(home / "hf")
    shutil.copyfile(home / "data" / "tokenizer.json", home / "hf" / "tokenizer.json")
    return home


# For each verb with --force: what makes `out` from nothing, and again.
VERBS: dict[str, Callable[[Path, Path], tuple[object, ...]]] = {
    "data": lambda home, out: ("data", out, "--source", home / "texts", "--vocab", 290, "--valid-fraction", 0.1),
    "train": lambda home, out: (
        *("train", out, "--data", home / "data", "--size", "demo", "--steps", 2, "--batch-size", 2, "--save-every", 1),
    ),
    "convert": lambda home, out: ("convert", home / "hf", out),
    "compile": lambda home, out: ("compile", home / "run", "--out", out, "--no-ring-plan"),
    "keys": lambda home, out: ("keys", out),
}


def test_these_are_all_the_verbs_that_replace() -> None:
    def found(command: click.Command, name: str = "") -> Iterator[str]:
        for key, sub in getattr(command, "commands", {}).items():
            yield from found(sub, f"{name} {key}".strip())
        if any("--force" in parameter.opts for parameter in command.params):
            yield name

    assert set(found(typer.main.get_command(app))) == set(VERBS)


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK_FILE)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@contextmanager
def full_at(call: int) -> Iterator[None]:
    """The disk is full when something is brought to it for the `call`-th time."""
    real, calls = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_leaves_the_old_one_whole_and_blocks_no_retry(verb: str, home: Path, tmp_path: Path) -> None:
    arguments = VERBS[verb](home, tmp_path / "out")
    done = aero(*arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    before = content(tmp_path / "out")
    assert "--force" in str(aero(*arguments).exception)
    for failure in (file_limit(0), file_limit(100 if verb == "keys" else 2000), full_at(1), full_at(3)):
        with failure:
            done = aero(*arguments, "--force")
        assert isinstance(done.exception, Exception) and done.exit_code != 0, done.output
        assert content(tmp_path / "out") == before
        assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing is left over"
    done = aero(*arguments, "--force")
    assert done.exit_code == 0, (done.output, done.exception)
    assert content(tmp_path / "out").keys() == before.keys() or verb == "train"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_leaves_nothing_where_nothing_was(verb: str, home: Path, tmp_path: Path) -> None:
    arguments = VERBS[verb](home, tmp_path / "out")
    with file_limit(0):
        assert isinstance(aero(*arguments).exception, Exception)
    done = aero(*arguments)
    assert done.exit_code == 0, (done.output, done.exception)
