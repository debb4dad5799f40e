"""Training speed and the ordering study: every variant is run, and the table says what the runs say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aero.bench.study import run_study, study_rows
from aero.bench.training import bench_training
from aero.data.build import build
from aero.data.folder import DataFolder
from aero.data.settings import DataSettings
from aero.models.presets import Size, by_width
from aero.report.record import Record, write_records
from aero.train.settings import TrainSettings

SETTINGS = TrainSettings(steps=4, batch_size=2, precision="float32", valid_blocks=4, save_every=50, measure_every=2)
TABLE = Path(__file__).parents[2] / "benchmarks" / "study_table.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    folder = tmp_path_factory.mktemp("bench")
    (folder / "t.py").write_text("".join(f"def f{i}(x):\n    return x + {i}\n" for i in range(300)))
    return build(folder / "data", DataSettings(sources=(str(folder / "t.py"),), vocab_size=300, valid_fraction=0.2))


@pytest.fixture
def size(data: DataFolder) -> Size:
    return Size(data.info.vocab_size, 16, 2, 2, 16)


def test_every_variant_is_timed_in_the_same_run(data: DataFolder, size: Size) -> None:
    seen: list[str] = []
    records = bench_training(data, size, SETTINGS, turns=1, on_progress=seen.append)
    assert len(seen) == len(records) == 5
    assert [r.engine for r in records[:2]] == ["aero", "transformers"]
    assert all(r.seconds is not None and r.seconds > 0 for r in records)
    assert all(r.extra["tokens_per_second"] == pytest.approx(2 * 16 / (r.seconds or 0)) for r in records)
    with pytest.raises(ValueError, match="too few"):
        bench_training(data, size, TrainSettings(steps=3))


def test_a_study_trains_each_at_both_scales_and_goes_on(data: DataFolder, size: Size, tmp_path: Path) -> None:
    records = run_study(tmp_path, data, size, SETTINGS, seeds=(0, 1), notations=("SM+LN+G", "SM+R"))
    assert [(r.work, r.notation, r.extra["seed"]) for r in records] == [
        (f"ordering/{scale}", notation, seed)
        for scale in ("recommended", "gpt2")
        for notation in ("SM+LN+G", "SM+R")
        for seed in (0, 1)
    ]
    config = json.loads((tmp_path / "recommended" / "SM+R" / "1" / "config.json").read_text())
    assert (config["embedding_multiplier"], config["logit_multiplier"]) == by_width(False, 16)
    config = json.loads((tmp_path / "gpt2" / "SM+R" / "1" / "config.json").read_text())
    assert (config["embedding_multiplier"], config["logit_multiplier"]) == (1, 1)
    again = run_study(tmp_path, data, size, SETTINGS, seeds=(0, 1), notations=("SM+LN+G", "SM+R"))
    assert again == records

    (tmp_path / "results.md").write_text("# Results\n")
    write_records(tmp_path / "study.json", records)
    for _ in range(2):
        command = [sys.executable, str(TABLE), str(tmp_path / "study.json"), "--command", "aero bench study D"]
        subprocess.run([*command, "--out", str(tmp_path / "results.md")], check=True)
    text = (tmp_path / "results.md").read_text()
    assert text.count("| SM+R |") == 1
    perplexities = [r.extra["perplexity"] for r in records if r.work == "ordering/gpt2" and r.notation == "SM+R"]
    assert f"| {sum(perplexities) / 2:.2f} ± " in text


def test_a_diverged_run_is_counted_and_not_averaged_away() -> None:
    def record(scale: str, seed: int, perplexity: float | None) -> Record:
        status = "finished" if perplexity else "diverged"
        shares = [0.1, 0.2, 0.3, 0.4] if perplexity else None
        extra = {"seed": seed, "status": status, "perplexity": perplexity, "shares": shares, "tokens": 10}
        return Record(f"ordering/{scale}", "torch", "SM", 128, extra=extra)

    records = [
        record("gpt2", 0, 10.0),
        record("gpt2", 1, None),
        record("gpt2", 2, 14.0),
        record("recommended", 0, None),
    ]
    assert study_rows(records) == [["SM", "12.00 ± 2.83 (1 of 3 diverged)", "- (1 of 1 diverged)", "-", "-", "NaN"]]
