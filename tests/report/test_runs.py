"""Reports of training runs: what they say is what the runs' files say, and the page stands alone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from aero.cli.report import report
from aero.data.build import build
from aero.data.settings import DataSettings
from aero.models import AeroConfig
from aero.models.presets import Size
from aero.report.runs import summarise
from aero.train.diagnosis import TrainingDivergedError
from aero.train.run import train
from aero.train.settings import TrainSettings


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run with everything that can be drawn, a baseline, and one that diverged."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.py").write_text("".join(f"def f{i}(x):\n    return x + {i}\n" for i in range(400)))
    data = build(folder / "data", DataSettings(sources=(str(folder / "text.py"),), vocab_size=300, valid_fraction=0.2))
    size = Size(data.info.vocab_size, context=16, num_layers=3, num_heads=2, hidden_size=16)
    settings = TrainSettings(steps=6, batch_size=2, log_every=2, measure_every=2, precision="float32", valid_blocks=8)
    names = {"ereg": "EReg(SM(t)+ScFuFFN_i1)", "base": "SM+LN+G", "broken": "SM"}
    for name, notation in names.items():
        rate = 1e25 if name == "broken" else 1e-2
        try:
            train(folder / name, data, AeroConfig.from_notation(notation, size), replace(settings, learning_rate=rate))
        except TrainingDivergedError:
            assert name == "broken"
    return [folder / name for name in names]


def test_a_summary_is_what_the_run_recorded(runs: list[Path]) -> None:
    ereg, base, broken = summarise(runs, blocks=4)
    assert [run.info.status for run in (ereg, base, broken)] == ["finished", "finished", "diverged"]
    assert ereg.name == "EReg(SM(t)+ScFuFFN_i1)"
    lines = [json.loads(line) for line in (runs[0] / "measures.jsonl").read_text().splitlines()]
    assert ereg.measures == lines and [row["step"] for row in lines] == [0, 2, 4]
    # Three layers of width 16, context 16: 2 T d^2 for a fused FFN, two of them left; 8 T d^2 + 3 T^2 d of attention.
    assert ereg.count is not None and base.count is not None
    assert ereg.count.ffn_flops == 2 * 2 * 16 * 16**2
    assert base.count.attention_flops == 3 * (8 * 16 * 16**2 + 3 * 16**2 * 16)
    assert {name: str(ops) for name, ops in base.count.nonlinear.items()} == {
        "SM": "6 x R^(16x16)",
        "LN": "6 x R^(16x16)",
        "G": "3 x R^(16x64)",
    }
    assert base.entropy is not None and base.entropy.blocks == 4
    assert len(base.entropy.head_entropy) == 3


def test_runs_of_one_architecture_are_named_by_their_folders(runs: list[Path]) -> None:
    assert [run.name for run in summarise([runs[0], runs[0].parent / "." / "ereg"], blocks=1)] == ["ereg", "ereg"]


def test_the_page_stands_alone_and_shows_every_figure(runs: list[Path], tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(report)
    out = tmp_path / "out"
    result = CliRunner().invoke(app, [*map(str, runs), "--out", str(out), "--blocks", "2"])
    assert result.exit_code == 0, result.output
    page = (out / "index.html").read_text()
    pictures = {p.stem for p in out.glob("*.png")}
    assert pictures >= {"loss", "entropy", "ranges", "layers", "thresholds", "temperatures", "alpha", "beta"}
    assert "slopes" not in pictures
    assert page.count("data:image/png;base64,") == len(pictures)
    assert not re.search(r'(src|href)="(?!data:)', page), "nothing is fetched"
    data = json.loads((out / "report.json").read_text())
    perplexity = json.loads((runs[1] / "run.json").read_text())["result"]["perplexity"]
    assert data[1]["result"]["perplexity"] == perplexity
    assert f"<td>{perplexity:.2f}</td>" in page
    assert "<td>diverged</td>" in page


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run at"):
        summarise([tmp_path])
