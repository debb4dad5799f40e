"""Live measures: equal to entropies computed from the attention itself, written, drawn, and taken up again."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from aero.data.folder import DataFolder
from aero.data.loader import TrainingBlocks
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.notation import parse
from aero.train.callbacks import TrainingProgress
from aero.train.jsonl import read_rows
from aero.train.measures import MeasureLog, Measures, measure
from aero.train.run import resume, train
from aero.train.settings import TrainSettings


def rows(run: Path) -> list[dict]:
    return read_rows(run / "measures.jsonl")


def test_the_first_line_is_the_model_as_initialised_on_the_first_texts(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    config = AeroConfig(**{**config.to_dict(), **parse("EReg(SM(t)+ScFuFFN_i1)").config_fields(2)})
    run = tmp_path / "run"
    train(run, data, config, replace(settings, batch_size=6, measure_every=5, learning_rate=1e-2))
    torch.manual_seed(settings.seed)
    model = AeroForCausalLM(config)
    blocks = TrainingBlocks(data.train, config.context, samples=72, seed=settings.seed)
    ids = torch.stack([blocks[i]["input_ids"] for i in range(4)])
    with torch.no_grad():
        attentions = model(input_ids=ids, output_attentions=True).attentions
    expected = torch.stack([-(a * a.clamp(min=1e-30).log()).sum(-1).mean(dim=(0, 2)) for a in attentions])

    found = rows(run)
    assert [row["step"] for row in found] == [0, 5, 10]
    first, last = found[0], found[-1]
    torch.testing.assert_close(torch.tensor(first["head_entropy"]), expected, rtol=1e-4, atol=1e-6)
    assert first["layer_means"] == pytest.approx(expected.mean(1).tolist(), rel=1e-4)
    assert sum(first["shares"]) == pytest.approx(1)
    assert first["nan_counts"] == [0, 0]
    assert first["thresholds"] == [[0.5, 0.5], [0.5, 0.5]]
    assert first["temperatures"] == [[1.0, 1.0], [1.0, 1.0]]
    assert first["alpha"] == first["beta"] == [1.0, None]
    assert last["alpha"][0] != 1.0 and last["temperatures"] != first["temperatures"]
    assert "slopes" not in first

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    drawn = [(e.step, e.value) for e in events.Scalars("entropy/layer 1")]
    assert drawn == [(row["step"], pytest.approx(row["layer_means"][1])) for row in found]
    assert {"alpha/layer 0", "thresholds/layer 1", "share of heads/quarter 4", "nan rows/layer 0"} <= set(
        events.Tags()["scalars"]
    )


def test_measuring_changes_nothing_and_can_be_left_out(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    for name, every in (("with", 1), ("without", 0)):
        train(tmp_path / name, data, config, replace(settings, measure_every=every))
    assert len(rows(tmp_path / "with")) == 12
    assert not (tmp_path / "without" / "measures.jsonl").read_text()
    with_, without = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("with", "without"))
    assert with_ == without


def test_a_resumed_run_has_the_lines_of_an_uninterrupted_one(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    settings = replace(settings, measure_every=1)
    train(tmp_path / "whole", data, config, settings)

    def cut(progress: TrainingProgress) -> None:
        if progress.step == 8:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(tmp_path / "cut", data, config, settings, on_progress=cut)
    assert [row["step"] for row in rows(tmp_path / "cut")] == list(range(8))
    resume(tmp_path / "cut")
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_a_layer_near_zero_is_warned_of_once_and_the_first_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "measures.jsonl"

    def at(step: int, *heads: tuple[float | None, float | None], broken: tuple[int, int] = (0, 0)) -> Measures:
        return Measures(step, 16, heads, broken)

    log = MeasureLog(path)
    log.go_on_from(0, writes=True)
    limit = 0.05 * math.log(16)
    assert log.add(at(0, (2.0, 1.0), (2.0, limit / 2))) == [], "a single sharp head is no collapse"
    (warning,) = log.add(at(10, (2.0, 1.0), (limit / 2, limit / 4)))
    assert "layer 1 is collapsing at step 10" in warning
    assert log.add(at(20, (2.0, 1.0), (0.0, 0.0))) == []
    (warning,) = log.add(at(30, (2.0, None), (0.0, 0.0), broken=(7, 0)))
    assert "layer 0" in warning and "7 attention rows are not finite" in warning
    assert log.first_collapsed == (1, 10)
    assert json.loads(path.read_text().splitlines()[-1])["shares"] is None

    again = MeasureLog(path)
    again.go_on_from(20, writes=True)
    assert again.first_collapsed == (1, 10)
    assert [row["step"] for row in read_rows(path)] == [0, 10]


def test_rows_that_are_not_finite_are_counted(config: AeroConfig) -> None:
    model = AeroForCausalLM(config)
    with torch.no_grad():
        model.transformer.blocks[1].attention.q_proj.bias[0] = float("nan")
    found = measure(model, model, torch.ones(3, 16, dtype=torch.long), step=4)
    assert found.nan_counts == (0, 3 * 16), "of the head that the bias belongs to"
    assert found.head_entropy[1][0] is None and found.head_entropy[1][1] is not None
    assert found.collapsed_layers == (1,)
    json.dumps(found.to_json(), allow_nan=False)


def test_weights_and_biases_is_used_where_it_is_installed(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(settings, wandb_project="study", steps=2, log_every=1)
    monkeypatch.setattr("aero.train.scalars.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install wandb"):
        train(tmp_path / "run", data, config, settings)
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr("aero.train.scalars.find_spec", lambda name: object())
    calls: list[tuple] = []
    fake = SimpleNamespace(
        init=lambda **options: SimpleNamespace(
            log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append(("finished",))
        )
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    train(tmp_path / "run", data, config, settings)
    assert [step for step, *_ in calls] == [0, 1, 2, "finished"]
    assert "train/loss" in calls[1][1] and "entropy/layer 0" in calls[0][1]
