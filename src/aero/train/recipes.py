"""The papers' experiments as runs (Jha & Reagen 2024, §5; 2025, §5): each variant of each, at the published sizes; and
one of our own, "frozen-norms".

Two flavours by name. "papers": the published settings, with fp16, GPT-2's scale and the temperatures' published
initialisation. "recommended": what we found at small scale and carry over: multipliers and learning rates by the rule,
temperatures that start at one, the attention penalty, bf16 where there is; it is not tuned at these sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast, get_args

from aero.models import AeroConfig
from aero.models.configuration_aero import TemperatureInit
from aero.models.notation import parse
from aero.models.presets import Scale
from aero.models.stabilize import Placement, Stabilizer
from aero.train.settings import TrainSettings

Flavour = Literal["papers", "recommended"]

CODEPARROT_TOKENS = 16_700_000 * 128  # of one epoch
_BATCH, _ACCUMULATION = 128, 4


def check_flavour(flavour: str) -> None:
    """ValueError for one that there is not."""
    if flavour not in get_args(Flavour):
        raise ValueError(f"flavour is {flavour!r}; choose one of {', '.join(get_args(Flavour))}")


@dataclass(frozen=True)
class Recipe:
    """One whole run but for its data folder. source, tokenizer: how `aero data` makes that, None: train one.

    shape: the AeroConfig's size by name, with `fields` in place of its own; scale: of its multipliers. `variant` of
    `experiment` is its name.
    """

    experiment: str
    variant: str
    notation: str
    shape: str
    source: str
    tokenizer: str | None
    settings: TrainSettings
    scale: Scale
    fields: dict[str, Any] = field(default_factory=dict)

    def config(self, vocab_size: int) -> AeroConfig:
        """The model, with the vocabulary of the data."""
        return AeroConfig.from_notation(
            self.notation, self.shape, scale=self.scale, vocab_size=vocab_size, **self.fields
        )


@dataclass(frozen=True)
class Experiment:
    """What the papers report in one table or figure, or we add to it. variants: names of its runs; `recipe` builds
    one of them."""

    name: str
    title: str
    variants: tuple[str, ...]
    build: Callable[[str, Flavour], Recipe]

    def recipe(self, variant: str, flavour: Flavour = "papers") -> Recipe:
        """ValueError for a variant or a flavour that there is not."""
        if variant not in self.variants:
            raise ValueError(f"{self.name} has no variant {variant!r}; it has {', '.join(self.variants)}")
        check_flavour(flavour)
        return replace(self.build(variant, flavour), experiment=self.name, variant=variant)


def _run(
    notation: str,
    flavour: Flavour,
    shape: str,
    context: int,
    tokens: int = CODEPARROT_TOKENS,
    corpus: Literal["codeparrot", "languini"] = "codeparrot",
) -> Recipe:
    """A run over so many tokens of a corpus."""
    papers, name = flavour == "papers", parse(notation)
    fields: dict[str, Any] = {"context": context}
    if name.temperature != "none":
        fields["temperature_init"] = cast(TemperatureInit, corpus if papers else "one")
    settings = TrainSettings(
        steps=round(tokens / (_BATCH * _ACCUMULATION * context)),
        batch_size=_BATCH,
        gradient_accumulation=_ACCUMULATION,
        learning_rate=1e-3 if papers else 2e-3,
        betas=(0.9, 0.999) if papers else (0.9, 0.95),
        precision="fp16" if papers else "auto",
        # The published module sums over the batch and its positions, and its lambda goes with that.
        entropy_reduction="sum" if papers else "mean",
        entropy_weight={"codeparrot": 1e-5, "languini": 5e-5}[corpus] if papers else 0.1,
        zatt=0.0 if papers else 0.01,
        valid_blocks=None,
    )
    source = "codeparrot"
    tokenizer: str | None = "huggingface-course/code-search-net-tokenizer"
    if corpus == "languini":
        source, tokenizer = "languini-books", None
    scale: Scale = "gpt2" if papers else "width"
    return Recipe("", "", notation, shape, source, tokenizer, settings if papers else settings.by_rule(), scale, fields)


def _stabiliser(variant: str, flavour: Flavour) -> Recipe:
    """ "weight_norm/QK+FFN", or "scaled"."""
    if variant == "scaled":
        return _run("SM+ScFuFFN", flavour, "gpt2-small", 128)
    stabilizer, _, placement = variant.partition("/")
    run = _run("SM", flavour, "gpt2-small", 128)
    settings = replace(
        run.settings,
        stabilizer=cast(Stabilizer, stabilizer),
        stabilizer_placement=cast(Placement, placement),
    )
    return replace(run, settings=settings)


def _names(scaled: tuple[str, ...], deepest: int) -> tuple[str, ...]:
    return (*scaled, f"SM+ScFuFFN_i{deepest}", "EReg(SM(t)+ScFuFFN)", f"EReg(SM(t)+ScFuFFN_i{deepest})")


_BASES = ("SM+LN+G", "SM+LN+R")
_SIMPLIFIED = ("SAS(SM+ScFFN)", "SAS(SM+ScFuFFN)", "SAS(SM+ScFuFFN_i1)")
_AERO = ("SM+ScFFN", "SM+ScFuFFN")
_STUDY = ("SM+LN+G", "SM+LN+R", "SM+LN", "SM+G", "SM+R", "SM")
_FROZEN = ("SM+LN+G", "SM+FLN+R", "SM+FLN", "SM+FLN+ScFuFFN", "SM+FLN+ScFuFFN_i6", "EReg(SM(t)+FLN+ScFuFFN_i6)")
_PLACED = tuple(f"{norm}/{place}" for norm in ("weight_norm", "spectral_norm") for place in get_args(Placement))


def _languini(name: str, tokens: int) -> Experiment:
    return Experiment(
        f"languini-{name}",
        f"GPT-2 small on Languini books, T=512, {tokens / 1e9:.1f}B tokens",
        _names((*_BASES, "SAS(SM+ScFFN)", *_AERO), 1),
        lambda v, f: _run(v, f, "gpt2-small", 512, tokens, "languini"),
    )


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "codeparrot-128",
            "GPT-2 small on CodeParrot, T=128",
            _names((*_BASES, *_SIMPLIFIED, *_AERO), 6),
            lambda v, f: _run(v, f, "gpt2-small", 128),
        ),
        Experiment(
            "codeparrot-256",
            "GPT-2 small on CodeParrot, T=256",
            _names((*_BASES, *_SIMPLIFIED[:2], *_AERO), 6),
            lambda v, f: _run(v, f, "gpt2-small", 256),
        ),
        Experiment(
            "codeparrot-18-layers",
            "GPT-2 with 18 layers on CodeParrot, T=128",
            _names((*_BASES, _SIMPLIFIED[0], *_AERO), 4),
            lambda v, f: _run(v, f, "gpt2-small-18", 128),
        ),
        _languini("1.2B", 1_200_000_000),
        _languini("2.4B", 2_400_000_000),
        _languini("4.8B", 4_800_000_000),
        Experiment(
            "nonlinearities",
            "What each nonlinearity is worth: GPT-2 small on CodeParrot, T=128",
            _STUDY,
            lambda v, f: _run(v, f, "gpt2-small", 128),
        ),
        Experiment(
            "frozen-norms",
            "LayerNorms that end as constants, which cost nothing privately: GPT-2 small on CodeParrot, T=128",
            _FROZEN,
            lambda v, f: _run(v, f, "gpt2-small", 128),
        ),
        Experiment(
            "pythia-128",
            "What each nonlinearity is worth: Pythia-70M on CodeParrot, T=128",
            _STUDY[:-1],
            lambda v, f: _run(v, f, "pythia-70m", 128),
        ),
        Experiment(
            "pythia-256",
            "What each nonlinearity is worth: Pythia-70M on CodeParrot, T=256",
            _STUDY[:-1],
            lambda v, f: _run(v, f, "pythia-70m", 256),
        ),
        Experiment(
            "stabilisers",
            "Weight and spectral normalisation by placement, and FFN scaling: GPT-2 small on CodeParrot, T=128",
            (*_PLACED, "scaled"),
            _stabiliser,
        ),
        Experiment(
            "leaky-relu",
            "The slope that LN-free models learn, per layer and global: GPT-2 small on CodeParrot, T=128",
            ("SM+LR", "SM+LR(g)", "SM+LN+LR", "SM+LN+LR(g)"),
            lambda v, f: _run(v, f, "gpt2-small", 128),
        ),
    )
}


def experiment(name: str) -> Experiment:
    """The experiment of that name. ValueError, listing them, where there is none."""
    if name not in EXPERIMENTS:
        raise ValueError(f"no recipe {name!r}; there are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]
