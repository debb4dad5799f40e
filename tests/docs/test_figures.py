"""The figures of the docs say what the records say, and the records what the tables say."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from aero.cost.published import ROWS
from aero.report.record import read_records

pytest.importorskip("matplotlib", reason="the extra plot is not installed")
ROOT = Path(__file__).parents[2]
FIGURES, RESULTS = ROOT / "docs" / "figures", (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def script(name):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.pop(0)


def words(path):
    return re.findall(r"<text[^>]*>(.*?)</text>", path.read_text(encoding="utf-8"), re.DOTALL)


def test_figures_are_those_of_their_records(tmp_path):
    script("figures").main(tmp_path)
    script("soak").draw(json.loads((FIGURES / "soak.json").read_text()), tmp_path / "soak.svg")
    drawn = {path.name for path in FIGURES.glob("*.svg")}
    assert drawn == {path.name for path in tmp_path.glob("*.svg")}
    for name in drawn:
        assert len(words(tmp_path / name)) > 10
        assert words(tmp_path / name) == words(FIGURES / name), f"{name}: draw it anew (benchmarks/)"


@pytest.mark.parametrize("name", ["forward", "generate"])
def test_tables_are_those_of_their_records(name):
    records = read_records(FIGURES / f"{name}.json")
    rows = script("record_table").table_of(records)
    assert len(rows) > 8 and "\n".join(rows) in RESULTS, f"{name}: write the section anew (benchmarks/record_table.py)"


def test_the_study_is_its_table():
    rows = json.loads((FIGURES / "study.json").read_text())
    assert len(rows) == 10
    for row in rows:
        line = next(line for line in RESULTS.splitlines() if line.startswith(f"| {row['notation']} | ") and "±" in line)
        assert line.split(" | ")[2] == f"{row['perplexity']:.2f} ± {row['deviation']:.2f}"


def test_published_numbers_are_the_tables():
    printed = {row.notation: row for row in ROWS if (row.table, row.block) == ("T=128", "gpt2")}
    rows = [row for row in json.loads((FIGURES / "published.json").read_text()) if row["engine"] == "SPU, BumbleBee"]
    assert len(rows) == 4
    for row in rows:
        stated = printed[row["notation"]]
        assert row["gigabytes"] == stated.gigabytes
        assert row["seconds"] == pytest.approx(60 * stated.minutes)
