"""AERO's decoder against Hugging Face's Llama, Mistral, Qwen2 and Qwen3, on converted random weights."""

import math
import types

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from aero.compiler.compile import compile
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.convert_hf import convert, convert_config

CONTEXT = 24
SMALL = {
    "vocab_size": 61,
    "max_position_embeddings": CONTEXT,
    "hidden_size": 36,
    "intermediate_size": 100,
    "num_hidden_layers": 3,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "initializer_range": 0.3,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig),
    "mistral": (MistralForCausalLM, MistralConfig),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config),
}


def exact_norm(self, x):
    """Their RMSNorm without its float32."""
    return self.weight * x * (x.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()


def exact_angles(self, x, position_ids):
    """Their rotary embedding without its float32; the piecewise form of Llama 3, as it is published."""
    rotary, config = self.config.rope_parameters, self.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    frequencies = []
    for i in range(0, width, 2):
        frequency = rotary["rope_theta"] ** (-i / width)
        if rotary["rope_type"] == "linear":
            frequency /= rotary["factor"]
        elif rotary["rope_type"] == "llama3":
            low, high, original = (
                rotary[n] for n in ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
            )
            wavelength = 2 * math.pi / frequency
            if wavelength > original / low:
                frequency /= rotary["factor"]
            elif wavelength >= original / high:
                smooth = (original / wavelength - low) / (high - low)
                frequency = (1 - smooth) * frequency / rotary["factor"] + smooth * frequency
        frequencies.append(frequency)
    angles = position_ids[..., None].double() * torch.tensor(frequencies, dtype=torch.float64)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


def pair(family, dtype=torch.float64, **fields):
    """exact: in float64, where theirs would compute in float32."""
    torch.manual_seed(0)
    model, config = MODELS[family]
    # Large weights, so that attention is far from uniform; gains and biases away from one and zero.
    theirs = model(config(**{**SMALL, **fields})).to(dtype).eval()
    theirs.set_attn_implementation("sdpa")  # the eager one takes its softmax in float32, whatever the model's type
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(0.2 * torch.randn_like(parameter))
    if dtype is torch.float64:
        for module in theirs.modules():
            if type(module).__name__.endswith("RMSNorm"):
                module.forward = types.MethodType(exact_norm, module)
            if type(module).__name__.endswith("RotaryEmbedding"):
                module.forward = types.MethodType(exact_angles, module)
    return theirs, convert(theirs)


def some_ids(rows=3, seed=1):
    return torch.randint(SMALL["vocab_size"], (rows, CONTEXT), generator=torch.Generator().manual_seed(seed))


VARIANTS = [
    ("llama", {}),
    ("llama", {"rope_parameters": LLAMA3, "num_key_value_heads": 1}),
    ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 50.0, "factor": 3.0}}),
    ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "num_key_value_heads": 9}),
    ("llama", {"head_dim": 10, "num_attention_heads": 6, "hidden_act": "gelu_pytorch_tanh"}),
    ("mistral", {}),
    ("mistral", {"sliding_window": None, "head_dim": 6}),
    ("qwen2", {}),
    ("qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    ("qwen3", {"head_dim": 8}),
    ("qwen3", {"head_dim": 6, "attention_bias": True, "num_attention_heads": 4, "num_key_value_heads": 2}),
]


@pytest.mark.parametrize(("family", "fields"), VARIANTS)
def test_logits_equal_theirs(family, fields):
    ids = some_ids()
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 5e-5)):
        theirs, ours = pair(family, dtype, **fields)
        with torch.inference_mode():
            expected, found = theirs(ids).logits, ours(ids).logits
        assert found.dtype == dtype
        # Relative to the largest logit: rounding of sums of tens of terms through three layers, and of float32 angles.
        assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize(("family", "fields"), VARIANTS)
def test_the_program_gives_their_logits(family, fields):
    """Compiled, in float64: gains, scales and biases are in matrices by now."""
    theirs, ours = pair(family, **fields)
    compiled = compile(ours)
    assert compiled.verification.passed
    with torch.inference_mode():
        expected = theirs(some_ids()).logits.numpy()
    from aero.graph import interpret

    found = interpret(compiled.program, some_ids()[0].numpy())
    assert abs(found - expected[0]).max() <= 1e-10 * abs(expected[0]).max()


