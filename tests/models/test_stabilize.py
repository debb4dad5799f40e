"""Normalised weights: what they are, where they are, and that nothing is left of them."""

import pytest
import torch

from aero.models import AeroForCausalLM
from aero.models.stabilize import remove_stabilizer, stabilize
from small_models import assert_same_function, logits_in_any_order, make_model

PLACES = {
    "QK": {"q_proj", "k_proj"},
    "FFN": {"w_in", "w_out"},
    "QK+FFN": {"q_proj", "k_proj", "w_in", "w_out"},
    "QKV+FFN": {"q_proj", "k_proj", "v_proj", "w_in", "w_out"},
    "QKVO+FFN": {"q_proj", "k_proj", "v_proj", "o_proj", "w_in", "w_out"},
}


def normalised(model):
    return {name for name, module in model.named_modules() if hasattr(module, "parametrizations")}


@pytest.mark.parametrize("placement", PLACES)
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
def test_placements(kind, placement):
    model = make_model("SM+ScFFN")
    stabilize(model, kind, placement)
    assert {name.rpartition(".")[2] for name in normalised(model)} == PLACES[placement]
    assert len(normalised(model)) == 2 * len(PLACES[placement])


def test_fused_ffns_and_none():
    model = make_model("SM+ScFuFFN_i1")
    stabilize(model, "none", "FFN")
    assert not normalised(model)
    stabilize(model, "weight_norm", "FFN")
    assert normalised(model) == {"transformer.blocks.0.ffn.w"}
    with pytest.raises(ValueError, match="no linear layers at FFN"):
        stabilize(make_model("SM+ScFuFFN_i2"), "weight_norm", "FFN")


def test_what_the_weights_are():
    model = make_model("SM")
    original = model.transformer.blocks[0].ffn.w_in.weight.detach().clone()
    stabilize(model, "weight_norm", "FFN")
    w_in = model.transformer.blocks[0].ffn.w_in
    torch.testing.assert_close(w_in.weight, original)
    with torch.no_grad():
        w_in.parametrizations.weight.original0.mul_(2)  # the lengths of rows
    torch.testing.assert_close(w_in.weight, 2 * original)

    model = make_model("SM")
    stabilize(model, "spectral_norm", "FFN")
    w_in = model.transformer.blocks[0].ffn.w_in.train()
    for _ in range(100):
        w_in.weight  # each look goes on with the power iteration  # noqa: B018
    torch.testing.assert_close(w_in.weight, original / torch.linalg.matrix_norm(original, 2), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
def test_trained_and_removed_exactly(kind, tmp_path):
    model = make_model("SM+ScFFN").double().train()
    stabilize(model, kind, "QKVO+FFN")
    ids = torch.randint(50, (4, 12), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    expected, bound = logits_in_any_order(model.eval(), ids)
    model.train()
    remove_stabilizer(model)
    assert not normalised(model)
    assert (model(ids).logits - expected).abs().max() <= bound
    model.save_pretrained(tmp_path)
    again = AeroForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    assert set(again.state_dict()) == set(make_model("SM+ScFFN").state_dict())
    assert_same_function(again, model, ids)
