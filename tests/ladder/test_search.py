"""A search under a private budget: who takes part, who goes on, and that a stopped search ends as one in peace."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from aero.cli.search import _price_run
from aero.cost.budget import Budget, Deployment
from aero.cost.machine import Computer, load_machine
from aero.data.build import build
from aero.data.folder import DataFolder
from aero.data.settings import DataSettings
from aero.ladder.plots import front_figure
from aero.ladder.search import FILE, WORKS, Found, Heat, Plan, halving, plan_search, search, survivors
from aero.ladder.space import Candidate, Space
from aero.models.presets import SIZES, Size
from aero.train.callbacks import TrainingProgress
from aero.train.run_folder import RunInfo
from aero.train.settings import TrainSettings
from aero.wire.network import WAN
from in_process import aero

DEPLOYMENT = Deployment(WAN, Computer(load_machine("portable")))
SETTINGS = TrainSettings(batch_size=2, precision="float32", valid_blocks=4, measure_every=0, save_every=2)
STEPS = 6


def test_a_third_goes_on_with_three_times_the_steps() -> None:
    assert halving(48, 900) == (Heat(48, 100), Heat(16, 300), Heat(6, 900))
    assert halving(4, 900) == (Heat(4, 300), Heat(2, 900))
    assert halving(3, 900) == (Heat(3, 900),)
    assert halving(10, 4) == (Heat(10, 1), Heat(4, 1), Heat(2, 4))
    assert halving(9, 900, most=1) == (Heat(9, 900),)


def test_those_that_nothing_beats_go_on_then_those_that_only_these_beat() -> None:
    # perplexity, MB; fronts by hand: {a, c, e}, then {b, d}, then {f}; g diverged
    a, b, c, d, e, f, g = (10.0, 9.0), (11.0, 8.0), (12.0, 7.0), (14.0, 6.5), (20.0, 2.0), (21.0, 9.0), None
    results = [a, b, c, d, e, f, g]
    b_is_beaten = (10.5, 8.0)  # so that c no longer beats all: another case, where b is on the front
    assert survivors(results, 7) == [0, 1, 2, 3, 4, 5], "one that diverged never goes on"
    assert survivors(results, 3) == [0, 1, 2], "of a front too large, the lowest perplexities"
    assert survivors([a, b_is_beaten, c, (10.6, 8.5)], 3) == [0, 1, 2]
    assert survivors([(5.0, 5.0), (6.0, 6.0), (7.0, 1.0), (6.5, 5.5)], 3) == [0, 1, 2], "(6, 6) before (6.5, 5.5)"
    assert survivors([(9.0, 1.0), (9.0, 1.0), (9.5, 1.0)], 1) == [0], "of equals, the first"
    assert survivors([None, None], 1) == []


def test_shapes_keep_the_proportions_of_the_base() -> None:
    llama = replace(SIZES["demo-llama"], num_heads=4, num_key_heads=2)
    size = Candidate("SM+FRMS+R", 3, 8, 128).size(llama)
    assert (size.num_layers, size.num_heads, size.num_key_heads) == (3, 8, 4)
    assert (size.hidden_size, size.ffn_width) == (128, 352)
    assert (size.vocab_size, size.context, size.family) == (llama.vocab_size, llama.context, "llama")
    narrow = Candidate("SM+LN+G", 1, 2, 32).config(SIZES["demo"])
    assert narrow.logit_multiplier == 1024 / 32, "multipliers follow the width"


def test_the_space_is_all_that_fits_together() -> None:
    space = Space.around(SIZES["demo"], notations=["SM", "SM+ScFuFFN_i3"], layers=[2, 4], heads=[2, 3], widths=[64])
    names = [candidate.name for candidate in space.candidates()]
    assert names == [
        "SM,2x64,2-heads", "SM,2x64,2-heads,taught", "SM,4x64,2-heads", "SM,4x64,2-heads,taught",
        "SM+ScFuFFN_i3,4x64,2-heads", "SM+ScFuFFN_i3,4x64,2-heads,taught",
    ], "64 is no multiple of 3, and 2 layers have no third FFN to prune"  # fmt: skip
    assert space.baseline == Candidate("SM+LN+G", 2, 2, 64)
    own = Space.around(SIZES["demo"], notations=["SM+LN+G"], layers=[2], heads=[2], widths=[64])
    assert [candidate.name for candidate in own.candidates()] == ["SM+LN+G,2x64,2-heads,taught"]
    assert Space.around(SIZES["nano-llama"]).baseline.notation == "SM+RMS+SiLU+GaFFN"
    with pytest.raises(ValueError, match="is a candidate: hidden_size 64 is not a multiple of num_heads 3"):
        Space.around(SIZES["demo"], heads=[3], widths=[64])
    with pytest.raises(ValueError, match="unknown notation 'SM\\+X'"):
        Space.around(SIZES["demo"], notations=["SM+X"])
    with pytest.raises(ValueError, match="the size of an encoder"):
        Space.around(SIZES["bert-base"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    folder = tmp_path_factory.mktemp("search")
    (folder / "t.py").write_text("".join(f"def f{i}(x):\n    return x + {i}\n" for i in range(300)))
    return build(folder / "data", DataSettings(sources=(str(folder / "t.py"),), vocab_size=300, valid_fraction=0.2))


def tiny(data: DataFolder) -> Size:
    return Size(data.info.vocab_size, context=16, num_layers=1, num_heads=2, hidden_size=16)


@pytest.fixture(scope="module")
def plan(data: DataFolder) -> Plan:
    """Six candidates, of which the two with GELU and LayerNorm are over the budget."""
    space = Space.around(tiny(data), notations=["SM", "SM+FLN+R", "SM+LN+G"], layers=[2], heads=[2], widths=[16])
    everything = plan_search(space, [Budget.parse("1GB")], DEPLOYMENT, STEPS)
    bytes_ = sorted({each.cost.token.bytes for each in everything.candidates})
    return plan_search(space, [Budget((bytes_[-2] + bytes_[-1]) / 2, "bytes")], DEPLOYMENT, STEPS)


def run(out: Path, data: DataFolder, plan: Plan, **options) -> Found:  # type: ignore[no-untyped-def]
    return search(out, data, plan, SETTINGS, lambda folder: _price_run(folder, DEPLOYMENT), **options)


@pytest.fixture(scope="module")
def peaceful(data: DataFolder, plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Found]:
    out = tmp_path_factory.mktemp("peace") / "search"
    return out, run(out, data, plan)


def test_those_over_the_budget_are_dropped_before_any_training(
    data: DataFolder, plan: Plan, peaceful: tuple[Path, Found]
) -> None:
    assert {each.candidate.notation for each in plan.candidates if not each.within} == {"SM+LN+G"}
    assert plan.heats == (Heat(4, STEPS // 3), Heat(2, STEPS))
    assert plan.tokens(batch_size=2) == (STEPS + 4 * STEPS // 3 + 2 * STEPS) * 2 * 16
    out, found = peaceful
    assert not [path for path in out.glob("*-steps/*") if "LN+G" in path.name]
    assert len(list(out.glob("2-steps/*"))) == 4 and len(list(out.glob("6-steps/*"))) == 2
    assert all(not entry.trials for entry in found.candidates if not entry.priced.within)
    space = plan.space
    with pytest.raises(ValueError, match=r"none of 6 candidates .* the cheapest takes .* MB a token; raise the budget"):
        plan_search(space, [Budget.parse("1kB")], DEPLOYMENT, STEPS)
    both = [Budget.parse("1GB"), Budget.parse("1ms/prompt")]
    with pytest.raises(ValueError, match=r"within 1000 MB a token and 0\.001 s a prompt"):
        plan_search(space, both, DEPLOYMENT, STEPS)


def test_each_heat_keeps_whom_its_results_say(peaceful: tuple[Path, Found], plan: Plan) -> None:
    out, found = peaceful
    first = [entry for entry in found.candidates if entry.trials]
    results = [(e.trials[0].perplexity, e.priced.cost.token.bytes) for e in first]
    assert [i for i, entry in enumerate(first) if len(entry.trials) == 2] == survivors(results, 2)  # type: ignore[arg-type]
    for entry in (found.baseline, *first):
        for trial in entry.trials:
            info = RunInfo.read(out / trial.folder)
            assert info.result is not None and info.settings is not None
            assert (trial.perplexity, trial.steps) == (info.result["perplexity"], info.settings.steps)
            teacher = info.settings.teacher
            taught = entry.priced.candidate.taught
            assert (teacher is not None and teacher.path == str((out / "baseline").resolve())) == taught
    assert found.choice is not None and len(found.choice.trials) == 2
    served = [e for e in found.candidates if e.served is not None]
    fine = [e.perplexity for e in served if plan.budgets[0].allows(e.served)]  # type: ignore[arg-type]
    assert found.choice.perplexity == min(fine)  # type: ignore[type-var]


def test_a_stopped_search_goes_on_to_the_same_front(
    data: DataFolder, plan: Plan, tmp_path: Path, peaceful: tuple[Path, Found]
) -> None:
    _, whole = peaceful
    out, seen = tmp_path / "search", []

    def stop(name: str, now: TrainingProgress) -> None:
        seen.append(name)
        if len(set(seen)) == 3 and now.step == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(out, data, plan, on_progress=stop)
    assert not (out / FILE).exists()
    kept = (out / "baseline" / "model.safetensors").stat().st_mtime_ns
    found = run(out, data, plan)
    assert (out / "baseline" / "model.safetensors").stat().st_mtime_ns == kept
    assert found.to_json() == whole.to_json()
    with pytest.raises(ValueError, match="other settings"):
        search(out, data, plan, replace(SETTINGS, seed=1), lambda folder: _price_run(folder, DEPLOYMENT))


def test_the_figure_and_the_json_have_the_same_numbers(peaceful: tuple[Path, Found]) -> None:
    out, found = peaceful
    written = json.loads((out / FILE).read_text())
    assert written == json.loads(json.dumps(found.to_json()))
    for axis, work in zip(front_figure(found).axes, WORKS, strict=True):
        line, *points = (line.get_xydata().tolist() for line in axis.get_lines())
        drawn = written["figure"][work]
        assert len(drawn) == 3, "the baseline and two of the last heat"
        assert points[: len(drawn)] == [[[p["cost"] / 1e6, p["perplexity"]]] for p in drawn]
        assert line == sorted([p["cost"] / 1e6, p["perplexity"]] for p in drawn if p["front"])
        assert [p["name"] for p in drawn if p["front"]] == written["front"][work]
        assert [text.get_text() for text in axis.texts] == [p["name"] for p in drawn]
        if work == "token":
            [budget] = points[len(drawn) :]
            assert budget[0][0] == written["budgets"][0]["amount"] / 1e6
    for entry in (written["baseline"], *written["candidates"]):
        on_axis = [p for p in written["figure"]["token"] if p["name"] == entry["name"]]
        assert [p["cost"] for p in on_axis] == ([entry["served"]["token"]["bytes"]] if entry["served"] else [])
        assert [p["perplexity"] for p in on_axis] == [t["perplexity"] for t in entry["trials"][-1:] if entry["served"]]


def test_the_command(
    data: DataFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(SIZES, "tiny", tiny(data))
    out = tmp_path / "out"
    given = [out, "--data", data.path, "--size", "tiny", "--notation", "SM", "--layers", 1, "--heads", 2, "--width", 16]
    given += ["--machine", "portable", "--steps", 2, "--batch-size", 2, "--budget"]
    assert aero("search", *given, "1GB", "--plan", "--json", tmp_path / "p.json", monkeypatch=monkeypatch) == 0
    assert "2 of 2 candidates within 1000 MB a token; the baseline, then 2 x 2 steps: 192 tokens" in (
        capsys.readouterr().out
    )
    assert not out.exists(), "a plan trains nothing"
    planned = json.loads((tmp_path / "p.json").read_text())
    assert [c["name"] for c in planned["candidates"]] == ["SM,1x16,2-heads", "SM,1x16,2-heads,taught"]
    assert planned["tokens"] == 192

    assert aero("search", *given, "1GB", "--json", tmp_path / "r.json", monkeypatch=monkeypatch) == 0
    shown = capsys.readouterr().out
    found = json.loads((tmp_path / "r.json").read_text())
    assert found == json.loads((out / FILE).read_text())
    assert [c["cost"] for c in found["candidates"]] == [c["cost"] for c in planned["candidates"]]
    assert f"Within 1000 MB a token: {found['choice']}, perplexity" in shown
    page = (out / "index.html").read_text()
    assert "data:image/png;base64," in page and found["choice"] in page and "http" not in page

    for wrong, message in {
        "3": "unknown budget '3'; give bytes or seconds",
        "1kB": "none of 2 candidates is within 0.001 MB a token",
    }.items():
        assert aero("search", *given, wrong, monkeypatch=monkeypatch) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in " ".join(error.split())
