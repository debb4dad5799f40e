"""From a trained model to a program: the structure of its decoder, and its arrays by the names that stand there.

Either every position's logits are asked for, as in training, or the last one's: the last block's output is then cut to
one row before the final norm and the vocabulary projection.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import cast

import numpy as np
import torch
from torch import nn

from aero.graph import Program
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.attention import Attention
from aero.models.ffn import FusedFFN, PlainFFN
from aero.models.modeling_aero import AeroBlock
from aero.models.norm import FrozenNorm, RMSNorm, frozen_norms
from aero.structure import Decoder

Named = Iterator[tuple[str, np.ndarray]]


def lower(model: AeroForCausalLM, length: int, *, every_position: bool = False) -> Program:
    """The program that computes the logits [1, V] of the last of `length` positions, or [length, V] of every one.

    Raises ValueError when the length exceeds the model's context, and for a model that cannot be expressed: one of
    simplified blocks, or with norms that are not frozen yet. The model is not altered.
    """
    graph = decoder_of(cast(AeroConfig, model.config)).graph(length, every_position=every_position)
    if not all(norm.frozen for norm in frozen_norms(model)):
        raise ValueError("a norm of this model is not frozen yet; train it to the end before compiling it")
    return Program(graph, dict(_model(model, length, every_position)))


def decoder_of(config: AeroConfig) -> Decoder:
    """What a configuration says of the structure."""
    return Decoder(**{field.name: getattr(config, field.name) for field in fields(Decoder)})


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float64).numpy()


def _scalar(tensor: torch.Tensor) -> np.ndarray:
    return _array(tensor).reshape(())


def _model(model: AeroForCausalLM, length: int, every_position: bool) -> Named:
    transformer, every = model.transformer, slice(0, length)
    yield "embedding.table", _array(transformer.token_embedding.weight)
    if transformer.position_embedding is not None:
        yield "positions.w", _array(transformer.position_embedding.weight)[every]
    for index, block in enumerate(transformer.blocks):
        assert isinstance(block, AeroBlock)
        yield from _block(f"blocks.{index}", block, every, transformer.negative_slope)
    yield from _norm("final_norm", transformer.final_norm, every if every_position else slice(length - 1, length))
    yield from _linear("logits", model.lm_head)


def _block(name: str, block: AeroBlock, rows: slice, shared_slope: torch.Tensor | None) -> Named:
    attention = block.attention
    assert isinstance(attention, Attention)
    affine = isinstance(block.norm_1, FrozenNorm) and block.norm_1.bias is not None
    for own in (".q", ".k", ".v") if affine else ("",):
        yield from _norm(f"{name}.norm_1{own}", block.norm_1, rows)
    projections = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
    for role, projection in zip("qkvo", projections, strict=True):
        yield from _linear(f"{name}.{role}", projection)
    for role, norm, heads in (
        ("q", attention.q_norm, attention.num_heads),
        ("k", attention.k_norm, attention.num_key_heads),
    ):
        if norm is not None:
            if isinstance(norm, FrozenNorm):
                yield f"{name}.{role}.norm.scale.w", np.exp(-_scalar(norm.log_sigma))
            yield f"{name}.{role}.norm.gain.w", np.tile(_array(norm.weight), heads)
    if attention.log_temperature is not None:
        # Logits are divided by t, one per head (and position): a gain of the queries, alike for a head's columns.
        inverse = np.exp(-_array(attention.log_temperature)[:, rows].T)  # [1 or length, H]
        yield f"{name}.temperature.w", _one_row(np.repeat(inverse, attention.head_width, axis=1))
    if block.ffn is None:
        return
    yield from _norm(f"{name}.norm_2", block.norm_2, rows)
    if isinstance(block.ffn, FusedFFN):
        yield from _linear(f"{name}.ffn.w", block.ffn.w)
    else:
        assert isinstance(block.ffn, PlainFFN)
        yield from _linear(f"{name}.ffn.in", block.ffn.w_in)
        if block.ffn.w_gate is not None:
            yield from _linear(f"{name}.ffn.gate", block.ffn.w_gate)
        yield from _linear(f"{name}.ffn.out", block.ffn.w_out)
        slope = block.ffn.negative_slope if shared_slope is None else shared_slope
        if slope is not None:
            yield f"{name}.ffn.slope.w", _scalar(slope)
            yield f"{name}.ffn.relu.slope.w", 1 - _scalar(slope)
    if block.ffn_alpha is not None and block.ffn_beta is not None:
        yield f"{name}.ffn.alpha.w", 1.0 / _scalar(block.ffn_alpha)
        yield f"{name}.ffn.beta.w", _scalar(block.ffn_beta)


def _linear(name: str, layer: nn.Linear) -> Named:
    yield f"{name}.w", _array(layer.weight).T
    if layer.bias is not None:
        yield f"{name}.b", _array(layer.bias)


def _norm(name: str, layer: nn.Module, rows: slice) -> Named:
    """rows: the positions of what is normed."""
    if isinstance(layer, nn.Identity):
        return
    assert isinstance(layer, (nn.LayerNorm, RMSNorm, FrozenNorm))
    yield f"{name}.gain.w", _array(layer.weight)
    width, bias = len(layer.weight), None if isinstance(layer, RMSNorm) else layer.bias
    if bias is not None:
        yield f"{name}.bias.w", _array(bias)
    if isinstance(layer, FrozenNorm):
        scale = np.exp(-_array(layer.log_sigma))
        whole = len(scale) == 1
        yield f"{name}.scale.w", scale.reshape(()) if whole else _one_row(np.repeat(scale[rows, None], width, axis=1))
        if bias is not None:
            yield f"{name}.w", np.eye(width) - 1 / width


def _one_row(gain: np.ndarray) -> np.ndarray:
    return gain[0] if len(gain) == 1 else gain
