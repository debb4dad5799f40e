"""Recipes: the published settings, every run of them a model of the published size; dry runs at full size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from aero.cli.recipe import recipe as verb
from aero.data.build import build
from aero.data.folder import DataFolder
from aero.data.settings import DataSettings
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.stabilize import stabilize
from aero.train.recipes import EXPERIMENTS, experiment
from aero.train.run import ensure
from aero.train.run_folder import RunInfo

ALL = [(name, variant) for name, found in EXPERIMENTS.items() for variant in found.variants]


@pytest.mark.parametrize("flavour", ["papers", "recommended"])
@pytest.mark.parametrize(("name", "variant"), ALL)
def test_every_run_makes_a_model_of_the_published_size(name: str, variant: str, flavour: str) -> None:
    found = experiment(name).recipe(variant, flavour)  # type: ignore[arg-type]
    config = found.config(50_000)
    layers = 18 if "18" in name else 6 if "pythia" in name else 12
    context = next((int(c) for c in ("128", "256") if name.endswith(c)), 512 if "languini" in name else 128)
    assert (config.num_layers, config.context) == (layers, context)
    assert (config.hidden_size, config.num_heads) == ((512, 8) if "pythia" in name else (768, 12))
    assert str(config.notation) == found.notation


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_models_of_the_published_size_can_be_made(name: str) -> None:
    found = experiment(name).recipe(experiment(name).variants[-2])
    with torch.device("meta"):
        model = AeroForCausalLM(found.config(50_000))
        stabilize(model, found.settings.stabilizer, found.settings.stabilizer_placement)
    assert model.num_parameters() > 40e6


def test_the_papers_settings_are_the_papers() -> None:
    settings = experiment("codeparrot-128").recipe("EReg(SM(t)+ScFuFFN)").settings
    assert settings.batch_size * settings.gradient_accumulation == 512
    assert settings.steps * 512 * 128 == pytest.approx(2.1e9, rel=0.02)
    assert (settings.learning_rate, settings.weight_decay, settings.adam_eps) == (1e-3, 0.1, 1e-8)
    assert (settings.warmup_fraction, settings.max_grad_norm, settings.precision) == (0.05, 1.0, "fp16")
    assert (settings.entropy_weight, settings.entropy_margin) == (1e-5, 0.2)
    languini = experiment("languini-4.8B").recipe("EReg(SM(t)+ScFuFFN_i1)")
    assert languini.settings.entropy_weight == 5e-5
    assert languini.settings.steps * 512 * 512 == pytest.approx(4.8e9, rel=1e-3)
    assert languini.config(16_384).temperature_init == "languini"
    with pytest.raises(ValueError, match=r"no variant 'XY'; it has SM\+LN\+G"):
        experiment("codeparrot-128").recipe("XY")
    with pytest.raises(ValueError, match="there are codeparrot-128"):
        experiment("tables")


def test_the_recommended_settings_differ_where_we_say() -> None:
    papers, ours = (experiment("codeparrot-128").recipe("EReg(SM(t)+ScFuFFN)", f) for f in ("papers", "recommended"))  # type: ignore[arg-type]
    a, b = papers.config(50_000), ours.config(50_000)
    assert (a.temperature_init, b.temperature_init) == ("codeparrot", "one")
    assert (a.embedding_multiplier, a.logit_multiplier) == (1, 1)
    assert (b.embedding_multiplier, b.logit_multiplier) == (64, 512 / 768)
    assert (papers.settings.base_width, papers.settings.base_depth, papers.settings.learning_rate) == (None, None, 1e-3)
    assert (ours.settings.base_width, ours.settings.base_depth, ours.settings.learning_rate) == (64, 2, 2e-3)
    assert (papers.settings.entropy_reduction, ours.settings.entropy_reduction) == ("sum", "mean")
    assert (papers.settings.zatt, ours.settings.zatt) == (0, 0.01)
    assert papers.settings.steps == ours.settings.steps


@pytest.fixture(scope="module")
def long_texts(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "t.py").write_text("".join(f"def f{i}(x):\n    return x + {i}\n" for i in range(2000)))
    return build(folder / "data", DataSettings(sources=(str(folder / "t.py"),), vocab_size=300, valid_fraction=0.3))


def test_the_command_lists_trains_and_goes_on(
    long_texts: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer()
    app.command()(verb)
    listed = CliRunner().invoke(app, [])
    assert listed.exit_code == 0 and "stabilisers" in listed.output
    missing = CliRunner().invoke(app, ["languini-1.2B"])
    assert "aero data DIR --source languini-books --vocab 16384" in str(missing.exception)

    small = {"num_layers": 2, "num_heads": 2, "hidden_size": 16}
    full = AeroConfig.from_notation
    monkeypatch.setattr(AeroConfig, "from_notation", lambda n, s, **o: full(n, s, **{**o, **small}))
    options = ["leaky-relu", "--data", str(long_texts.path), "--out", str(tmp_path), "--steps", "2"]
    options += ["--batch-size", "2", "--accumulate", "1", "--precision", "float32", "--valid-blocks", "2"]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    runs = sorted((tmp_path / "leaky-relu").iterdir())
    assert [run.name for run in runs] == ["SM+LN+LR", "SM+LN+LR(g)", "SM+LR", "SM+LR(g)"]
    stamps = [(run / "model.safetensors").stat().st_mtime_ns for run in runs]
    assert CliRunner().invoke(app, options).exit_code == 0
    assert [(run / "model.safetensors").stat().st_mtime_ns for run in runs] == stamps
    assert "other settings" in str(CliRunner().invoke(app, [*options, "--seed", "3"]).exception)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("codeparrot-128", "EReg(SM(t)+ScFuFFN_i6)"),
        ("codeparrot-256", "SAS(SM+ScFuFFN)"),
        ("codeparrot-18-layers", "SM+LN+G"),
        ("languini-1.2B", "SM+ScFFN"),
        ("pythia-128", "SM+LN+R"),
        ("stabilisers", "spectral_norm/QK+FFN"),
        ("leaky-relu", "SM+LR(g)"),
    ],
)
def test_a_dry_run_at_full_size(name: str, variant: str, long_texts: DataFolder, tmp_path: Path) -> None:
    found = experiment(name).recipe(variant)
    settings = replace(
        found.settings, steps=1, batch_size=1, gradient_accumulation=1, precision="float32", valid_blocks=1
    )
    info = ensure(tmp_path / "run", long_texts, found.config(long_texts.info.vocab_size), settings)
    assert isinstance(info, RunInfo) and info.status == "finished"
    assert info.notation == found.notation
