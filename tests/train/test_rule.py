"""The rule by which models of any size are scaled: rates of a small width hold at a large one, depth is borne."""

from __future__ import annotations

import email
import json
from pathlib import Path

import pytest

from aero.data.build import build
from aero.data.folder import DataFolder
from aero.data.settings import DataSettings
from aero.models import AeroConfig
from aero.models.presets import Size
from aero.train.jsonl import read_rows
from aero.train.run import train
from aero.train.run_folder import METRICS_FILE
from aero.train.settings import TrainSettings

RATES = (5e-4, 2e-3, 8e-3)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    """Packages of the standard library, about a quarter of a million tokens."""
    sources = tuple(str(Path(package.__file__).parent) for package in (json, email))
    settings = DataSettings(sources=sources, vocab_size=512, valid_fraction=0.2)
    return build(tmp_path_factory.mktemp("rule") / "data", settings)


def by_the_rule(out: Path, text: DataFolder, notation: str, width: int, layers: int, rate: float, steps: int) -> float:
    """Perplexity after a few steps."""
    config = AeroConfig.from_notation(notation, Size(text.info.vocab_size, 64, layers, width // 32, width))
    settings = TrainSettings(
        steps=steps,
        batch_size=16,
        learning_rate=rate,
        precision="float32",
        log_every=1,
        measure_every=0,
        save_every=steps,
    )
    result = train(out, text, config, settings.by_rule()).result
    assert result is not None
    return float(result["perplexity"])


@pytest.mark.slow
@pytest.mark.parametrize("notation", ["SM+LN+G", "SM+ScFuFFN"])
def test_the_best_rate_stays_the_best_from_width_64_to_256(notation: str, text: DataFolder, tmp_path: Path) -> None:
    """Or is within 3 % of it, which is what another seed changes."""
    found = {
        width: [by_the_rule(tmp_path / f"{width}-{rate}", text, notation, width, 2, rate, 100) for rate in RATES]
        for width in (64, 256)
    }
    best = found[64].index(min(found[64]))
    assert found[256][best] <= 1.03 * min(found[256]), found


@pytest.mark.parametrize("notation", ["SM+R", "SM", "SM+ScFuFFN"])
def test_deep_networks_without_norms_train_at_the_default_rate(notation: str, text: DataFolder, tmp_path: Path) -> None:
    """24 layers, whose loss falls steadily below that of guessing by frequency alone."""
    perplexity = by_the_rule(tmp_path / "run", text, notation, 32, 24, TrainSettings().learning_rate, 20)
    losses = [row["loss"] for row in read_rows(tmp_path / "run" / METRICS_FILE)]
    assert perplexity < 250 < text.info.vocab_size
    assert max(losses[1:]) <= 1.1 * losses[0]
