"""From a model that exists towards a cheaper rung: the stages on the way, and what each begins with.

1. smooth activations become ReLU
2. LayerNorms become affine, by frozen statistics
3. FFNs are scaled, or fused: one matrix, the best linear map in place of two with an activation between them
4. FFNs are left out, the deepest first
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from aero.models import AeroConfig, AeroForCausalLM
from aero.models.attention import Attention
from aero.models.ffn import FusedFFN
from aero.models.modeling_aero import AeroBlock
from aero.models.notation import Notation

_FREEZING = "norms frozen"
_RIDGE = 1e-6  # of the mean square of an input: directions that the text does not have get no weight


@dataclass(frozen=True)
class Stage:
    """name: what is changed; notation: the architecture that it ends with."""

    name: str
    notation: Notation

    @property
    def freezes(self) -> bool:
        """Do norms become constant in it?"""
        return self.name == _FREEZING


def stages(source: Notation, target: Notation) -> list[Stage]:
    """The stages in their order; none where the two are the same.

    ValueError where the target keeps something that the source has not, or there is no step to it.
    """
    found: list[Stage] = []
    now = source

    def stage(name: str, **changes: object) -> None:
        nonlocal now
        now = replace(now, **changes)  # type: ignore[arg-type]
        found.append(Stage(name, now))

    if source.activation not in (target.activation, "relu", "identity"):
        stage("ReLU", activation="relu")
    if source.norm == "layer" and target.norm in ("frozen", "frozen_per_position"):
        stage(_FREEZING, norm=target.norm)
    if target.ffn == "scaled_fused" and now.ffn != "scaled_fused":
        stage("FFNs fused", activation="identity", ffn="scaled_fused", pruned=0)
    elif target.ffn == "scaled" and now.ffn == "plain":
        stage("FFNs scaled", ffn="scaled")
    for pruned in range(now.pruned + 1, target.pruned + 1):
        stage(f"FFNs pruned: {pruned}", pruned=pruned)
    if now != target:
        raise ValueError(
            f"no way from {source} to {target}: GELU becomes R, LN becomes FLN (free of cost once compiled), and FFNs "
            "become ScFFN, ScFuFFN or ScFuFFN_ik; all else stays as it is"
        )
    return found


@torch.no_grad()
def begin_with(source: AeroForCausalLM, config: AeroConfig, texts: Iterable[Tensor]) -> AeroForCausalLM:
    """A model of another architecture that computes nearly what `source` does; its weights where they fit.

    A fused FFN is the linear map that is nearest to the source's on the texts (least squares), and one that is left out
    leaves its mean. texts: batches of ids, [B, T], as many as say what the FFNs see; ones that change no FFN need none.
    """
    source.eval()
    model = AeroForCausalLM(config)
    ours = model.state_dict()
    for name, value in source.state_dict().items():
        if name in ours and ours[name].shape == value.shape:
            ours[name].copy_(value)
    changed: list[tuple[AeroBlock, AeroBlock, _LinearMap]] = []
    for before, after in zip(source.transformer.blocks, model.transformer.blocks, strict=True):
        assert isinstance(before, AeroBlock) and isinstance(after, AeroBlock)
        if before.ffn is not None and type(before.ffn) is not type(after.ffn):
            changed.append((before, after, _LinearMap(before.ffn)))
    if changed:
        for ids in texts:
            source(input_ids=ids, logits_to_keep=1)
    for before, after, found in changed:
        found.close()
        if isinstance(after.ffn, FusedFFN):
            weight, bias = found.solve()
            after.ffn.w.weight.copy_(weight)
            after.ffn.w.bias.copy_(bias)
        elif isinstance(after.attention, Attention):
            bias = after.attention.o_proj.bias
            bias.add_(found.mean().to(bias) / (1.0 if before.ffn_alpha is None else before.ffn_alpha))
    return model.eval()


class _LinearMap:
    """The sums from which the nearest linear map of a module is found, over all rows that pass through it."""

    def __init__(self, module: nn.Module) -> None:
        self._gram = self._cross = torch.zeros((), dtype=torch.float64)
        self._hook = module.register_forward_hook(self._add)

    def _add(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, y = (t.flatten(0, -2).double() for t in (inputs[0], output))
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        self._gram, self._cross = self._gram + x.T @ x, self._cross + x.T @ y

    def close(self) -> None:
        self._hook.remove()

    def mean(self) -> Tensor:
        """Of the output, [d]."""
        return self._cross[-1] / self._gram[-1, -1]

    def solve(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of an nn.Linear, [d, d] and [d]: argmin |x W^T + b - y|^2, with a ridge on W."""
        ridge = torch.full((len(self._gram),), float(_RIDGE * self._gram.diagonal()[:-1].mean()), dtype=torch.float64)
        ridge[-1] = 0
        found = torch.linalg.solve(self._gram + ridge.diag(), self._cross)
        return found[:-1].T, found[-1]
