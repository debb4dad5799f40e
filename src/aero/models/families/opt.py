"""OPT (Zhang et al. 2022, §2.1): as GPT-2, with ReLU; its table of positions has two rows before the first."""

from __future__ import annotations

from typing import Any

from transformers import OPTForCausalLM

from aero.models.families.family import Family, Named, linear, norm, shared_fields

_ROWS_BEFORE = 2


def _fields(config: Any) -> dict[str, Any]:
    if not config.do_layer_norm_before or config.word_embed_proj_dim != config.hidden_size:
        raise ValueError(
            "cannot convert an OPT with norms after attention and FFN, or with embeddings of another width than the "
            "model's, as opt-350m has them (do_layer_norm_before, word_embed_proj_dim); use another size of OPT"
        )
    if config._remove_final_layer_norm:
        raise ValueError("cannot convert an OPT without a last norm (_remove_final_layer_norm)")
    return {
        **shared_fields("an OPT", config, config.hidden_size, config.activation_function, "ffn_dim", config.ffn_dim),
        "context": config.max_position_embeddings,
        "num_layers": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "initializer_range": config.init_std,
        "norm_eps": 1e-5,
    }


def _parameters(model: Any) -> Named:
    theirs = model.model.decoder
    yield "transformer.token_embedding.weight", theirs.embed_tokens.weight
    yield "transformer.position_embedding.weight", theirs.embed_positions.weight[_ROWS_BEFORE:]
    yield from norm("transformer.final_norm", theirs.final_layer_norm)
    for index, layer in enumerate(theirs.layers):
        name, attention = f"transformer.blocks.{index}", layer.self_attn
        yield from norm(f"{name}.norm_1", layer.self_attn_layer_norm)
        yield from norm(f"{name}.norm_2", layer.final_layer_norm)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj)
        for role, projection in zip("qkvo", projections, strict=True):
            yield from linear(f"{name}.attention.{role}_proj", projection.weight, projection.bias)
        yield from linear(f"{name}.ffn.w_in", layer.fc1.weight, layer.fc1.bias)
        yield from linear(f"{name}.ffn.w_out", layer.fc2.weight, layer.fc2.bias)


FAMILY = Family(OPTForCausalLM, "model", "model.decoder.embed_tokens.weight", _fields, _parameters)
