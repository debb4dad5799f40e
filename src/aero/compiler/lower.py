"""From a trained model to a graph: every operation of the forward pass, nothing folded yet.

Either every position's logits are asked for, as in training, or the last one's: the last block's output is then cut to
one row before the final norm and the vocabulary projection.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch

from aero.graph import Node, Program
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.attention import Attention
from aero.models.ffn import FusedFFN, PlainFFN
from aero.models.modeling_aero import AeroBlock
from aero.models.norm import FrozenNorm


class _Builder:
    """Collects nodes and weights; every method adds one node and returns its name."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.weights: dict[str, np.ndarray] = {}

    def add(
        self, name: str, op: str, *inputs: str, weights: dict[str, np.ndarray] | None = None, **attrs: float | str
    ) -> str:
        names = []
        for role, array in (weights or {}).items():
            self.weights[f"{name}.{role}"] = array
            names.append(f"{name}.{role}")
        self.nodes.append(Node(name, op, inputs, tuple(names), attrs))
        return name

    def linear(self, name: str, x: str, layer: torch.nn.Linear) -> str:
        weights = {"w": _array(layer.weight).T}
        if layer.bias is not None:
            weights["b"] = _array(layer.bias)
        return self.add(name, "linear", x, weights=weights)

    def norm(self, name: str, x: str, layer: torch.nn.Module, rows: slice) -> str:
        """rows: the positions of x."""
        if isinstance(layer, torch.nn.Identity):
            return x
        if isinstance(layer, FrozenNorm):
            x = self.frozen_norm(name, x, layer, rows)
        else:
            assert isinstance(layer, torch.nn.LayerNorm)
            x = self.add(name, "layer_norm", x, eps=layer.eps)
        x = self.add(f"{name}.gain", "gain", x, weights={"w": _array(layer.weight)})
        return self.add(f"{name}.bias", "bias", x, weights={"w": _array(layer.bias)})

    def frozen_norm(self, name: str, x: str, layer: FrozenNorm, rows: slice) -> str:
        """(x / sigma_bar) C, where C = I - 11^T / d takes the mean of a row away."""
        if not layer.frozen:
            raise ValueError("a norm of this model is not frozen yet; train it to the end before compiling it")
        width, scale = len(layer.weight), np.exp(-_array(layer.log_sigma))
        factor = scale.reshape(()) if len(scale) == 1 else np.repeat(scale[rows, None], width, axis=1)
        if factor.shape == (1, width):
            factor = factor[0]
        x = self.add(f"{name}.scale", "gain", x, weights={"w": factor})
        return self.add(name, "linear", x, weights={"w": np.eye(width) - 1 / width})


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float64).numpy()


def lower(model: AeroForCausalLM, length: int, *, every_position: bool = False) -> Program:
    """The graph that computes the logits [1, V] of the last of `length` positions, or [length, V] of every one.

    Raises ValueError when the length exceeds the model's context, and for a model that cannot be expressed: one of
    simplified blocks, or with norms that are not frozen yet. The model is not altered.
    """
    config = cast(AeroConfig, model.config)
    if not 1 <= length <= config.context:
        raise ValueError(f"{length} tokens do not fit this model's context of {config.context}; shorten the prompt")
    if config.block == "simplified":
        raise ValueError(
            "simplified blocks cannot be compiled: the graph has no operation for uniform attention beside softmax; "
            "they are here to be trained and compared, so compile a model of standard blocks"
        )
    transformer, b = model.transformer, _Builder()
    x = b.add("embedding", "embedding", "ids", weights={"table": _array(transformer.token_embedding.weight)})
    if transformer.position_embedding is not None:
        x = b.add("positions", "bias", x, weights={"w": _array(transformer.position_embedding.weight)[:length]})
    x = b.add("embedding_multiplier", "scale", x, factor=config.embedding_multiplier)
    for index, block in enumerate(transformer.blocks):
        assert isinstance(block, AeroBlock)
        x = _lower_block(b, x, block, f"blocks.{index}", length, config, transformer.negative_slope)
    rows = slice(0, length)
    if not every_position:
        x, rows = b.add("last", "rows", x, start=length - 1, stop=length), slice(length - 1, length)
    x = b.norm("final_norm", x, transformer.final_norm, rows)
    x = b.linear("logits", x, model.lm_head)
    x = b.add("logit_multiplier", "scale", x, factor=config.logit_multiplier)
    return Program.of(length, b.nodes, b.weights, x)


