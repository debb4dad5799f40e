"""The name that transformers gives a model's cache: `cache` since its release 5.24, `past_key_values` before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any

from transformers.modeling_outputs import BaseModelOutputWithPast

CACHE_NAMES = ("cache", "past_key_values")
# The name in a model's outputs, under which `generate` hands it to the next call.
CACHE_NAME = next(field.name for field in fields(BaseModelOutputWithPast) if field.name in CACHE_NAMES)


def takes_cache(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A `forward` with an argument `cache` that takes it by either name. Raises ValueError for both at once."""

    @wraps(forward)
    def renamed(*args: Any, **kwargs: Any) -> Any:
        given = [name for name in CACHE_NAMES if name in kwargs]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are one argument; give `cache` alone")
        for name in given:
            kwargs["cache"] = kwargs.pop(name)
        # Generation of the first releases with `past_key_values` also gives the new positions, which the cache knows,
        # and says that there are no embeddings in place of ids.
        kwargs.pop("cache_position", None)
        if kwargs.get("inputs_embeds", ...) is None:
            del kwargs["inputs_embeds"]
        return forward(*args, **kwargs)

    return renamed
