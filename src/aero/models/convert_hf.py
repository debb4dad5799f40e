"""Hugging Face's GPT-2 and GPT-NeoX (Pythia) to AERO's decoder: the same function, as SM+LN+G (or SM+LN+R)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

from aero.models.configuration_aero import AeroConfig
from aero.models.modeling_aero import AeroForCausalLM
from aero.models.notation import Activation

_ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu": "gelu_erf",
    "relu": "relu",
}


def convert_config(config: GPT2Config | GPTNeoXConfig) -> AeroConfig:
    """The AeroConfig of a GPT-2 or a GPT-NeoX. Raises ValueError for a variant that AERO's decoder cannot express."""
    return convert_gpt2_config(config) if isinstance(config, GPT2Config) else convert_gpt_neox_config(config)


def convert(source: GPT2LMHeadModel | GPTNeoXForCausalLM) -> AeroForCausalLM:
    """A new AERO model that computes what a GPT-2 or a GPT-NeoX does. Raises ValueError as their own functions do."""
    return convert_gpt2(source) if isinstance(source, GPT2LMHeadModel) else convert_gpt_neox(source)


def convert_gpt2_config(config: GPT2Config) -> AeroConfig:
    """The AeroConfig of a GPT-2. Raises ValueError for a variant that AERO's decoder cannot express.

    Dropout is not carried over: AERO trains without it, and it has no part in inference.
    """
    if config.activation_function not in _ACTIVATIONS:
        raise ValueError(
            f"cannot convert a GPT-2 with activation {config.activation_function!r}; "
            f"convertible: {', '.join(_ACTIVATIONS)}"
        )
    if config.scale_attn_by_inverse_layer_idx or not config.scale_attn_weights or config.add_cross_attention:
        raise ValueError(
            "cannot convert a GPT-2 with cross-attention, or whose attention is not scaled by 1/sqrt(head width) alone"
        )
    inner = 4 * config.n_embd if config.n_inner is None else config.n_inner
    if inner % config.n_embd:
        raise ValueError(f"cannot convert a GPT-2 whose n_inner {inner} is not a multiple of n_embd {config.n_embd}")
    return AeroConfig(
        vocab_size=config.vocab_size,
        context=config.n_positions,
        num_layers=config.n_layer,
        num_heads=config.n_head,
        hidden_size=config.n_embd,
        activation=_ACTIVATIONS[config.activation_function],
        ffn_multiplier=inner // config.n_embd,
        tie_embeddings=config.tie_word_embeddings,
        initializer_range=config.initializer_range,
        norm_eps=config.layer_norm_epsilon,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=getattr(config, "pad_token_id", None),  # not every transformers gives it
    )


@torch.no_grad()
def convert_gpt2(source: GPT2LMHeadModel) -> AeroForCausalLM:
    """A new AERO model with GPT-2's weights, in the same float type, in evaluation mode; the source is not altered.

    Raises ValueError as `convert_gpt2_config` does.
    """
    model = AeroForCausalLM(convert_gpt2_config(source.config))
    model.to(dtype=source.dtype)  # type: ignore[call-arg]
    theirs: Any = source.transformer  # its blocks' parts have no declared types
    ours: Any = model.transformer
    ours.token_embedding.weight.copy_(theirs.wte.weight)
    ours.position_embedding.weight.copy_(theirs.wpe.weight)
    _copy(ours.final_norm, theirs.ln_f.weight, theirs.ln_f.bias)
    for block, layer in zip(ours.blocks, theirs.h, strict=True):
        _copy(block.norm_1, layer.ln_1.weight, layer.ln_1.bias)
        _copy(block.norm_2, layer.ln_2.weight, layer.ln_2.bias)
        # Their weights are [in, out], and Q, K and V lie side by side.
        attention, d = block.attention, source.config.n_embd
        weights, biases = layer.attn.c_attn.weight.split(d, dim=1), layer.attn.c_attn.bias.split(d)
        for projection, weight, bias in zip(
            (attention.q_proj, attention.k_proj, attention.v_proj), weights, biases, strict=True
        ):
            _copy(projection, weight.T, bias)
        _copy(attention.o_proj, layer.attn.c_proj.weight.T, layer.attn.c_proj.bias)
        _copy(block.ffn.w_in, layer.mlp.c_fc.weight.T, layer.mlp.c_fc.bias)
        _copy(block.ffn.w_out, layer.mlp.c_proj.weight.T, layer.mlp.c_proj.bias)
    if not model.config.tie_embeddings:
        model.lm_head.weight.copy_(source.lm_head.weight)
    return model.eval()


