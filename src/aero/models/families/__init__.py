"""Families of Hugging Face's models that can be converted, each in its file: what it is as a model of ours."""

from aero.models.families import gpt2, gpt_neox, opt
from aero.models.families.family import Family

FAMILIES: dict[str, Family] = {"gpt2": gpt2.FAMILY, "gpt_neox": gpt_neox.FAMILY, "opt": opt.FAMILY}
"""By Hugging Face's `model_type`."""

__all__ = ["FAMILIES", "Family"]
