"""GPT-NeoX, Pythia among them (Black et al. 2022, §2.1): rotary positions in a part of each head, attention and FFN
side by side, an output matrix of its own."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import GPTNeoXForCausalLM

from aero.models.families.family import Family, Named, linear, norm, shared_fields


def _fields(config: Any) -> dict[str, Any]:
    rotary: dict[str, Any] = dict(config.rope_parameters or {})
    if rotary.get("rope_type", "default") != "default":
        raise ValueError(f"cannot convert rotary positions of the type {rotary['rope_type']!r}; convertible: default")
    inner = config.intermediate_size
    return {
        **shared_fields("a GPT-NeoX", config, config.hidden_size, config.hidden_act, "intermediate_size", inner),
        "context": config.max_position_embeddings,
        "num_layers": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "positions": "rotary",
        "rotary_fraction": rotary.get("partial_rotary_factor", 1.0),
        "rotary_base": rotary["rope_theta"],
        "parallel_residual": config.use_parallel_residual,
        "initializer_range": config.initializer_range,
        "norm_eps": config.layer_norm_eps,
    }


def _parameters(model: Any) -> Named:
    """Theirs takes the angles of rotary positions from float32 numbers, ours from float64 ones."""
    theirs, heads = model.gpt_neox, model.config.num_attention_heads
    yield "transformer.token_embedding.weight", theirs.embed_in.weight
    yield from norm("transformer.final_norm", theirs.final_layer_norm)
    for index, layer in enumerate(theirs.layers):
        name = f"transformer.blocks.{index}"
        yield from norm(f"{name}.norm_1", layer.input_layernorm)
        yield from norm(f"{name}.norm_2", layer.post_attention_layernorm)
        joint = layer.attention.query_key_value
        weights = _by_role(joint.weight, heads)
        biases = (None,) * 3 if joint.bias is None else _by_role(joint.bias, heads)
        for role, weight, bias in zip("qkv", weights, biases, strict=True):
            yield from linear(f"{name}.attention.{role}_proj", weight, bias)
        yield from linear(f"{name}.attention.o_proj", layer.attention.dense.weight, layer.attention.dense.bias)
        yield from linear(f"{name}.ffn.w_in", layer.mlp.dense_h_to_4h.weight, layer.mlp.dense_h_to_4h.bias)
        yield from linear(f"{name}.ffn.w_out", layer.mlp.dense_4h_to_h.weight, layer.mlp.dense_4h_to_h.bias)


def _by_role(joint: Tensor, heads: int) -> Tensor:
    """[3d, ...], each head with its rows of Q, of K and of V side by side -> [3, d, ...]."""
    return joint.unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(1, 2)


FAMILY = Family(
    GPTNeoXForCausalLM,
    "gpt_neox",
    "gpt_neox.embed_in.weight",
    _fields,
    _parameters,
    constants=r"gpt_neox\.(layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)|rotary_emb\.inv_freq)",
)
