"""Records of head entropies: measured, kept as JSON, drawn."""

import json
import math

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from aero.entropy.plots import draw_heat_maps
from aero.entropy.record import EntropyRecord
from aero.models import AeroConfig, AeroForCausalLM


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "context": 16, "hidden_size": 16, "num_layers": 3, "num_heads": 2}
    return AeroForCausalLM(AeroConfig(**sizes, initializer_range=0.5)).train()


def test_of_model_is_the_mean_over_texts(model):
    texts = list(np.random.default_rng(0).integers(50, size=(5, 16)))
    seen = []
    record = EntropyRecord.of_model(model, texts, "SM+LN+G", batch_size=2, on_progress=lambda *x: seen.append(x))
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert model.training, "left as it was"
    expected = np.zeros((3, 2))
    for text in texts:
        for layer, attention in enumerate(model.eval()(torch.tensor(text)[None], output_attentions=True).attentions):
            a = attention[0].detach().double().numpy()
            expected[layer] += -np.sum(a * np.log(np.where(a > 0, a, 1)), axis=-1).mean(-1) / len(texts)
    model.train()
    np.testing.assert_allclose(record.head_entropy, expected, rtol=1e-5)
    assert (record.name, record.context, record.blocks) == ("SM+LN+G", 16, 5)


def test_no_text_is_refused(model):
    with pytest.raises(ValueError, match="no text"):
        EntropyRecord.of_model(model, [], "SM")


def test_summary():
    record = EntropyRecord("x", 128, 1, ((0.1, 1.1), (2.5, 4.0)))
    assert record.shares == (0.25, 0.25, 0.25, 0.25)
    assert record.shares_of_log_context == (0.5, 0, 0.25, 0.25)
    assert record.layer_means == pytest.approx((0.6, 3.25))
    assert (record.maximum, record.mean) == (4.0, pytest.approx(1.925))
    assert record.log_context == pytest.approx(math.log(128))
    assert record.uniform == pytest.approx(np.mean(np.log(np.arange(1, 129))))


def test_json_round_trip():
    record = EntropyRecord("SM+R", 16, 2, ((0.1, 1.1), (2.5, 2.7)))
    assert EntropyRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
    with pytest.raises(ValueError, match="entropy record is not usable: it has no"):
        EntropyRecord.from_json({"name": "SM+R"})


@pytest.mark.parametrize("rows", [(), ((),), ((1.0,), (1.0, 2.0)), ((math.nan,),), ((math.inf,),)])
def test_bad_entropies_are_refused(rows):
    with pytest.raises(ValueError, match=r"L rows of H|diverged"):
        EntropyRecord("x", 16, 1, rows)


def test_heat_maps_share_one_colour_scale(tmp_path):
    """The same entropies give the same colours whatever stands beside them; others give others."""
    low, high = (EntropyRecord("x", 64, 1, ((value, value), (value, value))) for value in (0.2, 3.9))
    pictures = []
    for records in ([low, low], [low, high]):
        path = tmp_path / "maps.png"
        draw_heat_maps(records, path)
        pictures.append(imread(path))
    assert [p.name for p in tmp_path.iterdir()] == ["maps.png"]
    assert pictures[0].shape == pictures[1].shape
    half = pictures[0].shape[1] // 2
    colours = [set(map(tuple, (255 * p[:, half:, :3]).astype(int).reshape(-1, 3))) for p in pictures]
    left = [(255 * p[:, : half // 2, :3]).astype(int) for p in pictures]
    assert np.array_equal(left[0], left[1])
    assert colours[0] != colours[1]


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no entropies"):
        draw_heat_maps([], tmp_path / "maps.png")
    assert not list(tmp_path.iterdir())
