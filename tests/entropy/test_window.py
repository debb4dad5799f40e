"""The window of attention's log-sum-exp: the penalty written out in NumPy, the measure from a model's own attention."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from aero.entropy.window import AttentionWindow, WindowPenalty
from small_models import make_model


@pytest.mark.parametrize("bound", [0.0, 0.5, 2.0])
def test_penalty_is_the_formula(bound):
    rng = np.random.default_rng(0)
    logits = [3 * rng.standard_normal((2, 4, 6, 6)) for _ in range(3)]
    terms = []
    for layer in logits:
        for batch in layer:
            for head in batch:
                for query in range(1, 6):
                    row = logsumexp(head[query, : query + 1])
                    terms.append(max(abs(row) - bound, 0) ** 2)
    rows = []
    for layer in logits:
        z = torch.tensor(layer).masked_fill(torch.ones(6, 6, dtype=torch.bool).triu(1), -math.inf)
        rows.append(z.logsumexp(-1))
    found = WindowPenalty(0.7, bound)(rows)
    assert np.mean(terms) > 0
    assert found.item() == pytest.approx(0.7 * np.mean(terms), rel=1e-12)


def test_gradient():
    rows = [4 * torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))]
    assert torch.autograd.gradcheck(lambda x: WindowPenalty(0.7, 1.0)([x]), (rows[0].requires_grad_(),))
    loss = WindowPenalty(1.0, 1.0)([torch.full((1, 1, 4), 0.9, requires_grad=True)])
    assert loss.item() == 0
    assert WindowPenalty(1.0)([torch.zeros(1, 1, 1)]).item() == 0, "a text of one token has no row that counts"


@pytest.mark.parametrize(("fields", "word"), [((-1.0,), "zatt is -1"), ((0.1, math.inf), "zatt_bound is inf")])
def test_bad_settings_are_refused(fields, word):
    with pytest.raises(ValueError, match=word):
        WindowPenalty(*fields)


@pytest.mark.parametrize("name", ["SM+LN+G", "SM(t)+ScFuFFN"])
def test_window_of_a_model(name):
    """From the model's queries and keys, head by head."""
    model = make_model(name).double()
    texts = list(np.random.default_rng(0).integers(50, size=(5, 9)))
    captured = []
    hooks = [
        layer.register_forward_hook(lambda _, __, result: captured.append(result.detach().numpy()))
        for block in model.transformer.blocks
        for layer in (block.attention.q_proj, block.attention.k_proj)
    ]
    low, high, depth = np.full((2, 2), np.inf), np.full((2, 2), -np.inf), np.full((2, 2), -np.inf)
    for text in texts:
        captured.clear()
        with torch.inference_mode():
            model(torch.tensor(text)[None])
        for layer in range(2):
            t = model.transformer.blocks[layer].attention.temperature()
            for head in range(2):
                q, k = (x[0, :, 8 * head : 8 * head + 8] for x in captured[2 * layer : 2 * layer + 2])
                z = q @ k.T / math.sqrt(8)
                if t is not None:
                    z = z / t[head].detach().numpy()[:9, None]
                for query in range(1, 9):
                    row = z[query, : query + 1]
                    value = logsumexp(row)
                    low[layer, head] = min(low[layer, head], value)
                    high[layer, head] = max(high[layer, head], value)
                    depth[layer, head] = max(depth[layer, head], value - row.min())
    for hook in hooks:
        hook.remove()
    seen = []
    found = AttentionWindow.of_model(model, texts, batch_size=2, on_progress=lambda *x: seen.append(x))
    assert seen == [(2, 5), (4, 5), (5, 5)]
    for name_, expected in (("low", low), ("high", high), ("depth", depth)):
        np.testing.assert_allclose(getattr(found, name_), expected, rtol=1e-10, atol=1e-10)
    assert found.bound == pytest.approx(max(abs(low).max(), abs(high).max()))
    assert found.widest == pytest.approx((high - low).max())
    assert found.deepest == pytest.approx(depth.max())


def test_beyond():
    one = AttentionWindow(((-1.0, 0.0),), ((2.0, 1.0),), ((3.0, 3.0),))
    other = AttentionWindow(((-1.5, 0.5),), ((2.25, 0.75),), ((9.0, 1.0),))
    np.testing.assert_array_equal(one.beyond(other), [[0.5, 0.0]])
    np.testing.assert_array_equal(one.beyond(one), [[0.0, 0.0]])


def test_json_round_trip():
    window = AttentionWindow(((-1.0, 0.0),), ((2.0, 1.0),), ((3.0, 3.0),))
    assert AttentionWindow.from_json(json.loads(json.dumps(window.to_json()))) == window
    with pytest.raises(ValueError, match="not a window"):
        AttentionWindow.from_json({"low": [[1.0]]})
    with pytest.raises(ValueError, match="not finite"):
        AttentionWindow(((math.nan,),), ((1.0,),), ((1.0,),))
    with pytest.raises(ValueError, match="L rows of H"):
        AttentionWindow(((1.0,),), ((1.0, 2.0),), ((1.0,),))
    with pytest.raises(ValueError, match="no text"):
        AttentionWindow.of_model(make_model("SM"), [])