def convert_gpt_neox_config(config: GPTNeoXConfig) -> AeroConfig:
    """The AeroConfig of a GPT-NeoX, Pythia among them. Raises ValueError for a variant that cannot be expressed.

    Dropout is not carried over.
    """
    rotary: dict[str, Any] = dict(config.rope_parameters or {})
    if config.hidden_act not in _ACTIVATIONS:
        raise ValueError(
            f"cannot convert a GPT-NeoX with activation {config.hidden_act!r}; convertible: {', '.join(_ACTIVATIONS)}"
        )
    if rotary.get("rope_type", "default") != "default":
        raise ValueError(f"cannot convert rotary positions of the type {rotary['rope_type']!r}; convertible: default")
    if config.intermediate_size % config.hidden_size:
        raise ValueError(
            f"cannot convert a GPT-NeoX whose intermediate_size {config.intermediate_size} is not a multiple of "
            f"hidden_size {config.hidden_size}"
        )
    return AeroConfig(
        vocab_size=config.vocab_size,
        context=config.max_position_embeddings,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        activation=_ACTIVATIONS[config.hidden_act],
        ffn_multiplier=config.intermediate_size // config.hidden_size,
        positions="rotary",
        rotary_fraction=rotary.get("partial_rotary_factor", 1.0),
        rotary_base=rotary["rope_theta"],
        parallel_residual=config.use_parallel_residual,
        tie_embeddings=config.tie_word_embeddings,
        initializer_range=config.initializer_range,
        norm_eps=config.layer_norm_eps,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=getattr(config, "pad_token_id", None),  # not every transformers gives it
    )


@torch.no_grad()
def convert_gpt_neox(source: GPTNeoXForCausalLM) -> AeroForCausalLM:
    """A new AERO model with GPT-NeoX's weights, in the same float type, in evaluation mode; the source is not altered.

    Theirs takes the angles of rotary positions from float32 numbers, ours from float64 ones.
    Raises ValueError as `convert_gpt_neox_config` does.
    """
    model = AeroForCausalLM(convert_gpt_neox_config(source.config))
    model.to(dtype=source.dtype)  # type: ignore[call-arg]
    theirs: Any = source.gpt_neox
    ours: Any = model.transformer
    ours.token_embedding.weight.copy_(theirs.embed_in.weight)
    _copy(ours.final_norm, theirs.final_layer_norm.weight, theirs.final_layer_norm.bias)
    for block, layer in zip(ours.blocks, theirs.layers, strict=True):
        _copy(block.norm_1, layer.input_layernorm.weight, layer.input_layernorm.bias)
        _copy(block.norm_2, layer.post_attention_layernorm.weight, layer.post_attention_layernorm.bias)
        # Each head has its rows of Q, of K and of V side by side.
        attention, joint = block.attention, layer.attention.query_key_value
        heads, width, d = attention.num_heads, attention.head_width, source.config.hidden_size
        weights = joint.weight.view(heads, 3, width, d).unbind(1)
        biases = (None,) * 3 if joint.bias is None else joint.bias.view(heads, 3, width).unbind(1)
        for projection, weight, bias in zip(
            (attention.q_proj, attention.k_proj, attention.v_proj), weights, biases, strict=True
        ):
            _copy(projection, weight.reshape(d, d), None if bias is None else bias.reshape(d))
        _copy(attention.o_proj, layer.attention.dense.weight, layer.attention.dense.bias)
        _copy(block.ffn.w_in, layer.mlp.dense_h_to_4h.weight, layer.mlp.dense_h_to_4h.bias)
        _copy(block.ffn.w_out, layer.mlp.dense_4h_to_h.weight, layer.mlp.dense_4h_to_h.bias)
    if not model.config.tie_embeddings:
        model.lm_head.weight.copy_(source.get_output_embeddings().weight)
    return model.eval()


def _copy(module: nn.Linear | nn.LayerNorm, weight: Tensor, bias: Tensor | None) -> None:
    module.weight.copy_(weight)
    if bias is None:
        module.bias.zero_()
    else:
        module.bias.copy_(bias)
