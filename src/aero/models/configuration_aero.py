"""The configuration of an AERO decoder: its architectural axes, validated (Jha & Reagen 2024, §3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any, Literal, cast, get_args

from transformers import PreTrainedConfig

from aero.models import notation, presets
from aero.models.cache_name import CACHE_NAME
from aero.models.notation import Activation, Block, Ffn, Norm, Notation, Temperature
from aero.models.presets import Positions, Scale, Size

FORMAT_VERSION = 1

TemperatureInit = Literal["one", "codeparrot", "languini"]


class AeroConfig(PreTrainedConfig):
    """A GPT-2, GPT-NeoX or Llama shaped decoder, V tokens, T positions, L layers, H heads, width d.

    num_key_heads: heads of keys and values, each of which serves as many heads of queries (Ainslie et al. 2023); 0, the
        default: H. head_width: features of a head; 0: d / H. ffn_width: features inside an FFN; 0: 4 d.
    qkv_bias, o_bias, ffn_bias: whether those matrices have biases.
    qk_norm: are queries and keys of each head normalised, by RMSNorm with a gain for each of the head's features? It
        is frozen where other norms are.

    ffn: the form of the FFN, one word for all layers or a list of L words:
        plain         X + FFN(X),                    FFN(X) = act(X W_in) W_out
        scaled        beta X + FFN(X) / alpha        alpha, beta: learnable, one of each per layer
        gated         X + FFN(X),                    FFN(X) = (act(X W_gate) * X W_in) W_out (Shazeer 2020)
        scaled_gated  beta X + FFN(X) / alpha
        fused         X + X W                        W: d x d, no activation
        scaled_fused  beta X + (X W) / alpha
        absent        X
    norm: "layer"; "rms", without mean and bias (Zhang & Sennrich 2019); "none"; or "frozen" and "frozen_rms", which
        begin as these and end with a constant in place of each row's standard deviation or root mean square, one for
        each norm (with "_per_position": for each position), see `aero.models.norm`.
    activation: "gelu" (the tanh form, GPT-2), "gelu_erf" (the exact form, GPT-NeoX), "silu", "relu", "leaky_relu" with
        a learnable negative slope for each layer, "leaky_relu_global" with one for all layers, or "identity".
    block: "standard", or "simplified": no values and output projections, shaped attention, one LayerNorm at the end
        whatever `norm` says (He & Hofmann 2024, §4), see `aero.models.shaped_attention`.
    positions: "learned", a vector for each position added to the embedding; or "rotary", queries and keys turned by
        angles that grow with the position (Su et al. 2021, §3.4): the first rotary_fraction of each head's features, in
        GPT-NeoX's order (feature i with i + n/2, n turned ones), position times rotary_base^(-2i/n).
    rotary_scaling: None; or {factor}, by which these frequencies are divided; or {factor, low, high, original}: only
        those that turn less than `low` times in `original` positions, those that turn more than `high` times not at
        all, and those between in proportion (Llama 3).
    parallel_residual: attention and FFN both read X: X + Attention(norm_1 X) + FFN(norm_2 X) (Black et al. 2022, §2.1).
    tie_embeddings: is the output embedding the input embedding, or a matrix of its own?
    attention_temperature: divides the attention logits, learnable as t = exp(s): "none", "per_head", or
        "per_position" for each head. temperature_init: "one"; "codeparrot" (1e-2) and "languini" (1e-1) are the papers'
        (Jha & Reagen 2025, §4), which make heads collapse.
    entropy_thresholds: does the model carry the entropy regulariser's learnable thresholds [L, H]?
    embedding_multiplier, logit_multiplier: public constants, see `aero.models.presets`.
    Raises ValueError for values that do not make a model, and for another format version.
    """

    model_type = "aero"
    keys_to_ignore_at_inference = [CACHE_NAME, "entropies", "log_sum_exps", "lowest_logits"]  # noqa: RUF012
    attribute_map = {  # noqa: RUF012
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "num_key_value_heads": "num_key_heads",
        "head_dim": "head_width",
        "max_position_embeddings": "context",
        "tie_word_embeddings": "tie_embeddings",
    }

    vocab_size: int = 4096
    context: int = 128
    num_layers: int = 6
    num_heads: int = 4
    num_key_heads: int = 0
    hidden_size: int = 128
    head_width: int = 0
    ffn_width: int = 0
    norm: Norm = "layer"
    activation: Activation = "gelu"
    ffn: Ffn | Sequence[Ffn] = "plain"
    block: Block = "standard"
    qkv_bias: bool = True
    o_bias: bool = True
    ffn_bias: bool = True
    qk_norm: bool = False
    positions: Positions = "learned"
    rotary_fraction: float = 0.25
    rotary_base: float = 10_000.0
    rotary_scaling: dict[str, float] | None = None
    parallel_residual: bool = False
    attention_temperature: Temperature = "none"
    temperature_init: TemperatureInit = "one"
    entropy_thresholds: bool = False
    embedding_multiplier: float = 1.0
    logit_multiplier: float = 1.0
    tie_embeddings: bool = True
    initializer_range: float = 0.02
    norm_eps: float = 1e-5
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    format_version: int = FORMAT_VERSION

    if not is_dataclass(PreTrainedConfig):  # as in transformers 5.0, which makes no dataclass of its subclasses either

        def __init__(self, **values: Any) -> None:
            names = {ours: theirs for theirs, ours in AeroConfig.attribute_map.items()}
            given = {name: values.pop(name, values.get(names.get(name, name))) for name in AeroConfig.__annotations__}
            super().__init__(**values)
            for name, value in given.items():
                setattr(self, name, getattr(AeroConfig, name) if value is None else value)
            self.__post_init__()

    def __post_init__(self, **kwargs: Any) -> None:
        if is_dataclass(PreTrainedConfig):
            super().__post_init__(**kwargs)
        if self.format_version != FORMAT_VERSION:
            raise ValueError(
                f"this model has format version {self.format_version}, and this aero reads version {FORMAT_VERSION}; "
                "use the version of aero that wrote it, or train it again"
            )
        self._check_counts("vocab_size", "context", "num_layers", "num_heads", "hidden_size")
        if not self.head_width and self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}; change one of them"
            )
        self.num_key_heads = self.num_key_heads or self.num_heads
        self.head_width = self.head_width or self.hidden_size // self.num_heads
        self.ffn_width = self.ffn_width or 4 * self.hidden_size
        self._check_counts("num_key_heads", "head_width", "ffn_width")
        if self.num_heads % self.num_key_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is no multiple of num_key_heads {self.num_key_heads}; change one of them"
            )
        for field in (
            "embedding_multiplier",
            "logit_multiplier",
            "initializer_range",
            "norm_eps",
            "rotary_fraction",
            "rotary_base",
        ):
            value = getattr(self, field)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
                raise ValueError(f"{field} is {value!r}; give a positive number")
            setattr(self, field, float(value))
        self.ffn = [self.ffn] * self.num_layers if isinstance(self.ffn, str) else list(self.ffn)
        if len(self.ffn) != self.num_layers:
            raise ValueError(f"ffn names {len(self.ffn)} layers of {self.num_layers}; give one word, or one per layer")
        for field, allowed in (("norm", Norm), ("activation", Activation), ("attention_temperature", Temperature)):
            _one_of(field, getattr(self, field), get_args(allowed))
        _one_of("positions", self.positions, get_args(Positions))
        _one_of("block", self.block, get_args(Block))
        _one_of("temperature_init", self.temperature_init, get_args(TemperatureInit))
        if self.block == "simplified" and self.parallel_residual:
            raise ValueError("the simplified block has no parallel residual; drop one of the two")
        for field in ("parallel_residual", "qkv_bias", "o_bias", "ffn_bias", "qk_norm"):
            if not isinstance(getattr(self, field), bool):
                raise ValueError(f"{field} is {getattr(self, field)!r}; give true or false")
        usual = self.num_key_heads == self.num_heads and self.head_width * self.num_heads == self.hidden_size
        if self.block == "simplified" and (self.qk_norm or not usual):
            raise ValueError("the simplified block has as many heads of keys, of d / H features, and no norms of them")
        if self.positions == "rotary":
            self._check_rotary()
        for layer, form in enumerate(self.ffn):
            _one_of(f"ffn of layer {layer}", form, get_args(Ffn))
            if form in ("fused", "scaled_fused") and self.activation != "identity":
                raise ValueError(
                    f"a fused FFN has no activation, so activation must be 'identity', not {self.activation!r}"
                )

    @classmethod
    def from_notation(
        cls, name: str | Notation, shape: str | Size, *, scale: Scale = "width", **overrides: Any
    ) -> AeroConfig:
        """The configuration of a name ("SM+ScFuFFN") at a size (a name or a Size of `aero.models.presets`).

        scale: of the multipliers, see `presets.config_fields`; overrides: any fields, after the notation and the size;
        vocab_size, context, num_layers and hidden_size among them replace the size's own.
        """
        parsed = notation.parse(name) if isinstance(name, str) else name
        shape = presets.size(shape) if isinstance(shape, str) else shape
        own = ("vocab_size", "context", "num_layers", "hidden_size")
        sizes = {key: overrides.pop(key) for key in own if key in overrides}
        return cls(**{**presets.config_fields(parsed, shape, scale=scale, **sizes), **overrides})

    def with_notation(self, name: str | Notation) -> AeroConfig:
        """Another architecture of the same sizes, positions and multipliers: what `start_from` may take weights to."""
        parsed = notation.parse(name) if isinstance(name, str) else name
        fields = {key: getattr(self, key) for key in AeroConfig.__annotations__ if not key.startswith("_")}
        fields |= parsed.config_fields(self.num_layers)
        if fields["activation"] == "gelu" and self.activation == "gelu_erf":
            fields["activation"] = self.activation
        return AeroConfig(**fields)

    def _check_rotary(self) -> None:
        if self.rotary_fraction > 1 or self.rotary_base <= 1:
            raise ValueError(
                f"rotary_fraction is {self.rotary_fraction:g} and rotary_base {self.rotary_base:g}; give a fraction of "
                "at most 1, and a base above 1"
            )
        if self.rotary_width < 2 or self.rotary_width % 2:
            raise ValueError(
                f"rotary_fraction {self.rotary_fraction:g} of heads of {self.head_width} features "
                f"turns {self.rotary_width} of them; they turn in pairs, so choose a fraction that gives an even number"
            )
        if self.rotary_scaling is not None:
            presets.check_rotary_scaling(self.rotary_scaling)

    def _check_counts(self, *fields: str) -> None:
        for field in fields:
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{field} is {value!r}; give a whole number of at least 1")

    @property
    def rotary_width(self) -> int:
        """How many features of each head are turned: rotary_fraction of them, rounded down."""
        return int(self.head_width * self.rotary_fraction)

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """The ids after which a text has ended: `eos_token_id`, of which there may be none, one or several."""
        ends = self.eos_token_id
        return () if ends is None else (ends,) if isinstance(ends, int) else tuple(ends)

    @property
    def ffn_forms(self) -> list[Ffn]:
        """`ffn` for each of the L layers."""
        return cast(list[Ffn], self.ffn)

    @property
    def notation(self) -> Notation:
        """The papers' name of this architecture. Raises ValueError where they have none."""
        return notation.of_fields(
            norm=self.norm,
            activation=self.activation,
            ffn=self.ffn_forms,
            attention_temperature=self.attention_temperature,
            entropy_thresholds=self.entropy_thresholds,
            block=self.block,
        )


def _one_of(field: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{field} is {value!r}; choose one of {', '.join(allowed)}")
