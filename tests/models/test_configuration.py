"""AeroConfig: validation, saving, and the way from a name and a size to a configuration."""

import json

import pytest
from transformers import AutoConfig

from aero.models import AeroConfig
from aero.models.notation import KNOWN
from aero.models.presets import SIZES, TRAITS


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_layers": 0}, "num_layers is 0"),
        ({"vocab_size": 12.5}, "vocab_size is 12.5"),
        ({"hidden_size": 100, "num_heads": 3}, "not a multiple of num_heads"),
        ({"norm": "batch"}, "norm is 'batch'; choose one of layer, rms, none, frozen, frozen_per_position"),
        ({"num_heads": 4, "num_key_heads": 3}, "num_heads 4 is no multiple of num_key_heads 3"),
        ({"num_key_heads": -1}, "num_key_heads is -1"),
        ({"head_width": 2.5}, "head_width is 2.5"),
        ({"ffn_width": -4}, "ffn_width is -4"),
        ({"qkv_bias": "no"}, "qkv_bias is 'no'"),
        ({"block": "simplified", "num_key_heads": 1}, "the simplified block has as many heads of keys"),
        ({"positions": "rotary", "rotary_scaling": {"factor": 0.0}}, "give a positive factor, alone or with"),
        (
            {"positions": "rotary", "rotary_scaling": {"factor": 2.0, "low": 1.0}},
            "alone or with low, high and original",
        ),
        (
            {"positions": "rotary", "rotary_scaling": {"factor": 2.0, "low": 4.0, "high": 4.0, "original": 8.0}},
            "low the smaller",
        ),
        ({"block": "small"}, "block is 'small'; choose one of standard, simplified"),
        ({"block": "simplified", "parallel_residual": True}, "no parallel residual"),
        ({"temperature_init": "zero"}, "temperature_init is 'zero'"),
        ({"activation": "swish"}, "activation is 'swish'"),
        ({"ffn": "open", "num_layers": 2}, "ffn of layer 0 is 'open'"),
        ({"ffn": ["plain"], "num_layers": 2}, "ffn names 1 layers of 2"),
        ({"ffn": "fused", "activation": "relu"}, "must be 'identity', not 'relu'"),
        ({"attention_temperature": "global"}, "attention_temperature is 'global'"),
        ({"embedding_multiplier": 0}, "embedding_multiplier is 0"),
        ({"norm_eps": float("nan")}, "norm_eps is nan"),
        ({"positions": "absolute"}, "positions is 'absolute'; choose one of learned, rotary"),
        ({"positions": "rotary", "rotary_fraction": 1.5}, "rotary_fraction is 1.5"),
        ({"positions": "rotary", "rotary_fraction": 0.1}, "turns 3 of them; they turn in pairs"),
        ({"positions": "rotary", "rotary_base": 1}, "rotary_base 1"),
        ({"parallel_residual": "yes"}, "parallel_residual is 'yes'"),
        ({"format_version": 2}, "format version 2, and this aero reads version 1"),
    ],
)
def test_bad_values_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        AeroConfig(**fields)


@pytest.mark.parametrize(
    ("name", "size"),
    [*((name, "nano") for name in KNOWN), *(("SM+R", size) for size in SIZES if SIZES[size].family in TRAITS)],
)
def test_round_trip_through_disk(name, size, tmp_path):
    config = AeroConfig.from_notation(name, size, num_layers=8, eos_token_id=3)
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is AeroConfig
    fields = AeroConfig.__dataclass_fields__
    differing = {f for f in fields if f != "architectures" and getattr(again, f) != getattr(config, f)}
    assert differing <= {"transformers_version"}
    assert str(again.notation) == name


def test_another_format_version_is_refused_on_load(tmp_path):
    AeroConfig().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(ValueError, match="format version 99"):
        AutoConfig.from_pretrained(tmp_path)


def test_multipliers_follow_the_architecture_and_the_scale():
    def multipliers(name, **settings):
        config = AeroConfig.from_notation(name, "nano", **settings)
        return config.embedding_multiplier, config.logit_multiplier

    assert multipliers("SM+R") == (64, 4)
    assert multipliers("SM+FLN+ScFuFFN") == (1, 8)
    assert multipliers("SM+R", scale="gpt2") == multipliers("SM+LN+G", scale="gpt2") == (1, 1)
    assert multipliers("SM+R", embedding_multiplier=4) == (4, 4)
    with pytest.raises(ValueError, match="scale is 'large'"):
        multipliers("SM+R", scale="large")


@pytest.mark.parametrize("size", [name for name, size in SIZES.items() if size.family in TRAITS])
@pytest.mark.parametrize("name", ["SM+LN+G", "SM+FLN+ScFuFFN", "SM+RMS+R", "SM+R", "SM+ScFuFFN"])
def test_the_rule_is_what_it_is_defined_to_be(name, size):
    """With norms: embeddings as they are, logits 1024 / width. Without: embeddings times 64, logits 512 / width."""
    config = AeroConfig.from_notation(name, size)
    expected = (64, 512) if config.norm == "none" else (1, 1024)
    assert (config.embedding_multiplier, config.logit_multiplier * config.hidden_size) == expected


def test_overrides_replace_the_size():
    config = AeroConfig.from_notation("SM+ScFuFFN_i1", "nano", vocab_size=300, num_layers=3, context=16)
    assert (config.vocab_size, config.num_layers, config.context, config.hidden_size) == (300, 3, 16, 128)
    assert config.ffn == ["scaled_fused", "scaled_fused", "absent"]


def test_unknown_size_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown size 'huge'; known: demo, nano, demo-llama, nano-llama, gpt2-small"):
        AeroConfig.from_notation("SM", "huge")


def test_names_of_other_configurations_work():
    config = AeroConfig(
        num_hidden_layers=3, num_attention_heads=2, max_position_embeddings=10, tie_word_embeddings=False
    )
    assert (config.num_layers, config.num_heads, config.context, config.tie_embeddings) == (3, 2, 10, False)
    assert len(config.ffn) == 3
