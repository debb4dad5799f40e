"""One decoder for every architecture of the papers, GPT-2, GPT-NeoX or Llama shaped, pre-norm (Jha & Reagen 2024, §3).

    x0 = embedding_multiplier * (E[ids] + P[positions])                        no P where positions are rotary
    each block:   X_sa  = X + Attention(norm_1(X))
                  X_out = beta * X_sa + (1/alpha) * FFN(norm_2(X_sa))        alpha, beta only where the FFN is scaled
                                                                               parallel residual: FFN(norm_2(X))
    logits = logit_multiplier * final_norm(x) E^T                              or a matrix of its own in place of E

Shapes: B batch, T positions of this call, S keys (T plus what the cache holds), L layers, H heads, d width, V words.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple

from aero.models.attend import Kernel, Rows, Wanted, choose_kernel
from aero.models.attention import Attention, Call, Projections, additive_causal_mask
from aero.models.cache_name import CACHE_NAME, takes_cache
from aero.models.checkpoint import check_loaded
from aero.models.configuration_aero import AeroConfig, TemperatureInit
from aero.models.ffn import INITIAL_SLOPE, PlainFFN, make_ffn
from aero.models.loss import SoftTargets, causal_lm_loss
from aero.models.norm import FrozenNorm, RMSNorm, apply_norm, make_final_norm, make_norm
from aero.models.residual import ResidualLinear
from aero.models.rotary import rotary_angles
from aero.models.shaped_attention import ShapedAttention

_TEMPERATURES: dict[TemperatureInit, float] = {"one": 1.0, "codeparrot": 1e-2, "languini": 1e-1}


@dataclass
class AeroModelOutput(BaseModelOutputWithPast):
    """As BaseModelOutputWithPast, and for each layer, of every attention row [B, H, T]: its entropy in nats, the
    log-sum-exp of its logits, and the lowest logit that it sees."""

    entropies: tuple[Tensor, ...] | None = None
    log_sum_exps: tuple[Tensor, ...] | None = None
    lowest_logits: tuple[Tensor, ...] | None = None


@dataclass
class AeroCausalLMOutput(CausalLMOutputWithPast):
    """As CausalLMOutputWithPast; the rest as in AeroModelOutput."""

    entropies: tuple[Tensor, ...] | None = None
    log_sum_exps: tuple[Tensor, ...] | None = None
    lowest_logits: tuple[Tensor, ...] | None = None


class AeroBlock(nn.Module):
    """One layer: attention, then the FFN in its form. What it lacks of `ffn`, `ffn_alpha` and `ffn_beta` is None."""

    def __init__(self, config: AeroConfig, layer: int) -> None:
        super().__init__()
        form = config.ffn_forms[layer]
        self.norm_1 = make_norm(config)
        simplified = config.block == "simplified"
        self.attention = ShapedAttention(config, layer) if simplified else Attention(config, layer)
        self.norm_2 = nn.Identity() if form == "absent" else make_norm(config)
        self.ffn = make_ffn(config, form)
        self.parallel = config.parallel_residual
        scaled = form.startswith("scaled")
        # One element and not zero dimensions, which sharded training does not take.
        self.ffn_alpha = nn.Parameter(torch.ones(1)) if scaled else None
        self.ffn_beta = nn.Parameter(torch.ones(1)) if scaled else None

    def forward(self, x: Tensor, call: Call) -> tuple[Tensor, Rows]:
        """x: [B, T, d] -> the next layer's x, and what is wanted of attention's rows."""
        attended, rows = self.attention(apply_norm(self.norm_1, x, call.positions), call)
        before, x = x, attended if isinstance(self.attention, ShapedAttention) else x + attended
        if self.ffn is None:
            return x, rows
        y = self.ffn(apply_norm(self.norm_2, before if self.parallel else x, call.positions), call.slope)
        if self.ffn_alpha is not None and self.ffn_beta is not None:
            x, y = self.ffn_beta * x, (1 / self.ffn_alpha) * y
        return x + y, rows


class AeroPreTrainedModel(PreTrainedModel):
    config_class = AeroConfig
    base_model_prefix = "transformer"
    _input_embed_layer = "token_embedding"
    _no_split_modules = ["AeroBlock"]  # noqa: RUF012

    @classmethod
    def from_pretrained(cls, *arguments: Any, **settings: Any) -> Any:
        """As transformers', and ValueError, with names, where it would put in random numbers or leave something out."""
        wanted = settings.pop("output_loading_info", False)
        settings |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # so that all are told together
        where = arguments[0] if arguments else settings.get("pretrained_model_name_or_path")
        try:
            loaded: Any = super().from_pretrained(*arguments, **settings)
        except SafetensorError as error:
            raise ValueError(f"the weights of {where} are damaged ({error}); use a copy, or train again") from None
        except ValueError:
            raise
        except Exception as error:  # transformers has many kinds for a configuration that is none
            raise ValueError(f"the model in {where} is not usable: {' '.join(str(error).split())[:300]}") from None
        model, info = loaded
        check_loaded(model, info, where)
        return (model, info) if wanted else model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """N(0, initializer_range), biases zero, gains, scales and temperatures one; see ResidualLinear.

        transformers calls this only for modules that hold parameters themselves.
        """
        super()._init_weights(module)
        if isinstance(module, ResidualLinear):
            init.normal_(module.weight, std=self.config.initializer_range / math.sqrt(2 * self.config.num_layers))
        elif isinstance(module, Projections):
            self._init_attention(module)
        elif isinstance(module, RMSNorm):
            init.ones_(module.weight)
        elif isinstance(module, FrozenNorm):
            init.ones_(module.weight)
            for tensor in (module.bias, module.log_sigma, module.blend, module.tracked):
                if tensor is not None:
                    init.zeros_(tensor)
        elif isinstance(module, (PlainFFN, AeroModel)) and module.negative_slope is not None:
            init.constant_(module.negative_slope, INITIAL_SLOPE)
        elif isinstance(module, AeroBlock):
            for scale in (module.ffn_alpha, module.ffn_beta):
                if scale is not None:
                    init.ones_(scale)
        elif isinstance(module, AeroForCausalLM) and module.reg_threshold_weights is not None:
            init.constant_(module.reg_threshold_weights, 0.5)

    def _init_attention(self, module: Projections) -> None:
        if isinstance(module, ShapedAttention):
            for scale in (module.skip, module.mix, module.uniform):
                init.ones_(scale)
            init.zeros_(module.q_proj.weight)
        if module.log_temperature is not None:
            kind = self.config.temperature_init
            init.constant_(module.log_temperature, math.log(_TEMPERATURES[kind]))
            if kind != "one" and module.layer == 0:
                warnings.warn(
                    f"temperature_init {kind!r} divides attention logits by {_TEMPERATURES[kind]:g}; it was seen to "
                    "collapse heads and to end in a worse perplexity than no temperature; 'one' does not",
                    stacklevel=2,
                )


