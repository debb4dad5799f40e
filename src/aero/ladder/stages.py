"""From a model that exists towards a cheaper rung: the stages on the way, and what each begins with.

1. smooth activations become ReLU
2. norms become affine, by frozen statistics
3. FFNs lose their gates
4. FFNs are scaled, or fused: one matrix, the best linear map in place of two with an activation between them
5. FFNs are left out, the deepest first
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from aero.models import AeroConfig, AeroForCausalLM
from aero.models.attention import Attention
from aero.models.ffn import FusedFFN, PlainFFN
from aero.models.modeling_aero import AeroBlock
from aero.models.notation import BEGINS_AS, Ffn, Notation

_FREEZING = "norms frozen"
_UNGATED: dict[Ffn, Ffn] = {"gated": "plain", "scaled_gated": "scaled"}
_SCALED: dict[Ffn, Ffn] = {"gated": "scaled_gated", "plain": "scaled"}
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
    if source.norm == BEGINS_AS.get(target.norm):
        stage(_FREEZING, norm=target.norm)
    if now.ffn in _UNGATED and target.ffn not in ("gated", "scaled_gated"):
        stage("gates dropped", ffn=_UNGATED[now.ffn])
    if target.ffn == "scaled_fused" and now.ffn != "scaled_fused":
        stage("FFNs fused", activation="identity", ffn="scaled_fused")
    elif target.ffn == _SCALED.get(now.ffn):
        stage("FFNs scaled", ffn=target.ffn)
    for pruned in range(now.pruned + 1, target.pruned + 1):
        stage(f"FFNs pruned: {pruned}", pruned=pruned)
    if now != target:
        raise ValueError(
            f"no way from {source} to {target}: GELU and SiLU become R, LN becomes FLN and RMS FRMS (free of cost once "
            "compiled), GaFFN loses its gate, and FFNs become ScFFN, ScFuFFN or ScFuFFN_ik; all else stays as it is"
        )
    return found


@torch.no_grad()
def begin_with(source: AeroForCausalLM, config: AeroConfig, texts: Iterable[Tensor]) -> AeroForCausalLM:
    """A model of another architecture that computes nearly what `source` does; its weights where they fit.

    A fused FFN is the linear map that is nearest to the source's on the texts (least squares); one that loses its gate
    ends in the linear map of its activations that is nearest; one that is left out leaves its mean where attention has
    a bias.
    texts: batches of ids, [B, T], as many as say what the FFNs see; ones that change no FFN need none.
    """
    source.eval()
    model = AeroForCausalLM(config)
    model.to(dtype=source.dtype)  # type: ignore[call-arg]
    ours = model.state_dict()
    for name, value in source.state_dict().items():
        if name in ours and ours[name].shape == value.shape:
            ours[name].copy_(value)
    changed: list[tuple[AeroBlock, AeroBlock, _LinearMap]] = []
    for before, after in zip(source.transformer.blocks, model.transformer.blocks, strict=True):
        assert isinstance(before, AeroBlock) and isinstance(after, AeroBlock)
        if before.ffn is None or _alike(before.ffn, after.ffn):
            continue
        if isinstance(after.ffn, PlainFFN):
            _drop_gates(before.ffn, after.ffn)
        features = _itself if after.ffn is None else after.ffn.features
        changed.append((before, after, _LinearMap(before.ffn, features)))
    if changed:
        for ids in texts:
            source(input_ids=ids, logits_to_keep=1)
    for before, after, found in changed:
        found.close()
        if after.ffn is not None:
            found.into(after.ffn.w if isinstance(after.ffn, FusedFFN) else after.ffn.w_out)
        elif isinstance(after.attention, Attention) and (bias := after.attention.o_proj.bias) is not None:
            bias.add_(found.mean().to(bias) / (1.0 if before.ffn_alpha is None else before.ffn_alpha))
    return model.eval()


def _itself(x: Tensor, slope: Tensor | None) -> Tensor:
    return x


def _alike(before: nn.Module, after: nn.Module | None) -> bool:
    kinds = [(type(ffn), getattr(ffn, "w_gate", None) is None) for ffn in (before, after)]
    return kinds[0] == kinds[1]


def _drop_gates(before: nn.Module, after: PlainFFN) -> None:
    """W_in of an FFN that has none: W_gate + W_in, and W_out is yet to be found.

    Of a trained model of size demo-llama, this raises perplexity by 5 %, W_gate alone by 6 to 7 %, W_in by 10 %; W_gate
    with each row of W_out scaled in place of least squares by more than a half. relu(g) u, where g > 0, is a quarter of
    (g + u)^2 - (g - u)^2, so it grows with g + u as much as with g.
    """
    assert isinstance(before, PlainFFN) and before.w_gate is not None
    matrices = (before.w_gate.parameters(), before.w_in.parameters())
    for ours, gate, inner in zip(after.w_in.parameters(), *matrices, strict=True):
        ours.copy_(gate + inner)


class _LinearMap:
    """The sums from which the nearest linear map of features of a module's inputs to its output is found, over all rows
    that pass through it."""

    def __init__(self, module: nn.Module, features: Callable[..., Tensor]) -> None:
        self._features = features
        self._gram = self._cross = torch.zeros((), dtype=torch.float64)
        self._hook = module.register_forward_hook(self._add)

    def _add(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, y = (t.flatten(0, -2).double() for t in (self._features(*inputs), output))
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        self._gram, self._cross = self._gram + x.T @ x, self._cross + x.T @ y

    def close(self) -> None:
        self._hook.remove()

    def mean(self) -> Tensor:
        """Of the output, [d]."""
        return self._cross[-1] / self._gram[-1, -1]

    def into(self, layer: nn.Linear) -> None:
        """Weight and bias, if it has one: argmin |x W^T + b - y|^2, with a ridge on W."""
        ridge = torch.full((len(self._gram),), float(_RIDGE * self._gram.diagonal()[:-1].mean()), dtype=torch.float64)
        ridge[-1] = 0
        kept = len(ridge) - (layer.bias is None)  # the last column is the constant's
        found = torch.linalg.solve((self._gram + ridge.diag())[:kept, :kept], self._cross[:kept])
        layer.weight.copy_(found[: layer.in_features].T)
        if layer.bias is not None:
            layer.bias.copy_(found[-1])
