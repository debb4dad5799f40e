"""AERO's SM+LN+G against Hugging Face's GPT-2, on converted random weights."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from aero.models.convert_hf import convert, convert_config

SMALL = {
    "vocab_size": 61,
    "n_positions": 24,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "eos_token_id": 0,
    "bos_token_id": 0,
}


def pair(dtype, **fields):
    torch.manual_seed(0)
    # Large weights, so that attention is far from uniform; gains and biases away from one and zero.
    theirs = GPT2LMHeadModel(GPT2Config(**{**SMALL, "initializer_range": 0.3, **fields})).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "ln_" in name or name.endswith("bias"):
                parameter.add_(0.2 * torch.randn_like(parameter))
    return theirs, convert(theirs)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"activation_function": "relu", "n_inner": 50},
        {"activation_function": "gelu"},
        {"tie_word_embeddings": False},
    ],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_logits_equal_gpt2(dtype, tolerance, fields):
    theirs, ours = pair(dtype, **fields)
    ids = torch.randint(SMALL["vocab_size"], (3, 24))
    with torch.inference_mode():
        expected, found = theirs(ids).logits, ours(ids).logits
    assert found.dtype == dtype
    # Relative to the largest logit: rounding of sums of tens of terms through three layers.
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


def test_left_padding_is_not_seen():
    theirs, ours = pair(torch.float64)
    ids = torch.randint(SMALL["vocab_size"], (2, 10))
    mask = torch.ones(2, 10, dtype=torch.long)
    mask[1, :4] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.inference_mode():
        expected = theirs(ids, attention_mask=mask, position_ids=positions).logits
        found = ours(ids, attention_mask=mask, position_ids=positions).logits
        alone = ours(ids[1:, 4:]).logits
    torch.testing.assert_close(found[1, 4:], expected[1, 4:], rtol=0, atol=1e-11)
    torch.testing.assert_close(found[1, 4:], alone[0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_generation_equals_gpt2(use_cache):
    theirs, ours = pair(torch.float64)
    ids = torch.randint(1, SMALL["vocab_size"], (2, 6))
    settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(ids)}
    expected = theirs.generate(ids, use_cache=True, **settings)
    assert expected.unique().numel() > 8, "the text must vary, or this shows nothing"
    assert torch.equal(ours.generate(ids, use_cache=use_cache, **settings), expected)


def test_loss_equals_gpt2():
    theirs, ours = pair(torch.float64)
    ids = torch.randint(SMALL["vocab_size"], (3, 24))
    with torch.inference_mode():
        # Theirs raises logits to float32 for the loss.
        torch.testing.assert_close(ours(ids, labels=ids).loss.float(), theirs(ids, labels=ids).loss, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"activation_function": "mish"}, "activation 'mish'"),
        ({"scale_attn_by_inverse_layer_idx": True}, "attention"),
        ({"n_inner": 0}, "n_inner is 0"),
    ],
)
def test_what_cannot_be_expressed_is_refused(fields, word):
    with pytest.raises(ValueError, match=word):
        convert_config(GPT2Config(**SMALL, **fields))
