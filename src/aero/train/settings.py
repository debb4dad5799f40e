"""How to train: the settings of one run, and the precision a machine is good at."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from aero.entropy.regularizer import EntropyRegularizer, Reduction, Reference
from aero.entropy.window import WindowPenalty
from aero.files.reading import interpreting, typed
from aero.models.presets import BASE_DEPTH, BASE_WIDTH
from aero.models.stabilize import Placement, Stabilizer
from aero.train.freezing import FreezeOrder, FreezeSchedule

Precision = Literal["auto", "bf16", "fp16", "float32"]


@dataclass(frozen=True)
class Teacher:
    """A trained model whose distributions a run learns beside the text (Hinton et al. 2015, §2), `aero.train.teacher`.

    path: its run folder; sha256: of its run.json, which names the hashes of its other files. weight: of the divergence
    from it in the loss; the text's cross-entropy has the rest. temperature: divides the logits of both.
    """

    path: str
    sha256: str
    weight: float = 0.9
    temperature: float = 2.0

    def __post_init__(self) -> None:
        _require(0 < self.weight <= 1, "the teacher's weight", self.weight, "above 0 and at most 1")
        fine = 0 < self.temperature < math.inf
        _require(fine, "the teacher's temperature", self.temperature, "above 0")


@dataclass(frozen=True)
class TrainSettings:
    """One training run: AdamW, linear warm-up, linear decay to zero (Jha & Reagen 2024, §5, at a smaller budget)."""

    steps: int = 1000
    """Optimizer steps."""
    batch_size: int = 16
    """Blocks of the context length in one forward pass, on each device."""
    gradient_accumulation: int = 1
    """Forward passes for one optimizer step."""
    learning_rate: float = 2e-3
    """Peak, reached at the end of the warm-up."""
    base_width: int | None = None
    """Width for which that was chosen: at another, matrices of the blocks learn at base_width / width of the rate (Yang
    et al. 2022, table 3, for Adam). None: the same for all."""
    base_depth: int | None = None
    """Number of layers for which that was chosen: at L, matrices whose outputs are added to the residual stream learn
    at sqrt(base_depth / L) of the rate. They begin 1/sqrt(2L) as large, so with Adam that is what a residual multiplier
    by depth comes to (Yang et al. 2023, table 1), with nothing left at inference. None: the same for all."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates."""
    adam_eps: float = 1e-8
    """AdamW's epsilon."""
    weight_decay: float = 0.1
    """On the weights of linear layers and embeddings only; never on biases, norms and scales."""
    warmup_fraction: float = 0.05
    """Share of the steps in which the learning rate rises from zero."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm where it is larger."""
    seed: int = 0
    """Decides the initial weights and the order of the text."""
    entropy_weight: float = 1e-5
    """lambda of the entropy regulariser, for EReg architectures only (Jha & Reagen 2025, Alg. 1)."""
    entropy_margin: float = 0.2
    """gamma: how far a head's entropy may be from its threshold without penalty, as a fraction of log T."""
    entropy_reduction: Reduction = "mean"
    """What deviates: each head's mean entropy ("mean"), or every query position's, summed ("sum")."""
    entropy_reference: Reference = "context"
    """E_max: log of the context, as in the papers, or of the number of keys that each row sees ("rows")."""
    zatt: float = 0.0
    """Weight of the penalty on attention's log-sum-exp beyond a bound (`aero.entropy.window`); 0.01 to 1 are usual."""
    zatt_bound: float = 2.0
    """The |log-sum-exp| of an attention row that is free of it, in nats."""
    stabilizer: Stabilizer = "none"
    """Normalisation of linear layers while training (`aero.models.stabilize`); none of it is left afterwards."""
    stabilizer_placement: Placement = "FFN"
    """Which layers: of queries (Q), keys (K), values (V), attention's output (O) and the FFNs."""
    freeze_start: float = 0.5
    """Fraction of the run at which the norms of an FLN or FRMS architecture begin to become constant."""
    freeze_stop: float = 0.8
    """Fraction of the run from which they are constant."""
    freeze_order: FreezeOrder = "together"
    """All of them together, or one after another ("one_by_one"), which a trained model needs."""
    start_from: str | None = None
    """Folder of a trained model whose weights this run begins with."""
    teacher: Teacher | None = None
    """A trained model to learn from (`aero.train.teacher.as_teacher`); the loss in the metrics then counts it, too."""
    precision: Precision = "auto"
    """Of matrix products while training; weights are float32. "auto": bf16 where the machine computes in it; "fp16",
    with a scaled loss, needs a GPU."""
    compile: bool = False
    """Compile the model by torch.compile; worth its minutes on a GPU and a long run."""
    fsdp: bool = False
    """Shard weights, gradients and optimizer states over the processes (FSDP2); needs GPUs and torchrun."""
    log_every: int = 10
    """Steps from one line of metrics to the next."""
    measure_every: int = 50
    """Steps from one line of live measures (entropies, scales) to the next; 0: none."""
    wandb_project: str | None = None
    """Also log to this project of Weights & Biases, where that is installed."""
    save_every: int = 200
    """Steps from one checkpoint to the next."""
    keep_checkpoints: int = 2
    """How many of the latest checkpoints stay on disk: at least 2, one to fall back to where the other is damaged."""
    valid_blocks: int | None = 512
    """Validation blocks for the perplexity at the end; None: all."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        for name in ("steps", "batch_size", "gradient_accumulation", "log_every", "save_every"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("base_width", "base_depth"):
            _require(getattr(self, name) is None or getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(self.keep_checkpoints >= 2, "keep_checkpoints", self.keep_checkpoints, "at least 2")
        _require(self.measure_every >= 0, "measure_every", self.measure_every, "at least 0")
        _require(self.valid_blocks is None or self.valid_blocks >= 1, "valid_blocks", self.valid_blocks, "at least 1")
        for name in ("learning_rate", "adam_eps", "max_grad_norm"):
            _require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "above 0")
        _require(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "at least 0")
        _require(0 <= self.warmup_fraction <= 1, "warmup_fraction", self.warmup_fraction, "between 0 and 1")
        _require(len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "betas", self.betas, "two in [0, 1)")
        _require(0 <= self.seed < 1 << 32, "seed", self.seed, "between 0 and 2^32 - 1")
        self.regularizer()  # checks its settings, as the next two do
        self.window_penalty()
        self.freeze_schedule()
        for name, kind in (("stabilizer", Stabilizer), ("stabilizer_placement", Placement)):
            value = getattr(self, name)
            _require(value in get_args(kind), name, value, f"one of {', '.join(get_args(kind))}")
        if self.fsdp and self.stabilizer != "none":
            raise ValueError("a stabiliser cannot be taken off sharded weights; train without fsdp, or without it")
        _require(self.precision in get_args(Precision), "precision", self.precision, ", ".join(get_args(Precision)))

    def by_rule(self) -> TrainSettings:
        """With rates of any width and depth by the rule, as `presets.by_width` has the multipliers."""
        return replace(self, base_width=BASE_WIDTH, base_depth=BASE_DEPTH)

    def regularizer(self) -> EntropyRegularizer:
        return EntropyRegularizer(
            self.entropy_weight, self.entropy_margin, self.entropy_reduction, self.entropy_reference
        )

    def window_penalty(self) -> WindowPenalty | None:
        penalty = WindowPenalty(self.zatt, self.zatt_bound)
        return penalty if self.zatt else None

    def freeze_schedule(self) -> FreezeSchedule:
        return FreezeSchedule(self.freeze_start, self.freeze_stop, self.freeze_order)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "betas": list(self.betas)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TrainSettings:
        """Raises ValueError for unknown keys, and values of another type."""
        with interpreting("the JSON of settings"):
            found: TrainSettings = typed(cls, data)
        return found


def _require(fine: bool, name: str, value: object, wanted: str) -> None:
    if not fine:
        raise ValueError(f"{name} is {value!r}; it must be {wanted}")


def choose_precision(precision: Precision) -> Literal["bf16", "fp16", "float32"]:
    """The precision to train in: as told, or bf16 where this machine's accelerator, or its CPU, computes in it.

    ValueError for fp16 without a GPU.
    """
    if precision == "fp16" and not torch.accelerator.is_available():
        raise ValueError("fp16 needs a GPU; use precision bf16 or float32 on this machine")
    if precision != "auto":
        return precision
    on_gpu = torch.cuda.is_available()
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else _cpu_has_bf16()
    return "bf16" if has_bf16 else "float32"


def _cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    # A CPU without these computes bf16 products by way of float32, slower than float32 itself.
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "").split()
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)
