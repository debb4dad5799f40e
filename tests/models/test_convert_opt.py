"""AERO's decoder with ReLU against Hugging Face's OPT, on converted random weights."""

import pytest
import torch
from transformers import OPTConfig, OPTForCausalLM

from aero.models import AeroConfig, AeroForCausalLM
from aero.models.convert_hf import convert, convert_config

SMALL = {
    "vocab_size": 61,
    "max_position_embeddings": 24,
    "hidden_size": 36,
    "word_embed_proj_dim": 36,
    "ffn_dim": 144,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
}


def pair(dtype, **fields):
    torch.manual_seed(0)
    # Large weights, so that attention is far from uniform; gains and biases away from one and zero.
    theirs = OPTForCausalLM(OPTConfig(**{**SMALL, "init_std": 0.3, **fields})).to(dtype).eval()
    theirs.set_attn_implementation("sdpa")  # the eager one takes its softmax in float32, whatever the model's type
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(0.2 * torch.randn_like(parameter))
    return theirs, convert(theirs)


VARIANTS = [
    {},
    {"activation_function": "gelu", "enable_bias": False, "layer_norm_elementwise_affine": False},
    {"tie_word_embeddings": False, "ffn_dim": 72, "num_attention_heads": 4},
]


@pytest.mark.parametrize("fields", VARIANTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_logits_equal_opt(dtype, tolerance, fields):
    theirs, ours = pair(dtype, **fields)
    ids = torch.randint(SMALL["vocab_size"], (3, 24), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = theirs(ids).logits, ours(ids).logits
    assert found.dtype == dtype
    # Relative to the largest logit: rounding of sums of tens of terms through three layers.
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


def test_a_first_token_a_thousand_times_the_others():
    """As trained models have it: some channels of the first position are far larger than all others."""
    theirs, ours = pair(torch.float64)
    with torch.no_grad():
        for table in (theirs.model.decoder.embed_positions.weight[2], ours.transformer.position_embedding.weight[0]):
            table[:2] += 300.0
    ids = torch.randint(SMALL["vocab_size"], (2, 24), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = theirs(ids).logits, ours(ids).logits
    assert (found - expected).abs().max() <= 1e-11 * expected.abs().max()


@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_generation_equals_opt(use_cache):
    theirs, ours = pair(torch.float64)
    ids = torch.randint(3, SMALL["vocab_size"], (2, 6), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[1, :2] = 0  # padding is not seen, and positions count from the first token
    settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 1, "attention_mask": mask}
    expected = theirs.generate(ids, use_cache=True, **settings)
    assert expected.unique().numel() > 8, "the text must vary, or this shows nothing"
    assert torch.equal(ours.generate(ids, use_cache=use_cache, **settings), expected)


def test_the_preset_is_the_published_size():
    """Parameters of opt-125m's checkpoint: its two rows of positions before the first are not read."""
    with torch.device("meta"):
        ours = AeroForCausalLM(AeroConfig.from_notation("SM+LN+R", "opt-125m", scale="gpt2"))
        theirs = OPTForCausalLM(OPTConfig())
    count = sum(p.numel() for p in ours.parameters())
    assert count == sum(p.numel() for p in theirs.parameters()) - 2 * 768 == 125_239_296 - 2 * 768
    published, config = convert_config(OPTConfig()), ours.config
    for field in AeroConfig.__annotations__:
        if field not in ("bos_token_id", "eos_token_id", "pad_token_id"):
            assert getattr(published, field) == getattr(config, field), field
