"""AERO's decoder with rotary positions and a parallel residual against Hugging Face's GPT-NeoX, on random weights."""

import types

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from aero.models import AeroConfig, AeroForCausalLM
from aero.models.convert_hf import convert, convert_config

SMALL = {
    "vocab_size": 61,
    "max_position_embeddings": 24,
    "hidden_size": 32,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def exact_angles(self, x, position_ids):
    """GPTNeoXRotaryEmbedding.forward without its float32: what it rounds to."""
    rotary = self.config.rope_parameters
    width = int(self.config.hidden_size // self.config.num_attention_heads * rotary["partial_rotary_factor"])
    frequencies = 1.0 / (rotary["rope_theta"] ** (torch.arange(0, width, 2, dtype=torch.float64) / width))
    angles = torch.cat([position_ids[..., None].double() * frequencies] * 2, dim=-1)
    return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


def pair(dtype, *, exact=True, **fields):
    torch.manual_seed(0)
    # Large weights, so that attention is far from uniform; gains and biases away from one and zero.
    config = GPTNeoXConfig(**{**SMALL, "initializer_range": 0.3, **fields}, attn_implementation="eager")
    theirs = GPTNeoXForCausalLM(config).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(0.2 * torch.randn_like(parameter))
    if exact:
        theirs.gpt_neox.rotary_emb.forward = types.MethodType(exact_angles, theirs.gpt_neox.rotary_emb)
    return theirs, convert(theirs)


VARIANTS = [
    {},
    {"use_parallel_residual": False},
    {"rotary_pct": 1.0, "rotary_emb_base": 100.0},
    {"hidden_act": "gelu_new", "intermediate_size": 64, "attention_bias": False},
    {"tie_word_embeddings": True},
]


@pytest.mark.parametrize("fields", VARIANTS)
def test_logits_equal_gpt_neox(fields):
    """Their eager attention takes its softmax in float32, whatever the model's type, so float64 uses the other one."""
    ids = torch.randint(SMALL["vocab_size"], (3, 24), generator=torch.Generator().manual_seed(1))
    for dtype, exact, tolerance in ((torch.float64, True, 1e-10), (torch.float32, False, 2e-5)):
        theirs, ours = pair(dtype, exact=exact, **fields)
        theirs.set_attn_implementation("sdpa")
        with torch.inference_mode():
            expected, found = theirs(ids).logits, ours(ids).logits
        assert found.dtype == dtype
        assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("parallel", [True, False])
def test_greedy_generation_equals_gpt_neox(use_cache, parallel):
    theirs, ours = pair(torch.float64, use_parallel_residual=parallel)
    ids = torch.randint(1, SMALL["vocab_size"], (2, 6), generator=torch.Generator().manual_seed(2))
    settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(ids)}
    expected = theirs.generate(ids, use_cache=True, **settings)
    assert expected.unique().numel() > 8, "the text must vary, or this shows nothing"
    assert torch.equal(ours.generate(ids, use_cache=use_cache, **settings), expected)


def test_left_padding_is_not_seen():
    _, ours = pair(torch.float64)
    ids = torch.randint(SMALL["vocab_size"], (2, 10))
    mask = torch.ones(2, 10, dtype=torch.long)
    mask[1, :4] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.inference_mode():
        found = ours(ids, attention_mask=mask, position_ids=positions).logits
        alone = ours(ids[1:, 4:]).logits
        # Only distances count: another first position changes nothing.
        shifted = ours(ids[1:, 4:], position_ids=torch.arange(5, 11)[None]).logits
    torch.testing.assert_close(found[1, 4:], alone[0], rtol=0, atol=1e-11)
    torch.testing.assert_close(shifted, alone, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"hidden_act": "mish"}, "activation 'mish'"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "type 'linear'"),
    ],
)
def test_what_cannot_be_expressed_is_refused(fields, word):
    with pytest.raises(ValueError, match=word):
        convert_config(GPTNeoXConfig(**{**SMALL, **fields}))


@pytest.mark.parametrize("size", ["pythia-70m", "pythia-160m", "pythia-410m"])
def test_presets_are_the_published_sizes(size):
    """Parameters of Biderman et al. 2023, table 1: in all, and without both embeddings."""
    config = AeroConfig.from_notation("SM+LN+G", size)
    with torch.device("meta"):
        model = AeroForCausalLM(config)
    total = sum(p.numel() for p in model.parameters())
    published = {
        "pythia-70m": (70_426_624, 18_915_328),
        "pythia-160m": (162_322_944, 85_056_000),
        "pythia-410m": (405_334_016, 302_311_424),
    }[size]
    assert (total, total - 2 * config.vocab_size * config.hidden_size) == published
    assert str(config.notation) == "SM+LN+G"
    assert (config.positions, config.rotary_width, config.parallel_residual) == ("rotary", 16, True)


def test_saving_and_loading(tmp_path):
    _, ours = pair(torch.float64)
    ours.save_pretrained(tmp_path)
    again = AeroForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    assert again.lm_head.weight is not again.transformer.token_embedding.weight
    assert set(again.state_dict()) == set(ours.state_dict())
    for key, value in ours.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
