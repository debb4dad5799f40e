"""`aero data`, `aero train` and `aero eval`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from aero.cli.data import data
from aero.cli.eval import eval_
from aero.cli.train import train
from small_models import PERPLEXITY_SUMMED_ANEW

app = typer.Typer()
for name, verb in (("data", data), ("train", train), ("eval", eval_)):
    app.command(name)(verb)

RECORD = {"work", "engine", "notation", "context", "seconds", "machine", "version"}
RECORD |= {"bytes_client_to_server", "bytes_server_to_client", "rounds", "max_abs_error"}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def error(*arguments: object) -> str:
    """What a command that must fail says; `aero.cli.main` prints it as one line."""
    result = run(*arguments)
    assert isinstance(result.exception, (ValueError, FileNotFoundError)), result.output
    return str(result.exception)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder and a run, made by the commands."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "texts").mkdir()
    for i in range(20):
        (folder / "texts" / f"{i}.py").write_text("".join(f"def f{i}_{j}(x):\n    return {j}\n" for j in range(80)))
    options = ("--source", folder / "texts", "--vocab", 300, "--valid-fraction", 0.1)
    result = run("data", folder / "data", *options, "--json", folder / "data-result.json")
    assert result.exit_code == 0, result.output
    assert "18 documents" in result.output
    options = ("--data", folder / "data", "--size", "demo", "--steps", 3, "--batch-size", 2)
    result = run("train", folder / "run", *options, "--json", folder / "train-result.json")
    assert result.exit_code == 0, result.output
    assert "validation perplexity" in result.output
    return folder


def test_results_are_lists_of_one_record(folder: Path) -> None:
    result = run("eval", folder / "run", "--json", folder / "eval-result.json")
    assert result.exit_code == 0, result.output
    records = {verb: json.loads((folder / f"{verb}-result.json").read_text()) for verb in ("data", "train", "eval")}
    for verb, (record,) in records.items():
        assert set(record) > RECORD
        assert record["work"] == verb
        assert record["rounds"] is None
    ((data_record,), (train_record,), (eval_record,)) = records.values()
    assert data_record["train"]["documents"] == 18
    assert data_record["valid"]["documents"] == 2
    assert train_record["notation"] == eval_record["notation"] == "SM+ScFuFFN"
    assert train_record["settings"]["steps"] == 3
    assert eval_record["perplexity"] == pytest.approx(train_record["perplexity"], rel=PERPLEXITY_SUMMED_ANEW)
    assert f"{eval_record['perplexity']:.2f}" in result.output


def test_eval_reads_as_many_blocks_as_told(folder: Path, tmp_path: Path) -> None:
    result = run("eval", folder / "run", "--data", folder / "data", "--blocks", 2, "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "r.json").read_text())[0]["blocks"] == 2


def test_training_again_is_refused_or_resumes_or_replaces(folder: Path) -> None:
    options = ("--data", folder / "data", "--size", "demo", "--steps", 1, "--batch-size", 2)
    assert "--resume" in error("train", folder / "run", *options)
    result = run("train", folder / "run", "--resume")
    assert result.exit_code == 0, result.output
    assert json.loads((folder / "run" / "run.json").read_text())["settings"]["steps"] == 3
    other = folder / "other"
    assert run("train", other, *options).exit_code == 0
    assert run("train", other, *options, "--force", "--seed", 5).exit_code == 0
    assert json.loads((other / "run.json").read_text())["settings"]["seed"] == 5


def test_bad_input_is_named(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "--data DIR" in error("train", out)
    assert "no data folder at" in error("train", out, "--data", tmp_path / "absent")
    options = ("--data", folder / "data", "--size", "demo")
    assert "SM+LN+G" in error("train", out, *options, "--notation", "SM+XY"), "the known ones are listed"
    assert "nano" in error("train", out, "--data", folder / "data", "--size", "huge")
    assert "learning_rate" in error("train", out, *options, "--lr", -1)
    assert "choose one of width, gpt2" in error("train", out, *options, "--scale", "large")
    for option in (("--size", "demo"), ("--scale", "gpt2")):
        started = ("--data", folder / "data", "--start-from", folder / "run", *option)
        assert "leave --size and --scale away" in error("train", out, *started)
    assert "no run at" in error("train", out, "--resume")
    assert "no run at" in error("eval", out)
    assert "no data folder" in error("eval", folder / "run", "--data", tmp_path)
    assert "no file or folder" in error("data", out, "--source", tmp_path / "absent")
    assert "at least 257" in error("data", out, "--vocab", 5)
    assert "exists already" in error("data", folder / "data", "--source", folder / "texts")
    assert list(tmp_path.iterdir()) == [], "nothing is left half-made"


def test_a_run_is_not_measured_on_other_tokens(folder: Path, tmp_path: Path) -> None:
    options = ("--source", folder / "texts", "--vocab", 290, "--valid-fraction", 0.1)
    assert run("data", tmp_path / "data", *options).exit_code == 0
    assert "another tokenizer" in error("eval", folder / "run", "--data", tmp_path / "data")