def _lower_block(
    b: _Builder,
    x: str,
    block: AeroBlock,
    name: str,
    length: int,
    config: AeroConfig,
    slope: torch.Tensor | None,
) -> str:
    attention, heads, rows = block.attention, config.num_heads, slice(0, length)
    assert isinstance(attention, Attention)
    head_width = attention.q_proj.in_features // heads
    if isinstance(block.norm_1, FrozenNorm):  # an affine map of its own for each reader, so that it can be merged there
        normed = [b.norm(f"{name}.norm_1.{role}", x, block.norm_1, rows) for role in "qkv"]
    else:
        normed = [b.norm(f"{name}.norm_1", x, block.norm_1, rows)] * 3
    q = b.linear(f"{name}.q", normed[0], attention.q_proj)
    k = b.linear(f"{name}.k", normed[1], attention.k_proj)
    v = b.linear(f"{name}.v", normed[2], attention.v_proj)
    q = b.add(f"{name}.q.scale", "scale", q, factor=1.0 / math.sqrt(head_width))
    if attention.log_temperature is not None:
        # Logits are divided by t, one per head (and position): a gain of the queries, alike for a head's columns.
        inverse = np.exp(-_array(attention.log_temperature)[:, :length].T)  # [1 or length, H]
        gain = np.repeat(inverse, head_width, axis=1)
        q = b.add(f"{name}.temperature", "gain", q, weights={"w": gain[0] if len(gain) == 1 else gain})
    if config.positions == "rotary":
        q, k = (
            b.add(
                f"{y}.rotary", "rotary", x, heads=heads, rotated=config.rotary_width, base=config.rotary_base, start=0
            )
            for y, x in ((f"{name}.q", q), (f"{name}.k", k))
        )
    scores = b.add(f"{name}.scores", "scores", q, k, heads=heads)
    probabilities = b.add(f"{name}.softmax", "causal_softmax", scores)
    attended = b.add(f"{name}.attend", "attend", probabilities, v)
    before = x
    x = b.add(f"{name}.attention", "add", x, b.linear(f"{name}.o", attended, attention.o_proj))

    if block.ffn is None:
        return x
    ffn = b.norm(f"{name}.norm_2", before if block.parallel else x, block.norm_2, rows)
    ffn = _lower_ffn(b, ffn, block, name, slope)
    if block.ffn_alpha is not None and block.ffn_beta is not None:
        ffn = b.add(f"{name}.ffn.alpha", "gain", ffn, weights={"w": 1.0 / _array(block.ffn_alpha).reshape(())})
        x = b.add(f"{name}.ffn.beta", "gain", x, weights={"w": _array(block.ffn_beta).reshape(())})
    return b.add(f"{name}.ffn", "add", x, ffn)


def _lower_ffn(b: _Builder, x: str, block: AeroBlock, name: str, slope: torch.Tensor | None) -> str:
    ffn = block.ffn
    if isinstance(ffn, FusedFFN):
        return b.linear(f"{name}.ffn.w", x, ffn.w)
    assert isinstance(ffn, PlainFFN)
    x = b.linear(f"{name}.ffn.in", x, ffn.w_in)
    slope = ffn.negative_slope if slope is None else slope
    if slope is not None:
        # leaky(x) = a x + (1 - a) relu(x)
        a = _array(slope).reshape(())
        positive = b.add(f"{name}.ffn.relu", "relu", x)
        positive = b.add(f"{name}.ffn.relu.slope", "gain", positive, weights={"w": 1 - a})
        x = b.add(f"{name}.ffn.leaky_relu", "add", b.add(f"{name}.ffn.slope", "gain", x, weights={"w": a}), positive)
    elif ffn.activation_name == "gelu_erf":
        x = b.add(f"{name}.ffn.gelu", "gelu", x, form="erf")
    elif ffn.activation_name != "identity":
        x = b.add(f"{name}.ffn.{ffn.activation_name}", ffn.activation_name, x)
    return b.linear(f"{name}.ffn.out", x, ffn.w_out)
