"""Many runs: trained in order, kept where they are there, and never taken for others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from aero.data.build import build
from aero.data.folder import DataFolder
from aero.data.settings import DataSettings
from aero.models import AeroConfig
from aero.train.callbacks import TrainingProgress
from aero.train.many import Wanted, one_after_another
from aero.train.settings import TrainSettings


def test_runs_are_trained_in_order_and_kept(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    wanted = [Wanted(str(s), tmp_path / str(s), config, dataclasses.replace(settings, seed=s)) for s in (1, 0)]
    seen: list[tuple[str, int]] = []

    def show(name: str, now: TrainingProgress) -> None:
        seen.append((name, now.step))

    found = one_after_another(wanted, data, show)
    assert seen == [(name, step) for name in ("1", "0") for step in range(1, settings.steps + 1)]
    assert [info.settings for info in found] == [run.settings for run in wanted]
    assert all(info.status == "finished" for info in found)
    seen.clear()
    assert one_after_another(wanted, data, show) == found and not seen


def test_a_run_of_another_model_or_on_other_data_is_not_taken_for_the_wanted_one(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    settings = dataclasses.replace(settings, steps=1)
    run = Wanted("run", tmp_path / "run", config, settings)
    one_after_another([run], data)
    other = AeroConfig.from_dict({**config.to_dict(), "num_heads": 1, "num_key_heads": 1})
    with pytest.raises(ValueError, match="was trained as another model; choose another folder, or delete it"):
        one_after_another([dataclasses.replace(run, config=other)], data)
    with pytest.raises(ValueError, match="was trained with other settings"):
        one_after_another([dataclasses.replace(run, settings=dataclasses.replace(settings, seed=5))], data)
    text = tmp_path / "text.py"
    text.write_text("".join(f"def g{i}(x):\n    return x - {i}\n" for i in range(300)))
    strange = build(tmp_path / "data", DataSettings(sources=(str(text),), vocab_size=300, valid_fraction=0.2))
    with pytest.raises(ValueError, match="was trained on other data"):
        one_after_another([run], strange)
