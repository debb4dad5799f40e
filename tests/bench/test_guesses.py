"""Answers of a trained model between two processes, with guessed tokens and without."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aero.bench.guesses import bench_guesses, table
from aero.cli.main import app
from aero.compiler.run import CompiledRun
from aero.data.build import build
from aero.data.settings import DataSettings
from aero.models import AeroConfig
from aero.train.run import train
from aero.train.settings import TrainSettings
from aero.wire.network import Network

LENGTH, TOKENS = 12, 6


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """A compiled run, and the data that it was trained on."""
    folder = tmp_path_factory.mktemp("guesses")
    (folder / "t.py").write_text("".join(f"def f{i}(x):\n    return x + {i}\n" for i in range(300)))
    data = build(folder / "data", DataSettings(sources=(str(folder / "t.py"),), vocab_size=300, valid_fraction=0.2))
    config = AeroConfig.from_notation(
        "SM+ScFuFFN", "demo", vocab_size=data.info.vocab_size, context=24, hidden_size=16, num_layers=1
    )
    settings = TrainSettings(steps=60, batch_size=8, log_every=20, precision="float32", valid_blocks=None)
    train(folder / "run", data, config, settings)
    compiled = CliRunner().invoke(app, ["compile", str(folder / "run"), "--out", str(folder / "compiled")])
    assert compiled.exit_code == 0, compiled.output
    return folder / "compiled", folder / "data"


def test_the_models_own_guesses_all_hold_and_answers_stay_the_same(folders):
    """As its own draft the model guesses what it says, but for ties within the noise. How many it guesses is decided by
    the seconds of steps, but for steady ones."""
    run, data = folders
    how = {"draft": run, "guesses": 2, "prompts": 2, "length": LENGTH, "tokens": TOKENS}
    records = list(bench_guesses(run, data, **how))
    kinds = {record.extra["guesses"]: record for record in records}
    assert list(kinds) == ["none", "phrases", "draft model", "draft model, steady"]
    plain, own = kinds["none"], kinds["draft model"]
    assert (plain.extra["tokens_a_step"], plain.extra["acceptance"]) == (1, None)
    for record in records:
        assert (record.work, record.extra["tokens"], record.extra["network"]) == ("guess", 2 * (TOKENS - 1), "loopback")
        assert record.extra["other_answers"] <= 1 and record.seconds > 0  # a tie
    assert own.extra["acceptance"] is None or own.extra["acceptance"] > 0.7
    # of five tokens, a first run may give three and a second two; steady runs settle one each, and know two ahead
    assert 1 <= own.extra["tokens_a_step"] <= 2.5
    assert 1 < kinds["draft model, steady"].extra["tokens_a_step"] <= 5 / 3 + 1e-9
    header, rows = table(records)
    assert len(rows) == 4 and all(len(row) == len(header) for row in rows)


def test_as_a_command(folders, tmp_path):
    run, data = folders
    path = tmp_path / "guesses.json"
    arguments = ["--data", data, "--guess", 1, "--prompts", 1, "--context", LENGTH, "--tokens", 3, "--json", path]
    result = CliRunner().invoke(app, ["bench", "generate", str(run), *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0 and "phrases, steady" in result.output
    records = json.loads(path.read_text())
    assert [record["guesses"] for record in records] == ["none", "phrases", "phrases, steady"]
    assert {record["notation"] for record in records} == {CompiledRun.load(run).notation}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--draft", "x"], "--draft needs RUN"),
        (["RUN", "--rows", "2", "--data", "DATA"], "--rows is for random weights"),
        (["RUN"], "give --data DIR"),
    ],
)
def test_options_of_the_other_kind_are_refused(folders, arguments, message):
    words = {"RUN": str(folders[0]), "DATA": str(folders[1])}
    result = CliRunner().invoke(app, ["bench", "generate", *[words.get(word, word) for word in arguments]])
    assert result.exit_code == 2 and message in result.output


def test_texts_have_to_fit_the_model(folders, tmp_path):
    run, data = folders
    with pytest.raises(ValueError, match="context of 24"):
        next(bench_guesses(run, data, length=20, networks=(Network.parse("loopback"),)))
    (tmp_path / "t.py").write_text("y = 1\n" * 2000)
    other = build(tmp_path / "data", DataSettings(sources=(str(tmp_path / "t.py"),), vocab_size=280)).path
    with pytest.raises(ValueError, match="another tokenizer"):
        next(bench_guesses(run, other, length=8, tokens=4))
