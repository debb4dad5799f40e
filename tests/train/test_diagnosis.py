"""Divergence: found as it happens, and put down to the layer that broke."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from aero.data.folder import DataFolder
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.notation import parse
from aero.train.checkpoints import latest
from aero.train.diagnosis import LossTrend, TrainingDivergedError, diagnose
from aero.train.run import train
from aero.train.run_folder import RunInfo
from aero.train.settings import TrainSettings

IDS = torch.arange(32).reshape(2, 16)
BATCH = {"input_ids": IDS, "labels": IDS}


def damage(model: AeroForCausalLM, layer: int, part: str, value: float) -> None:
    with torch.no_grad():
        module = model.transformer.blocks[layer].get_submodule(part)
        assert isinstance(module, nn.Linear)
        module.weight.fill_(value)


@pytest.mark.parametrize(
    ("layer", "part", "value", "output", "gradient"),
    [
        (1, "attention.v_proj", float("nan"), "layer 1's attention", None),
        (0, "ffn.w", float("inf"), "layer 0's FFN", None),
        (0, "attention.q_proj", float("nan"), "layer 0's attention", None),
    ],
)
def test_names_the_first_part_that_breaks(
    config: AeroConfig, layer: int, part: str, value: float, output: str | None, gradient: str | None
) -> None:
    model = AeroForCausalLM(config)
    damage(model, layer, part, value)
    found = diagnose(model, [BATCH], lambda batch: model(**batch).loss, 7, "the loss is nan", None)
    assert (found.first_layer, found.broken_output, found.broken_gradient) == (layer, output, gradient)
    assert str(found) == f"the loss is nan at step 7; layer {layer} broke first; the output of {output} is not finite"


def test_names_the_part_whose_gradient_breaks_where_every_output_is_finite(config: AeroConfig) -> None:
    model = AeroForCausalLM(config)

    class Steep(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * float("inf")

    model.transformer.blocks[1].attention.register_forward_hook(lambda m, i, o: (Steep.apply(o[0]), *o[1:]))
    fine = {"input_ids": IDS[:1], "labels": IDS[:1]}
    found = diagnose(model, [fine, BATCH], lambda batch: model(**batch).loss, 3, "the gradient norm is nan", None)
    assert (found.broken_output, found.broken_gradient, found.first_layer) == (None, "layer 1's attention", 1)
    assert "the gradient of layer 1's attention is not finite" in str(found)


def test_what_was_seen_before_comes_first(config: AeroConfig) -> None:
    model = AeroForCausalLM(config)
    found = diagnose(model, [BATCH], lambda batch: model(**batch).loss, 9, "the loss is inf", (1, 4))
    assert (found.first_layer, found.collapsed_at, found.broken_output) == (1, 4, None)
    assert "layer 1 collapsed first (seen in its heads at step 4)" in str(found)


def test_a_softmax_only_model_that_collapses_is_stopped_and_explained(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    """Large weights and steps, no norm, no scaling: the papers' SM, in miniature."""
    fields = parse("SM").config_fields(2)
    config = AeroConfig(**{**config.to_dict(), **fields, "initializer_range": 0.3, "embedding_multiplier": 16.0})
    settings = replace(settings, learning_rate=3.0, warmup_fraction=0.3, steps=60, save_every=1, measure_every=1)
    warnings: list[str] = []
    run = tmp_path / "run"
    with pytest.raises(TrainingDivergedError, match=r"layer \d collapsed first") as error:
        train(run, data, config, settings, on_progress=lambda now: warnings.extend(now.warnings))
    assert RunInfo.read(run).status == "diverged"
    found = json.loads((run / "divergence.json").read_text())
    assert f"layer {found['first_layer']} collapsed first" in str(error.value)
    assert found["collapsed_at"] < found["step"], "it was seen before the end"
    assert warnings and f"layer {found['first_layer']} is collapsing" in " ".join(warnings)
    good = latest(run)
    assert good is not None and f"the last good state is {good}" in str(error.value)


def test_a_loss_that_climbs_is_told_from_one_that_spikes() -> None:
    trend = LossTrend()
    assert not any(trend.climbs(8.0, first=8.0) for _ in range(50))
    assert not any(trend.climbs(loss, first=8.0) for loss in (3e5, 8.0, 8.0))
    assert any(trend.climbs(25.0, first=8.0) for _ in range(50))
