"""Families of Hugging Face's models that can be converted, each in its file: what it is as a model of ours."""

from aero.models.families import bert, distilbert, gpt2, gpt_neox, llama, mistral, opt, qwen2, qwen3
from aero.models.families.encoders import EncoderFamily
from aero.models.families.family import Family

FAMILIES: dict[str, Family] = {
    "gpt2": gpt2.FAMILY,
    "gpt_neox": gpt_neox.FAMILY,
    "llama": llama.FAMILY,
    "mistral": mistral.FAMILY,
    "opt": opt.FAMILY,
    "qwen2": qwen2.FAMILY,
    "qwen3": qwen3.FAMILY,
}
"""By Hugging Face's `model_type`."""

ENCODERS: dict[str, EncoderFamily] = {"bert": bert.FAMILY, "distilbert": distilbert.FAMILY}
"""By Hugging Face's `model_type`."""

__all__ = ["ENCODERS", "FAMILIES", "EncoderFamily", "Family"]