class AeroModel(AeroPreTrainedModel):
    """Token ids to the last layer's features.

    attention_kernel: of `aero.models.attend`; None chooses the fastest for each call.
    """

    attention_kernel: Kernel | None = None

    def __init__(self, config: AeroConfig) -> None:
        super().__init__(config)
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = (
            nn.Embedding(config.context, config.hidden_size) if config.positions == "learned" else None
        )
        self.blocks = nn.ModuleList([AeroBlock(config, layer) for layer in range(config.num_layers)])
        self.final_norm = make_final_norm(config)
        shared = config.activation == "leaky_relu_global"
        self.negative_slope = nn.Parameter(torch.full((1,), INITIAL_SLOPE)) if shared else None
        self.post_init()

    @takes_cache
    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_entropies: bool = False,
        output_log_sum_exps: bool = False,
        output_lowest_logits: bool = False,
    ) -> AeroModelOutput:
        """input_ids: [B, T]; attention_mask: [B, S], zero for padding; position_ids: [1 or B, T].

        output_attentions: for each layer [B, H, T, S]; output_hidden_states: what enters each block, and the result;
        output_entropies, output_log_sum_exps, output_lowest_logits: of every attention row, for each layer [B, H, T].
        Raises ValueError for more positions than the context has.
        """
        output_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        output_hidden_states = (
            self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        )
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        past = cache.get_seq_length() if cache is not None else 0
        length = input_ids.shape[1]
        if past + length > self.config.context:
            raise ValueError(
                f"{past + length} tokens do not fit this model's context of {self.config.context}; shorten the text"
            )
        if position_ids is not None:
            self._check_positions(position_ids)
        else:
            position_ids = torch.arange(past, past + length, device=input_ids.device)[None]

        x = self.token_embedding(input_ids)
        if self.position_embedding is not None:
            x = x + self.position_embedding(position_ids)
        angles = rotary_angles(cast(AeroConfig, self.config), position_ids)
        if self.config.embedding_multiplier != 1:
            x = x * self.config.embedding_multiplier
        wanted = Wanted(bool(output_attentions), output_entropies, output_log_sum_exps, output_lowest_logits)
        masked = past > 0 or attention_mask is not None
        kernel = self.attention_kernel or choose_kernel(wanted, length, x.device, masked=masked)
        mask = None
        if kernel == "materialised":
            mask = additive_causal_mask(length, past, attention_mask, x.dtype, x.device)
        elif masked:
            raise ValueError(f"the {kernel} kernel takes no padding and no cache; set attention_kernel to None")
        call = Call(position_ids, kernel, wanted, mask, cache, angles, self.negative_slope)
        hidden_states: list[Tensor] = []
        rows: list[Rows] = []
        for block in self.blocks:
            if output_hidden_states:
                hidden_states.append(x)
            x, found = block(x, call)
            rows.append(found)
        x = apply_norm(self.final_norm, x, position_ids)
        return AeroModelOutput(
            last_hidden_state=x,
            **{CACHE_NAME: cache},
            hidden_states=(*hidden_states, x) if output_hidden_states else None,
            attentions=_each(output_attentions, [r.probabilities for r in rows]),
            entropies=_each(output_entropies, [r.entropy for r in rows]),
            log_sum_exps=_each(output_log_sum_exps, [r.log_sum_exp for r in rows]),
            lowest_logits=_each(output_lowest_logits, [r.lowest for r in rows]),
        )

    def _check_positions(self, positions: Tensor) -> None:
        """Rotary positions turn without end; a table has an end."""
        config = self.config
        tables = config.positions == "learned" or config.attention_temperature == "per_position"
        if (tables or config.norm.endswith("per_position")) and int(positions.max()) >= config.context:
            raise ValueError(
                f"position {int(positions.max())} is beyond what was trained: this model has {config.context} "
                "positions, the first of them 0; shorten the text"
            )


