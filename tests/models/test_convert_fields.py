"""Every field of transformers' configurations: kept, refused by name, or without a part in what a model computes."""

from __future__ import annotations

import inspect
import re

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from aero.models.convert_hf import convert, convert_config

GPT2 = dict(vocab_size=40, n_positions=12, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3)
NEOX = dict(
    vocab_size=40, max_position_embeddings=12, hidden_size=16, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=2, initializer_range=0.3,
)  # fmt: skip

# A value that is not the usual one, and what a refusal says; None: the converted model computes the same.
GPT2_FIELDS: dict[str, list[tuple[object, str | None]]] = {
    "vocab_size": [(39, None)],
    "n_positions": [(15, None)],
    "n_embd": [(24, None)],
    "n_layer": [(3, None)],
    "n_head": [(4, None)],
    "n_inner": [(32, None), (40, None), (0, "n_inner is 0")],
    "activation_function": [
        ("relu", None), ("gelu", None), ("gelu_pytorch_tanh", None), ("silu", None), ("swish", None),
        ("gelu_fast", "'gelu_fast'"), ("quick_gelu", "'quick_gelu'"), ("tanh", "activation 'tanh'"),
    ],
    "layer_norm_epsilon": [(0.3, None)],
    "initializer_range": [(0.5, None)],
    "scale_attn_weights": [(False, "attention")],
    "scale_attn_by_inverse_layer_idx": [(True, "attention")],
    "reorder_and_upcast_attn": [(True, None)],
    "add_cross_attention": [(True, "cross-attention")],
    "tie_word_embeddings": [(False, None)],
    "bos_token_id": [(3, None)],
    "eos_token_id": [(3, None), ([3, 4], None)],
    "pad_token_id": [(3, None)],
    # Of training, of other heads, and of how the same is computed.
    "resid_pdrop": [(0.5, None)],
    "embd_pdrop": [(0.5, None)],
    "attn_pdrop": [(0.5, None)],
    "use_cache": [(False, None)],
    "summary_type": [("last", None)],
    "summary_use_proj": [(False, None)],
    "summary_activation": [("tanh", None)],
    "summary_proj_to_labels": [(False, None)],
    "summary_first_dropout": [(0.5, None)],
}  # fmt: skip
NEOX_FIELDS: dict[str, list[tuple[object, str | None]]] = {
    "vocab_size": [(39, None)],
    "max_position_embeddings": [(15, None)],
    "hidden_size": [(32, None)],
    "num_hidden_layers": [(3, None)],
    "num_attention_heads": [(1, None)],
    "intermediate_size": [(32, None), (40, None)],
    "hidden_act": [("relu", None), ("gelu_new", None), ("silu", None), ("gelu_10", "'gelu_10'")],
    "layer_norm_eps": [(0.3, None)],
    "initializer_range": [(0.5, None)],
    "use_parallel_residual": [(False, None)],
    "attention_bias": [(False, None)],
    "rope_parameters": [
        ({"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}, None),
        ({"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 1.0}, None),
        ({"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}, "type 'linear'"),
        ({"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}, "type 'dynamic'"),
        ({"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}, "type 'yarn'"),
        # In pairs alone: a quarter of 12 features.
        ({"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.4}, "turns 3 of them"),
    ],
    "tie_word_embeddings": [(True, None)],
    "bos_token_id": [(3, None)],
    "eos_token_id": [(3, None), ([3, 4], None)],
    "pad_token_id": [(3, None)],
    "is_decoder": [(True, None)],
    "attention_dropout": [(0.5, None)],
    "hidden_dropout": [(0.5, None)],
    "classifier_dropout": [(0.5, None)],
    "use_cache": [(False, None)],
}
OPT = dict(
    vocab_size=40, max_position_embeddings=12, hidden_size=16, word_embed_proj_dim=16, ffn_dim=64, num_hidden_layers=2,
    num_attention_heads=2, init_std=0.3,
)  # fmt: skip
OPT_FIELDS: dict[str, list[tuple[object, str | None]]] = {
    "vocab_size": [(39, None)],
    "max_position_embeddings": [(15, None)],
    "hidden_size": [(32, "opt-350m")],
    "word_embed_proj_dim": [(8, "opt-350m")],
    "num_hidden_layers": [(3, None)],
    "num_attention_heads": [(1, None), (4, None)],
    "ffn_dim": [(32, None), (40, None)],
    "activation_function": [("gelu", None), ("gelu_new", None), ("silu", None), ("mish", "activation 'mish'")],
    "do_layer_norm_before": [(False, "opt-350m")],
    "_remove_final_layer_norm": [(True, "_remove_final_layer_norm")],
    "enable_bias": [(False, None)],
    "layer_norm_elementwise_affine": [(False, None)],
    "init_std": [(0.5, None)],
    "tie_word_embeddings": [(False, None)],
    "bos_token_id": [(3, None)],
    "eos_token_id": [(3, None), ([3, 4], None)],
    "pad_token_id": [(3, None)],
    "dropout": [(0.5, None)],
    "attention_dropout": [(0.5, None)],
    "layerdrop": [(0.5, None)],
    "use_cache": [(False, None)],
}
LLAMA = dict(
    vocab_size=40, max_position_embeddings=12, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
    num_attention_heads=6, num_key_value_heads=2, initializer_range=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
# What Mistral and Qwen have like it.
LLAMA_FIELDS: dict[str, list[tuple[object, str | None]]] = {
    "vocab_size": [(39, None)],
    "hidden_size": [(36, None)],
    "intermediate_size": [(50, None)],
    "num_hidden_layers": [(3, None)],
    "num_attention_heads": [(2, None), (4, None)],
    "num_key_value_heads": [(1, None), (3, None), (6, None)],
    "hidden_act": [("relu", None), ("gelu_pytorch_tanh", None), ("mish", "activation 'mish'")],
    "max_position_embeddings": [(15, None)],
    "initializer_range": [(0.5, None)],
    "rms_norm_eps": [(0.3, None)],
    "tie_word_embeddings": [(True, None)],
    "rope_parameters": [
        ({"rope_type": "default", "rope_theta": 100.0}, None),
        ({"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}, None),
        (
            {
                "rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 8,
            },
            None,
        ),
        ({"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}, "type 'dynamic'"),
        ({"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}, "type 'yarn'"),
        ({"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ],
    "pad_token_id": [(3, None)],
    "bos_token_id": [(3, None)],
    "eos_token_id": [(3, None), ([3, 4], None)],
    "attention_dropout": [(0.5, None)],
    "use_cache": [(False, None)],
}  # fmt: skip
OF_LLAMA: dict[str, list[tuple[object, str | None]]] = {
    "head_dim": [(6, None)],
    "attention_bias": [(True, None)],
    "mlp_bias": [(True, None)],
    "pretraining_tp": [(2, None)],  # of how the same is computed
}
OF_MISTRAL: dict[str, list[tuple[object, str | None]]] = {
    "head_dim": [(6, None)],
    "sliding_window": [(None, None), (5, None)],
}
OF_QWEN: dict[str, list[tuple[object, str | None]]] = {
    "use_sliding_window": [(True, None)],
    "sliding_window": [(5, None)],  # not used unless the field above says so
    "max_window_layers": [(1, None)],
    "layer_types": [(["full_attention", "full_attention"], None)],
}
OF_QWEN3 = OF_QWEN | {"head_dim": [(6, None)], "attention_bias": [(True, None)]}
# Older names, which transformers still reads.
LEGACY: dict[str, list[tuple[object, str | None]]] = {
    "rotary_pct": [(0.5, None)],
    "rotary_emb_base": [(100.0, None)],
    "rope_scaling": [({"type": "linear", "factor": 2.0}, "type 'linear'")],
}


def cases(fields):
    return [(name, value, refusal) for name, values in fields.items() for value, refusal in values]


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        (GPT2Config, GPT2_FIELDS),
        (GPTNeoXConfig, NEOX_FIELDS),
        (OPTConfig, OPT_FIELDS),
        (LlamaConfig, LLAMA_FIELDS | OF_LLAMA),
        (MistralConfig, LLAMA_FIELDS | OF_MISTRAL),
        (Qwen2Config, LLAMA_FIELDS | OF_QWEN),
        (Qwen3Config, LLAMA_FIELDS | OF_QWEN3),
    ],
)
def test_the_lists_are_whole(config, fields):
    """A release of transformers with another field is to be looked at before its models are converted."""
    own = {name for name, p in inspect.signature(config.__init__).parameters.items() if p.kind is not p.VAR_KEYWORD}
    general = {"self", *inspect.signature(config.__mro__[1].__init__).parameters}
    assert own - general <= set(fields), sorted(own - general - set(fields))


def check(model_class, config, refusal):
    torch.manual_seed(0)
    if refusal is not None:
        with pytest.raises(ValueError, match=re.escape(refusal)):
            convert_config(config)
        return
    theirs = model_class(config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if name.endswith("bias") or "norm" in name or "ln_" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    ours = convert(theirs)
    ids = torch.randint(config.vocab_size, (2, ours.config.context))
    with torch.inference_mode():
        expected, found = theirs(ids).logits, ours(ids).logits
    # float32 roundings of sums of tens of terms through a few layers, relative to the largest logit.
    assert (found - expected).abs().max() <= 2e-5 * expected.abs().max()
    assert ours.config.eos_token_id == config.eos_token_id


@pytest.mark.parametrize(("field", "value", "refusal"), cases(GPT2_FIELDS))
def test_gpt2(field, value, refusal):
    check(GPT2LMHeadModel, GPT2Config(**{**GPT2, field: value}), refusal)


@pytest.mark.parametrize(("field", "value", "refusal"), cases(NEOX_FIELDS | LEGACY))
def test_gpt_neox(field, value, refusal):
    check(GPTNeoXForCausalLM, GPTNeoXConfig(**{**NEOX, field: value}), refusal)


@pytest.mark.parametrize(("field", "value", "refusal"), cases(OPT_FIELDS))
def test_opt(field, value, refusal):
    check(OPTForCausalLM, OPTConfig(**{**OPT, field: value}), refusal)


@pytest.mark.parametrize(("field", "value", "refusal"), cases(LLAMA_FIELDS | OF_LLAMA))
def test_llama(field, value, refusal):
    check(LlamaForCausalLM, LlamaConfig(**{**LLAMA, field: value}), refusal)


@pytest.mark.parametrize(("field", "value", "refusal"), cases(LLAMA_FIELDS | OF_MISTRAL))
def test_mistral(field, value, refusal):
    check(MistralForCausalLM, MistralConfig(**{**LLAMA, field: value}), refusal)


@pytest.mark.parametrize(("field", "value", "refusal"), cases(LLAMA_FIELDS | OF_QWEN))
def test_qwen2(field, value, refusal):
    check(Qwen2ForCausalLM, Qwen2Config(**{**LLAMA, field: value}), refusal)


@pytest.mark.parametrize(("field", "value", "refusal"), cases(LLAMA_FIELDS | OF_QWEN3))
def test_qwen3(field, value, refusal):
    check(Qwen3ForCausalLM, Qwen3Config(**{"head_dim": 4, **LLAMA, field: value}), refusal)
