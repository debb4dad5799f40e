"""Qwen3 (Yang et al. 2025, §2): as Llama, with norms of each head's queries and keys."""

from __future__ import annotations

from typing import Any

from transformers import Qwen3ForCausalLM

from aero.models.families.llama import llama_family, llama_fields


def _fields(config: Any) -> dict[str, Any]:
    biases = {"qkv_bias": config.attention_bias, "o_bias": config.attention_bias}
    return {**llama_fields("a Qwen3", config), **biases, "qk_norm": True}


FAMILY = llama_family(Qwen3ForCausalLM, _fields)
