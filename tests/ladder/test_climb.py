"""The four steps as one run: the search, the front, and a ladder of tiny models that is stopped and goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from aero.cli.ladder import ladder as verb
from aero.cost import estimate
from aero.cost.two_party import TwoPartyProfile
from aero.data.build import build
from aero.data.folder import DataFolder
from aero.data.settings import DataSettings
from aero.ladder.climb import FILE, climb, most_pruned
from aero.ladder.rung import Rung, pareto_front
from aero.models.notation import parse
from aero.models.presets import SIZES, Size
from aero.structure import lowered
from aero.train.callbacks import TrainingProgress
from aero.train.run_folder import RunInfo
from aero.train.settings import TrainSettings


@pytest.mark.parametrize("most", [0, 1, 5, 11])
def test_halving_finds_the_last_that_is_fine_in_few_trials(most: int) -> None:
    for last in range(most + 1):
        tried: list[int] = []

        def fine(k: int, tried: list[int] = tried, last: int = last) -> bool:
            tried.append(k)
            return k <= last

        assert most_pruned(most, fine) == last
        assert len(tried) <= most.bit_length() and len(set(tried)) == len(tried)


def test_the_front_is_what_nothing_beats() -> None:
    def rung(name: str, perplexity: float | None, size: float | None) -> Rung:
        return Rung(1, name, "none", name, "finished", perplexity, size, "p")

    rungs = [rung("a", 3.0, 50), rung("b", 2.0, 90), rung("c", 3.5, 60), rung("d", None, None), rung("e", 2.0, 95)]
    assert [r.name for r in pareto_front(rungs)] == ["a", "b"]
    assert pareto_front([rung("d", None, None)]) == []


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    folder = tmp_path_factory.mktemp("ladder")
    (folder / "t.py").write_text("".join(f"def f{i}(x):\n    return x + {i}\n" for i in range(300)))
    return build(folder / "data", DataSettings(sources=(str(folder / "t.py"),), vocab_size=300, valid_fraction=0.2))


@pytest.fixture
def size(data: DataFolder) -> Size:
    return Size(data.info.vocab_size, context=16, num_layers=3, num_heads=2, hidden_size=16)


SETTINGS = TrainSettings(steps=2, batch_size=2, precision="float32", valid_blocks=4, measure_every=0, save_every=50)


def test_a_ladder_is_climbed_stopped_and_climbed_on(data: DataFolder, size: Size, tmp_path: Path) -> None:
    out = tmp_path / "ladder"
    seen: list[str] = []

    def stop(rung: str, now: TrainingProgress) -> None:
        seen.append(rung)
        if rung == "SM+R":
            raise InterruptedError

    with pytest.raises(InterruptedError):
        climb(out, data, size, SETTINGS, tolerance=5.0, flavour="papers", on_progress=stop)
    assert not (out / FILE).exists()
    kept = (out / "SM+LN+R" / "model.safetensors").stat().st_mtime_ns

    found = climb(out, data, size, SETTINGS, tolerance=5.0, flavour="papers")
    assert (out / "SM+LN+R" / "model.safetensors").stat().st_mtime_ns == kept
    assert [rung.step for rung in found.rungs] == sorted(rung.step for rung in found.rungs)
    names = [rung.notation for rung in found.rungs]
    assert names[:7] == ["SM+LN+G", "SM+LN+R", "SM+R", "SM+ScFFN", "SM", "SM", "SM+ScFuFFN"]
    assert found.pruned == 2, "a tolerance of 500% bears all that may be pruned"
    assert names[-1] == "EReg(SM(t_h)+ScFuFFN_i2)"
    of_step_two = [rung for rung in found.rungs if rung.step == 2]
    best = min(of_step_two, key=lambda rung: rung.perplexity or 0)
    assert found.stabilizer == ("scaled" if best.stabilizer == "none" else best.stabilizer)
    for rung in found.rungs:
        result = RunInfo.read(out / rung.folder).result
        assert result is not None and rung.perplexity == result["perplexity"]
    baseline = found.rungs[0]
    as_trained = lowered(parse("SM+LN+G"), size)
    plain = estimate(as_trained, TwoPartyProfile(as_trained)).total.bytes_both_ways
    assert {rung.profile for rung in found.rungs} == {"two-party"}
    assert baseline.bytes is not None and plain is not None and baseline.bytes < plain, "it is compiled"
    assert found.choice is not None and found.choice == found.front[0]
    assert json.loads((out / FILE).read_text()) == json.loads(json.dumps(found.to_json()))
    with pytest.raises(ValueError, match="other settings"):
        climb(out, data, size, replace(SETTINGS, seed=1))
    with pytest.raises(ValueError, match="flavour is 'own'"):
        climb(out, data, size, SETTINGS, flavour="own")  # type: ignore[arg-type]


def test_frozen_norms_are_a_stabiliser(
    data: DataFolder, size: Size, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aero.ladder.climb._best", lambda rungs: rungs[-1])  # of two steps, any may be best
    found = climb(tmp_path, data, size, SETTINGS, tolerance=5.0)
    names = [rung.notation for rung in found.rungs]
    assert names[:4] == ["SM+LN+G", "SM+LN+R", "SM+FLN+R", "SM+R"]
    assert names[4:9] == ["SM+ScFFN", "SM", "SM", "SM+FLN", "SM+FLN+ScFuFFN"]
    assert (found.stabilizer, names[-1]) == ("frozen", "EReg(SM(t_h)+FLN+ScFuFFN_i2)")
    prices = {rung.notation: rung.bytes for rung in found.rungs}
    assert prices["SM+FLN"] == prices["SM+FLN+ScFuFFN"], "the compiler leaves the same of both"
    assert prices["SM+FLN+R"] == prices["SM+R"]


def test_the_ladder_of_a_llama_begins_with_its_own_rungs(data: DataFolder, size: Size, tmp_path: Path) -> None:
    llama = replace(size, num_layers=2, family="llama", num_key_heads=1, ffn_width=24)
    found = climb(tmp_path, data, llama, SETTINGS, tolerance=5.0)
    body = {"frozen": "+FRMS"}.get(found.stabilizer, "")
    names = [rung.notation for rung in found.rungs]
    assert names[:5] == ["SM+RMS+SiLU+GaFFN", "SM+RMS+R+GaFFN", "SM+RMS+R", "SM+FRMS+R", "SM+R"]
    assert names[5:9] == ["SM+ScFFN", "SM", "SM", "SM+FRMS"]
    assert names[9:] == [f"SM{body}+ScFuFFN", f"SM{body}+ScFuFFN_i1", f"EReg(SM(t_h){body}+ScFuFFN_i1)"]
    assert all(rung.perplexity is not None for rung in found.rungs)
    prices = [rung.bytes or 0.0 for rung in found.rungs]
    assert prices[0] > prices[1] > prices[2] > prices[3] == prices[4] > prices[9], "a frozen norm costs nothing"
    with pytest.raises(ValueError, match="the size of an encoder"):
        climb(tmp_path, data, "bert-base", SETTINGS)


def test_no_tolerance_prunes_nothing_that_hurts(data: DataFolder, size: Size, tmp_path: Path) -> None:
    found = climb(tmp_path, data, size, replace(SETTINGS, learning_rate=1e-2, steps=8), tolerance=0.0)
    fused = next(rung for rung in found.rungs if rung.notation == "SM+ScFuFFN")
    for rung in found.rungs:
        if rung.step == 3 and rung.notation.endswith(f"_i{found.pruned}"):
            assert rung.perplexity is not None and fused.perplexity is not None
            assert rung.perplexity <= fused.perplexity
    with pytest.raises(ValueError, match=r"0\.02 for 2%"):
        climb(tmp_path, data, size, SETTINGS, tolerance=-1)


def test_an_unknown_profile_is_refused_before_anything_is_trained(data: DataFolder, size: Size, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are two-party, aero-published"):
        climb(tmp_path, data, size, SETTINGS, profile="nonesuch")
    assert not any(tmp_path.iterdir())


def test_the_command_writes_a_page(
    data: DataFolder, size: Size, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIZES, "tiny", size)
    app = typer.Typer()
    app.command()(verb)
    options = ["--data", str(data.path), "--size", "tiny", "--steps", "1", "--batch-size", "2", "--json", "r.json"]
    options[-1] = str(tmp_path / "r.json")
    done = CliRunner().invoke(app, [str(tmp_path / "out"), *options])
    assert done.exit_code == 0, done.output
    assert "Fewest bytes within 2.0%" in done.output
    assert "data:image/png;base64," in (tmp_path / "out" / "index.html").read_text()
    assert json.loads((tmp_path / "r.json").read_text())["rungs"][0]["notation"] == "SM+LN+G"