@pytest.mark.parametrize("family", MODELS)
def test_a_first_token_a_thousand_times_the_others(family):
    """As trained models have it: some channels of the first position are far larger than all others."""
    theirs, ours = pair(family)
    first = 7
    with torch.no_grad():
        for table in (theirs.model.embed_tokens.weight, ours.transformer.token_embedding.weight):
            table[first, :2] += 300.0
    ids = some_ids(2)
    ids[ids == first] = 8
    ids[:, 0] = first
    with torch.inference_mode():
        expected, found = theirs(ids).logits, ours(ids).logits
    assert (found - expected).abs().max() <= 1e-11 * expected.abs().max()


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_generation_equals_theirs(family, use_cache):
    """The cache holds few heads."""
    theirs, ours = pair(family)
    ids = some_ids(2, seed=2)[:, :6].clamp(min=3)
    mask = torch.ones_like(ids)
    mask[1, :2] = 0  # padding is not seen
    settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 1, "attention_mask": mask}
    expected = theirs.generate(ids, use_cache=True, **settings)
    assert expected.unique().numel() > 8, "the text must vary, or this shows nothing"
    assert torch.equal(ours.generate(ids, use_cache=use_cache, **settings), expected)
    cache = ours(ids, use_cache=True).past_key_values
    assert cache.layers[0].keys.shape[1] == 3


@pytest.mark.parametrize(
    ("preset", "family", "published", "parameters"),
    [
        (
            "smollm2-135m", "llama",
            dict(vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                 num_attention_heads=9, num_key_value_heads=3, rms_norm_eps=1e-5, tie_word_embeddings=True,
                 rope_parameters={"rope_type": "default", "rope_theta": 100_000.0}),
            134_515_008,
        ),
        (
            "tinyllama-1.1b", "llama",
            dict(vocab_size=32_000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22,
                 num_attention_heads=32, num_key_value_heads=4, rms_norm_eps=1e-5,
                 rope_parameters={"rope_type": "default", "rope_theta": 10_000.0}),
            1_100_048_384,
        ),
        (
            "llama-3.2-1b", "llama",
            dict(vocab_size=128_256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
                 num_attention_heads=32, num_key_value_heads=8, rms_norm_eps=1e-5, tie_word_embeddings=True,
                 rope_parameters={"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0,
                                  "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                  "original_max_position_embeddings": 8192}),
            1_235_814_400,
        ),
        (
            "qwen2.5-0.5b", "qwen2",
            dict(hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
                 num_key_value_heads=2, rms_norm_eps=1e-6, tie_word_embeddings=True,
                 rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0}),
            494_032_768,
        ),
        (
            "qwen3-0.6b", "qwen3",
            dict(hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
                 num_key_value_heads=8, head_dim=128, rms_norm_eps=1e-6, tie_word_embeddings=True,
                 rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0}),
            596_049_920,
        ),
    ],
)  # fmt: skip
def test_the_presets_are_the_published_sizes(preset, family, published, parameters):
    """Parameters as the checkpoints' pages count them."""
    config = MODELS[family][1](**published)
    with torch.device("meta"):
        ours = AeroForCausalLM(AeroConfig.from_notation("SM+RMS+SiLU+GaFFN", preset, scale="gpt2"))
        theirs = MODELS[family][0](config)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters()) == parameters
    converted = convert_config(config)
    for field in AeroConfig.__annotations__:
        if field not in ("context", "bos_token_id", "eos_token_id", "pad_token_id"):
            assert getattr(converted, field) == getattr(ours.config, field), field


def test_a_window_is_the_context():
    assert convert_config(MistralConfig(sliding_window=7, max_position_embeddings=30)).context == 7
    assert convert_config(MistralConfig(sliding_window=None, max_position_embeddings=30)).context == 30
    windowed = {"use_sliding_window": True, "sliding_window": 7, "max_position_embeddings": 30}
    for config in (Qwen2Config, Qwen3Config):
        assert convert_config(config(**windowed, max_window_layers=1)).context == 7
        assert convert_config(config(**windowed, max_window_layers=99)).context == 30
        assert convert_config(config(**{**windowed, "use_sliding_window": False})).context == 30


@pytest.mark.parametrize("kind", ["dynamic", "yarn", "longrope"])
def test_other_scalings_are_refused_by_name(kind):
    rotary = {"rope_type": kind, "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 12}
    if kind == "longrope":
        rotary |= {"short_factor": [1.0] * 2, "long_factor": [2.0] * 2}
    with pytest.raises(ValueError, match=f"of the type '{kind}'; convertible: default, linear, llama3"):
        convert_config(LlamaConfig(**{**SMALL, "rope_parameters": rotary}))
