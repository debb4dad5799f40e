"""Attention's shapes: heads side by side in a row, and the keys that a query sees.

With the mask "causal", query row t of T sees keys 0 .. S - T + t of S; with "none", every key. Those entries of scores
and probabilities [H, T, S] are live.

Heads of queries may share keys and values: `group` of them, one after the other, for each head of those. The rows of a
group then stand below one another, all heads of the first row first, so that keys are read once for all of them.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
MASKS = CAUSAL, NO_MASK = "causal", "none"


def split_heads(x: Array, heads: int) -> Array:
    """[rows, H * d_k] -> [H, rows, d_k]."""
    rows, width = x.shape
    return x.reshape(rows, heads, width // heads).transpose(1, 0, 2)


def split_groups(x: Array, heads: int, group: int) -> Array:
    """Queries [rows, H * d_k] -> [H / group, rows * group, d_k]."""
    rows, width = x.shape
    apart = x.reshape(rows, heads // group, group, width // heads)
    return apart.transpose(1, 0, 2, 3).reshape(heads // group, rows * group, width // heads)


def stack_groups(x: Array, group: int) -> Array:
    """[H, rows, m] -> [H / group, rows * group, m]."""
    heads, rows, columns = x.shape
    apart = x.reshape(heads // group, group, rows, columns).transpose(0, 2, 1, 3)
    return apart.reshape(heads // group, rows * group, columns)


def unstack_groups(x: Array, group: int) -> Array:
    """[H / group, rows * group, m] -> [H, rows, m]."""
    stacks, rows, columns = x.shape
    apart = x.reshape(stacks, rows // group, group, columns).transpose(0, 2, 1, 3)
    return apart.reshape(stacks * group, rows // group, columns)


def merge_heads(x: Array) -> Array:
    """[H, rows, d_k] -> [rows, H * d_k]."""
    heads, rows, width = x.shape
    return x.transpose(1, 0, 2).reshape(rows, heads * width)


def causal_mask(queries: int, keys: int) -> Array:
    """[T, S] of booleans: True where query t may see key s, that is s <= S - T + t."""
    return np.arange(keys)[None, :] <= np.arange(queries)[:, None] + (keys - queries)


def live_mask(queries: int, keys: int, *, mask: str = CAUSAL) -> Array:
    """[T, S] of booleans: which entries of a head are live."""
    return causal_mask(queries, keys) if mask == CAUSAL else np.ones((queries, keys), dtype=bool)


def live_pairs(queries: int, keys: int, *, mask: str = CAUSAL) -> int:
    """Live entries of one head: all, or those of the causal triangle, the sum over t < T of S - T + t + 1."""
    if mask != CAUSAL:
        return queries * keys
    return queries * (keys - queries) + queries * (queries + 1) // 2
