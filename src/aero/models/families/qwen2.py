"""Qwen2, Qwen2.5 among them (Yang et al. 2024, §2.2): as Llama, with biases of queries, keys and values."""

from __future__ import annotations

from typing import Any

from transformers import Qwen2ForCausalLM

from aero.models.families.llama import llama_family, llama_fields


def _fields(config: Any) -> dict[str, Any]:
    return {**llama_fields("a Qwen2", config), "qkv_bias": True}


FAMILY = llama_family(Qwen2ForCausalLM, _fields)
