"""Mistral (Jiang et al. 2023, §2): as Llama; each position sees a window of keys, which is the context here."""

from __future__ import annotations

from typing import Any

from transformers import MistralForCausalLM

from aero.models.families.llama import llama_family, llama_fields


def _fields(config: Any) -> dict[str, Any]:
    return llama_fields("a Mistral", config)


FAMILY = llama_family(MistralForCausalLM, _fields)
