"""Training what is gone at inference: normalised weights, norms that become constant, and a start from another run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerControl, TrainerState

from aero.compiler.compile import compile
from aero.data.folder import DataFolder
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.norm import frozen_norms
from aero.models.notation import parse
from aero.models.start import config_for, start_from
from aero.train.callbacks import TrainingInterrupted
from aero.train.freezing import FreezeNorms, FreezeSchedule
from aero.train.measures import measure
from aero.train.run import resume, train
from aero.train.settings import TrainSettings
from small_models import LLAMA


def variant(config: AeroConfig, notation: str, **fields: object) -> AeroConfig:
    return AeroConfig(**{**config.to_dict(), **parse(notation).config_fields(config.num_layers), **fields})


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def test_the_schedule() -> None:
    together = FreezeSchedule(0.5, 0.8)
    assert together.blends(0.4, 3) == [0, 0, 0]
    assert together.blends(0.65, 3) == pytest.approx([0.5] * 3)
    assert together.blends(0.8, 3) == pytest.approx([1] * 3)
    by_one = FreezeSchedule(0.2, 0.8, "one_by_one")
    assert by_one.blends(0.3, 3) == pytest.approx([0.5, 0, 0])
    assert by_one.blends(0.7, 3) == pytest.approx([1, 1, 0.5])
    assert by_one.blends(0.8, 3) == pytest.approx([1, 1, 1])
    assert FreezeSchedule(0.5, 0.5).blends(0.5, 2) == [1, 1] and FreezeSchedule(0.5, 0.5).blends(0.4, 2) == [0, 0]
    for bad in ((0.5, 0.4, "together"), (-0.1, 0.5, "together"), (0.5, 0.8, "backwards")):
        with pytest.raises(ValueError, match="freeze_"):
            FreezeSchedule(*bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(("steps", "share"), [(5, 1.0), (100, 0.1), (500, 0.02), (5000, 0.02)])
def test_norms_remember_a_tenth_of_a_short_run(config: AeroConfig, steps: int, share: float) -> None:
    model = AeroForCausalLM(variant(config, "SM+FLN+R"))
    state, callback = TrainerState(max_steps=steps), FreezeNorms(FreezeSchedule())
    callback.on_train_begin(None, state, TrainerControl(), model=model)  # type: ignore[arg-type]
    norm = frozen_norms(model)[0].train()
    first, then = torch.randn(2, 4, config.hidden_size), 10 * torch.randn(2, 4, config.hidden_size)
    norm(first, torch.arange(4)[None])
    before = norm.log_sigma.clone()
    norm(then, torch.arange(4)[None])
    own = 0.5 * (then.var(-1, unbiased=False) + norm.eps).log().mean()
    assert norm.log_sigma.item() == pytest.approx((before + share * (own - before)).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("notation", "order", "shape"),
    [
        ("SM+FLN+R", "together", {}),
        ("SM+FLN(p)+R", "one_by_one", {}),
        ("SM+FRMS+SiLU+GaFFN", "one_by_one", LLAMA),
        ("SM+FRMS(p)+ScFuFFN", "together", LLAMA),
    ],
)
def test_a_run_whose_norms_become_constant(
    notation: str,
    order: str,
    shape: dict[str, object],
    data: DataFolder,
    config: AeroConfig,
    settings: TrainSettings,
    tmp_path: Path,
) -> None:
    config = variant(config, notation, **shape)
    settings = replace(settings, freeze_order=order, freeze_start=0.25, freeze_stop=0.75)
    info = train(tmp_path / "run", data, config, settings)
    assert info.notation == notation
    model = AeroForCausalLM.from_pretrained(tmp_path / "run")
    norms = frozen_norms(model)
    assert len(norms) == 5 and all(norm.frozen for norm in norms)
    assert all((norm.log_sigma != 0).all() for norm in norms), "they have followed the texts"
    operations = {node.op for node in compile(model).program.graph.nodes}
    assert not operations & {"layer_norm", "rms_norm"}

    def press_control_c(progress: object) -> None:
        if progress.step == 7:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", data, config, settings, on_progress=press_control_c)
    resume(tmp_path / "cut")
    whole, cut = weights(tmp_path / "run"), weights(tmp_path / "cut")
    assert whole.keys() == cut.keys() and all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
def test_a_stabilised_run_leaves_plain_weights_and_resumes(
    kind: str, data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    config = variant(config, "SM+ScFFN")
    settings = replace(settings, stabilizer=kind, stabilizer_placement="QK+FFN")
    info = train(tmp_path / "run", data, config, settings)
    plain = AeroForCausalLM(config)
    assert set(weights(tmp_path / "run")) == {n for n in plain.state_dict() if n != "lm_head.weight"}
    if kind == "spectral_norm":
        for name, weight in weights(tmp_path / "run").items():
            if "q_proj.weight" in name or "w_in.weight" in name:
                # From below: power iteration finds no more than the largest singular value, and follows it.
                assert 0.999 < torch.linalg.matrix_norm(weight, 2).item() < 1.25
    assert info.result is not None

    def cut(progress: object) -> None:
        if progress.step == 9:  # type: ignore[attr-defined]
            raise TrainingInterrupted

    with pytest.raises(TrainingInterrupted):
        train(tmp_path / "cut", data, config, settings, on_progress=cut)
    resume(tmp_path / "cut")
    whole, again = weights(tmp_path / "run"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_trained_model_loses_its_layer_norms(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    layer_norm = variant(config, "SM+LN+R")
    before = train(tmp_path / "before", data, layer_norm, replace(settings, steps=60, learning_rate=1e-2))
    assert before.result is not None
    settings = replace(settings, steps=40, start_from=str(tmp_path / "before"), freeze_order="one_by_one")
    settings = replace(settings, freeze_start=0.1, learning_rate=1e-3)
    after = train(tmp_path / "after", data, variant(config, "SM+FLN+R"), settings)
    assert after.result is not None
    assert after.result["perplexity"] < 1.2 * before.result["perplexity"], "it has begun where the other ended"
    compiled = compile(AeroForCausalLM.from_pretrained(tmp_path / "after"))
    assert "rms_norm" not in {node.op for node in compiled.program.graph.nodes}


def test_starting_from_another_model(config: AeroConfig, tmp_path: Path) -> None:
    source = AeroForCausalLM(variant(config, "SM+LN+R"))
    source.save_pretrained(tmp_path)
    model = AeroForCausalLM(variant(config, "EReg(SM(t)+FLN+R)"))
    start_from(model, tmp_path)
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    ids = torch.arange(8)[None]
    torch.testing.assert_close(model.eval()(ids).logits, source.eval()(ids).logits)
    for notation, fields, message in (
        ("SM+R", {}, "has no place for"),
        ("SM+LN+R", {"num_layers": 3, "ffn": "plain"}, "also needs"),
        ("SM+LN+R", {"ffn_width": 2 * config.hidden_size}, "has another shape of"),
        ("SM+LN+G", {}, "activation is gelu, and relu"),
    ):
        with pytest.raises(ValueError, match=message):
            start_from(AeroForCausalLM(variant(config, notation, **fields)), tmp_path)
    with pytest.raises(FileNotFoundError, match="no model at"):
        start_from(model, tmp_path / "none")


def test_starting_from_a_model_with_rms_norms(config: AeroConfig, tmp_path: Path) -> None:
    source = AeroForCausalLM(variant(config, "SM+RMS+SiLU+GaFFN", **LLAMA))
    source.save_pretrained(tmp_path)
    model = AeroForCausalLM(variant(config, "SM+FRMS+SiLU+GaFFN", **LLAMA))
    start_from(model, tmp_path)
    ids = torch.arange(8)[None]
    torch.testing.assert_close(model.eval()(ids).logits, source.eval()(ids).logits)
    for notation, message in (
        ("SM+FLN+SiLU+GaFFN", "also needs transformer.blocks.0.norm_1.bias"),
        ("SM+RMS+SiLU", "has no place for transformer.blocks.0.ffn.w_gate.weight.*; aero adapt drops gates"),
    ):
        with pytest.raises(ValueError, match=message):
            start_from(AeroForCausalLM(variant(config, notation, **LLAMA)), tmp_path)


def test_another_notation_keeps_sizes_and_multipliers(tmp_path: Path) -> None:
    config = AeroConfig.from_notation("SM+LN+G", "pythia-70m", logit_multiplier=3.0, eos_token_id=7)
    config.save_pretrained(tmp_path)
    frozen = config_for(tmp_path, "SM+FLN+G")
    assert str(frozen.notation) == "SM+FLN+G"
    before, after = config.to_dict(), frozen.to_dict()
    assert {key for key in before if before[key] != after[key]} == {"norm"}
    with pytest.raises(FileNotFoundError, match="no model at"):
        config_for(tmp_path / "none", "SM+R")


@pytest.mark.parametrize("notation", ["SM+LR", "SM+LN+LR(g)"])
def test_slopes_are_measured(notation: str, config: AeroConfig) -> None:
    model = AeroForCausalLM(variant(config, notation))
    slopes = [p for name, p in model.named_parameters() if name.endswith("negative_slope")]
    for index, slope in enumerate(slopes):
        slope.data.fill_(0.1 * index)
    found = measure(model, model, torch.arange(8)[None], step=3)
    expected = [0.0, 0.1] if len(slopes) == 2 else [0.0, 0.0]
    assert found.scales["slopes"] == pytest.approx(expected)
    assert found.scalars()["slopes/layer 1"] == pytest.approx(expected[1])
