"""GPT-2 (Radford et al. 2019): learned positions, norms before attention and FFN, GELU in its tanh form."""

from __future__ import annotations

from typing import Any

from transformers import GPT2LMHeadModel

from aero.models.families.family import Family, Named, linear, norm, shared_fields


def _fields(config: Any) -> dict[str, Any]:
    if config.scale_attn_by_inverse_layer_idx or not config.scale_attn_weights or config.add_cross_attention:
        raise ValueError(
            "cannot convert a GPT-2 with cross-attention, or whose attention is not scaled by 1/sqrt(head width) alone"
        )
    inner = 4 * config.n_embd if config.n_inner is None else config.n_inner
    return {
        **shared_fields("a GPT-2", config, config.n_embd, config.activation_function, "n_inner", inner),
        "context": config.n_positions,
        "num_layers": config.n_layer,
        "num_heads": config.n_head,
        "initializer_range": config.initializer_range,
        "norm_eps": config.layer_norm_epsilon,
    }


def _parameters(model: Any) -> Named:
    theirs = model.transformer
    yield "transformer.token_embedding.weight", theirs.wte.weight
    yield "transformer.position_embedding.weight", theirs.wpe.weight
    yield from norm("transformer.final_norm", theirs.ln_f)
    for index, layer in enumerate(theirs.h):
        name = f"transformer.blocks.{index}"
        yield from norm(f"{name}.norm_1", layer.ln_1)
        yield from norm(f"{name}.norm_2", layer.ln_2)
        # Their weights are [in, out], and Q, K and V lie side by side.
        joint = layer.attn.c_attn
        for role, weight, bias in zip("qkv", joint.weight.T.chunk(3), joint.bias.chunk(3), strict=True):
            yield from linear(f"{name}.attention.{role}_proj", weight, bias)
        for ours, conv in (
            ("attention.o_proj", layer.attn.c_proj),
            ("ffn.w_in", layer.mlp.c_fc),
            ("ffn.w_out", layer.mlp.c_proj),
        ):
            yield from linear(f"{name}.{ours}", conv.weight.T, conv.bias)


FAMILY = Family(
    GPT2LMHeadModel,
    "transformer",
    "transformer.wte.weight",
    _fields,
    _parameters,
    constants=r"transformer\.h\.\d+\.attn\.(bias|masked_bias)",
)
