"""Llama (Touvron et al. 2023, §2.2), TinyLlama and SmolLM2 among them: RMSNorm, rotary positions in whole heads, a
gated FFN, and, in later ones, fewer heads of keys and values than of queries. What Mistral and Qwen share is here."""

from __future__ import annotations

from typing import Any

from transformers import LlamaForCausalLM

from aero.models.families.family import Family, Named, shared_fields

_LLAMA3 = {
    "factor": "factor",
    "low_freq_factor": "low",
    "high_freq_factor": "high",
    "original_max_position_embeddings": "original",
}
CONSTANTS = r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"


def llama_fields(kind: str, config: Any) -> dict[str, Any]:
    """kind: "a Llama". A context is no longer than the window of keys that attention sees: within it, all are seen."""
    rotary: dict[str, Any] = dict(config.rope_parameters or {})
    if rotary.get("partial_rotary_factor", 1.0) != 1.0:
        raise ValueError(f"cannot convert {kind} of which a part of each head turns (partial_rotary_factor)")
    windows = getattr(config, "layer_types", None) or ["sliding_attention"]
    window = getattr(config, "sliding_window", None) if "sliding_attention" in windows else None
    longest = config.max_position_embeddings
    return {
        **shared_fields(
            kind, config, config.hidden_size, config.hidden_act, "intermediate_size", config.intermediate_size
        ),
        "context": longest if window is None else min(longest, window),
        "num_layers": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "num_key_heads": config.num_key_value_heads,
        "head_width": getattr(config, "head_dim", None) or 0,
        "norm": "rms",
        "ffn": "gated",
        "positions": "rotary",
        "rotary_fraction": 1.0,
        "rotary_base": rotary["rope_theta"],
        "rotary_scaling": _scaling(kind, rotary),
        "qkv_bias": False,
        "o_bias": False,
        "ffn_bias": False,
        "initializer_range": config.initializer_range,
        "norm_eps": config.rms_norm_eps,
    }


def _scaling(kind: str, rotary: dict[str, Any]) -> dict[str, float] | None:
    match rotary.get("rope_type", "default"):
        case "default":
            return None
        case "linear":
            return {"factor": float(rotary["factor"])}
        case "llama3":
            return {ours: float(rotary[theirs]) for theirs, ours in _LLAMA3.items()}
        case other:
            known = "default, linear, llama3"
            raise ValueError(f"cannot convert {kind} with rotary positions of the type {other!r}; convertible: {known}")


def llama_parameters(model: Any) -> Named:
    """Theirs takes the angles of rotary positions from float32 numbers, ours from float64 ones."""
    theirs = model.model
    yield "transformer.token_embedding.weight", theirs.embed_tokens.weight
    yield "transformer.final_norm.weight", theirs.norm.weight
    for index, layer in enumerate(theirs.layers):
        name, attention = f"transformer.blocks.{index}", layer.self_attn
        yield f"{name}.norm_1.weight", layer.input_layernorm.weight
        yield f"{name}.norm_2.weight", layer.post_attention_layernorm.weight
        for role in "qk":
            if hasattr(attention, f"{role}_norm"):
                yield f"{name}.attention.{role}_norm.weight", getattr(attention, f"{role}_norm").weight
        matrices = {f"attention.{role}_proj": getattr(attention, f"{role}_proj") for role in "qkvo"}
        matrices |= {"ffn.w_gate": layer.mlp.gate_proj, "ffn.w_in": layer.mlp.up_proj, "ffn.w_out": layer.mlp.down_proj}
        for ours, matrix in matrices.items():
            for role, parameter in matrix.named_parameters():
                yield f"{name}.{ours}.{role}", parameter


def llama_family(model: type[Any], fields: Any) -> Family:
    return Family(model, "model", "model.embed_tokens.weight", fields, llama_parameters, CONSTANTS)


def _fields(config: Any) -> dict[str, Any]:
    biases = {"qkv_bias": config.attention_bias, "o_bias": config.attention_bias, "ffn_bias": config.mlp_bias}
    return {**llama_fields("a Llama", config), **biases}


FAMILY = llama_family(LlamaForCausalLM, _fields)
