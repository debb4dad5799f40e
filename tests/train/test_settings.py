"""Settings of a run: checked, written, read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from aero.train.settings import TrainSettings, _cpu_has_bf16, choose_precision


def test_settings_survive_json() -> None:
    settings = TrainSettings(steps=7, betas=(0.8, 0.99), valid_blocks=None)
    assert TrainSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    with pytest.raises(ValueError, match="unknown field"):
        TrainSettings.from_json({"stepz": 7})


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"warmup_fraction": 1.5},
        {"betas": (0.9, 1.0)},
        {"weight_decay": -0.1},
        {"seed": -1},
        {"precision": "fp8"},
        {"valid_blocks": 0},
        {"entropy_reduction": "max"},
        {"zatt": -1.0},
        {"stabilizer": "batch_norm"},
        {"stabilizer_placement": "KQ"},
        {"freeze_order": "deepest"},
        {"freeze_start": 0.9},
        {"entropy_reference": "keys"},
        {"zatt_bound": float("inf")},
    ],
)
def test_bad_settings_are_refused_by_name(bad: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(bad)).removeprefix("entropy_")):
        TrainSettings(**bad)


def test_precision_follows_the_machine_only_when_asked(tmp_path: Path) -> None:
    assert choose_precision("bf16") == "bf16"
    assert choose_precision("float32") == "float32"
    cpuinfo = tmp_path / "cpuinfo"
    for flags, expected in {
        "flags\t\t: fpu avx2 avx512_bf16": True,
        "flags\t\t: fpu amx_bf16 amx_tile": True,
        "flags\t\t: fpu avx2 avx512f": False,
        "Features\t: fp asimd bf16": True,
    }.items():
        cpuinfo.write_text(f"processor: 0\n{flags}\n")
        assert _cpu_has_bf16(cpuinfo) is expected
    assert not _cpu_has_bf16(tmp_path / "absent")


@pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has a GPU")
def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(ValueError, match="fp16 needs a GPU; use precision bf16 or float32"):
        choose_precision("fp16")
