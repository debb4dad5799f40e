"""A tiny data folder and a tiny model, trained in well under a second."""

from __future__ import annotations

import pytest

from aero.data.build import build
from aero.data.folder import DataFolder
from aero.data.settings import DataSettings
from aero.models import AeroConfig
from aero.models.presets import Size
from aero.train.settings import TrainSettings


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    folder = tmp_path_factory.mktemp("corpus")
    texts = folder / "texts"
    texts.mkdir()
    for i in range(30):
        (texts / f"{i}.py").write_text("".join(f"def f{i}_{j}(x):\n    return x + {j}\n" for j in range(20)))
    return build(folder / "data", DataSettings(sources=(str(texts),), vocab_size=300, valid_fraction=0.1))


@pytest.fixture
def config(data: DataFolder) -> AeroConfig:
    size = Size(data.info.vocab_size, context=16, num_layers=2, num_heads=2, hidden_size=16)
    return AeroConfig.from_notation("SM+ScFuFFN", size)


@pytest.fixture
def settings() -> TrainSettings:
    return TrainSettings(steps=12, batch_size=4, log_every=3, save_every=5, precision="float32", valid_blocks=None)
