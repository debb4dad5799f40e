"""`aero entropy` on a run folder."""

import json

import pytest
import torch
from typer.testing import CliRunner

from aero.cli.main import app
from aero.data.build import build
from aero.data.settings import DataSettings
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.presets import Size
from aero.train.run import train
from aero.train.settings import TrainSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("entropy")
    (folder / "texts").mkdir()
    for i in range(12):
        (folder / "texts" / f"{i}.py").write_text("".join(f"def f{i}_{j}(x):\n    return x + {j}\n" for j in range(20)))
    data = build(folder / "data", DataSettings(sources=(str(folder / "texts"),), vocab_size=300, valid_fraction=0.2))
    size = Size(300, context=16, num_layers=2, num_heads=2, hidden_size=16)
    for name in ("SM+LN+G", "SM+ScFuFFN"):
        settings = TrainSettings(steps=2, batch_size=2, precision="float32", valid_blocks=2)
        train(folder / name, data, AeroConfig.from_notation(name, size), settings)
    return folder


def test_table_picture_and_records(folder, tmp_path):
    runs = [str(folder / name) for name in ("SM+LN+G", "SM+ScFuFFN")]
    picture, result = tmp_path / "entropy.png", tmp_path / "entropy.json"
    done = CliRunner().invoke(app, ["entropy", *runs, "--blocks", "3", "--out", str(picture), "--json", str(result)])
    assert done.exit_code == 0, done.output
    assert "SM+LN+G" in done.output
    assert "SM+ScFuFFN" in done.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    records = json.loads(result.read_text())
    assert [record["notation"] for record in records] == ["SM+LN+G", "SM+ScFuFFN"]
    for run, record in zip(runs, records, strict=True):
        assert (record["work"], record["context"], record["blocks"]) == ("entropy", 16, 3)
        model = AeroForCausalLM.from_pretrained(run)
        from aero.data.folder import DataFolder

        shard = DataFolder(folder / "data").valid
        ids = torch.stack([torch.from_numpy(shard.block(i, 16)) for i in range(3)])
        with torch.inference_mode():
            entropies = model(ids, output_entropies=True).entropies
        expected = torch.stack(entropies).mean(dim=(1, 3))
        torch.testing.assert_close(torch.tensor(record["head_entropy"]), expected, rtol=1e-4, atol=1e-5)


def test_a_missing_run_is_an_error(folder, tmp_path):
    result = tmp_path / "entropy.json"
    done = CliRunner().invoke(app, ["entropy", str(tmp_path / "none"), "--json", str(result)])
    assert isinstance(done.exception, FileNotFoundError)
    assert "no run at" in str(done.exception)
    assert not result.exists()


def test_data_of_another_tokenizer_is_refused(folder, tmp_path):
    build(tmp_path / "other", DataSettings(sources=(str(folder / "texts"),), vocab_size=280, valid_fraction=0.2))
    done = CliRunner().invoke(app, ["entropy", str(folder / "SM+LN+G"), "--data", str(tmp_path / "other")])
    assert isinstance(done.exception, ValueError)
    assert "another tokenizer" in str(done.exception)