def _each(wanted: bool | None, values: list[Tensor | None]) -> tuple[Tensor, ...] | None:
    return tuple(cast(list[Tensor], values)) if wanted else None


class AeroForCausalLM(AeroPreTrainedModel, GenerationMixin):
    """The decoder with its vocabulary projection; see AeroConfig for its variants."""

    _tied_weights_keys = {"lm_head.weight": "transformer.token_embedding.weight"}  # noqa: RUF012
    # The loss divides by num_items_in_batch, so gradient accumulation gives the mean over all the tokens of a step.
    accepts_loss_kwargs = True

    def __init__(self, config: AeroConfig) -> None:
        super().__init__(config)
        self.transformer = AeroModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        # theta of the entropy regulariser: a fraction of the largest entropy for each head (Jha & Reagen 2025, Alg. 1).
        thresholds = torch.full((config.num_layers, config.num_heads), 0.5) if config.entropy_thresholds else None
        self.reg_threshold_weights = nn.Parameter(thresholds) if thresholds is not None else None
        self.post_init()

    @takes_cache
    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_entropies: bool = False,
        output_log_sum_exps: bool = False,
        output_lowest_logits: bool = False,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        skip_logits: bool | None = None,
        soft_targets: SoftTargets | None = None,
    ) -> AeroCausalLMOutput:
        """input_ids: [B, T] -> logits [B, T, V], and with `labels` the loss in nats per token.

        labels: [B, T], the input ids themselves (they are shifted inside), -100 where a token does not count;
        num_items_in_batch: divide the summed loss by this instead of the tokens here; skip_logits: give none, by
        default while training with labels, where they need never exist as a whole; logits_to_keep: only of the last
        so many positions, or of these indices; soft_targets: a teacher's, for the loss. The other arguments are
        AeroModel's.
        """
        features = self.transformer(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=cache,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            output_entropies=output_entropies,
            output_log_sum_exps=output_log_sum_exps,
            output_lowest_logits=output_lowest_logits,
        )
        x: Tensor = features.last_hidden_state
        loss = logits = None
        multiplier = self.config.logit_multiplier
        if labels is not None:
            loss = causal_lm_loss(
                x,
                self.lm_head.weight,
                labels,
                multiplier=multiplier,
                num_items=num_items_in_batch,
                soft=soft_targets,
            )
        if skip_logits is None:
            skip_logits = self.training and labels is not None
        if not skip_logits:
            if isinstance(logits_to_keep, Tensor):
                x = x[:, logits_to_keep]
            elif logits_to_keep:
                x = x[:, -logits_to_keep:]
            logits = self.lm_head(x)
            if multiplier != 1:
                logits = logits * multiplier
        return AeroCausalLMOutput(
            loss=loss,
            logits=logits,
            **{CACHE_NAME: features.get(CACHE_NAME)},
            hidden_states=features.hidden_states,
            attentions=features.attentions,
            entropies=features.entropies,
            log_sum_exps=features.log_sum_exps,
            lowest_logits=features.lowest_logits,
        )
