"""`aero window` and the training option that keeps the window narrow."""

import json

import pytest
from typer.testing import CliRunner

from aero.cli.main import app
from aero.data.build import DataSettings, build
from aero.data.probes import PROBES
from aero.train.run_folder import RunInfo


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("window")
    (folder / "texts").mkdir()
    for i in range(12):
        text = "".join(f"def f{i}_{j}(x):\n    return x + {j}\n" for j in range(120))
        (folder / "texts" / f"{i}.py").write_text(text)
    build(folder / "data", DataSettings(sources=(str(folder / "texts"),), vocab_size=300, valid_fraction=0.2))
    return folder


def aero(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_train_and_measure(folder, tmp_path):
    run, result, own = tmp_path / "run", tmp_path / "window.json", tmp_path / "own.txt"
    own.write_text("x = 1\n" * 200)
    common = ["--data", folder / "data", "--notation", "SM", "--size", "demo", "--steps", 2, "--batch-size", 2]
    output = aero("train", run, *common, "--zatt", 0.5, "--zatt-bound", 1.5)
    assert "log-sum-exp within ±" in output
    info = RunInfo.read(run)
    assert (info.settings.zatt, info.settings.zatt_bound) == (0.5, 1.5)
    assert len(info.result["window"]["low"]) == 2

    output = aero("window", run, "--blocks", 32, "--text", own, "--json", result)
    assert "other languages" in output
    (record,) = json.loads(result.read_text())
    assert (record["work"], record["context"], record["notation"]) == ("window", 64, "SM")
    assert list(record["windows"]) == ["validation text", *PROBES, str(own)]
    window = record["windows"]["validation text"]
    assert window["heads_beyond"] == 0
    for name in ("low", "high", "depth", "bound"):
        assert window[name] == info.result["window"][name], "the same text, the same numbers"
    noise = record["windows"]["random tokens"]
    expected = [
        [max(h1 - h0, l0 - l1, 0) for h1, h0, l0, l1 in zip(*rows, strict=True)]
        for rows in zip(noise["high"], window["high"], window["low"], noise["low"], strict=True)
    ]
    assert noise["beyond"] == expected

    (tmp_path / "short.txt").write_text("x")
    done = CliRunner().invoke(app, ["window", str(run), "--text", str(tmp_path / "short.txt")])
    assert "less than the context of 64" in str(done.exception)
