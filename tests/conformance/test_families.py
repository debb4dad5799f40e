"""Models of each family that can be converted, and cheaper ones of Llama's shape: their greedy tokens, computed
privately."""

import numpy as np
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from aero.compiler.compile import compile
from aero.compiler.quantize import quantize
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.convert_hf import convert
from aero.models.families import FAMILIES
from aero.models.norm import frozen_norms
from aero.models.presets import Size
from conformance.test_engines import on_plain, on_two_party

VOCABULARY, CONTEXT, GIVEN, SEED = 61, 10, 4, 30
LLAMA = dict(
    vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
    num_attention_heads=6, num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
SHAPE = Size(VOCABULARY, CONTEXT, 2, 6, 24, family="llama", num_key_heads=2, ffn_width=40)
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 50.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
MODELS = {
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=24, n_layer=2, n_head=3)
    ),
    "gpt_neox": lambda: GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, hidden_size=24, intermediate_size=96,
            num_hidden_layers=2, num_attention_heads=3,
        )
    ),
    "opt": lambda: OPTForCausalLM(
        OPTConfig(
            vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, hidden_size=24, word_embed_proj_dim=24, ffn_dim=96,
            num_hidden_layers=2, num_attention_heads=3,
        )
    ),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, rope_parameters=LLAMA3)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**{**LLAMA, "max_position_embeddings": 99}, sliding_window=10)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**LLAMA, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**LLAMA, head_dim=6)),
}  # fmt: skip


def drawn(model: torch.nn.Module, seed: int = SEED) -> torch.nn.Module:
    """In float64, with weights of trained-like scale, the same whatever transformers draws itself."""
    model, generator = model.double().eval(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            gain = name.endswith("weight") and parameter.dim() == 1
            parameter.copy_(1 + 0.2 * noise if gain else 0.3 * noise)
    return model


def test_every_family_is_here():
    assert set(MODELS) == set(FAMILIES)


@pytest.mark.parametrize("family", MODELS)
def test_private_greedy_tokens_are_those_of_the_model(family):
    theirs = drawn(MODELS[family]())
    text = torch.tensor([[7, 31, 58, 12]])
    options = {"do_sample": False, "pad_token_id": 1, "attention_mask": torch.ones_like(text), "eos_token_id": None}
    expected = theirs.generate(text, max_new_tokens=CONTEXT - GIVEN, **options)[0].numpy()
    assert_tokens(convert(theirs), expected, [on_two_party])


def assert_tokens(model, expected, engines):
    """That engines give the last of `expected`, token by token."""
    compiled = compile(model, softmax_base="2")
    blocks = [np.random.default_rng(seed).integers(VOCABULARY, size=CONTEXT) for seed in range(8)]
    plan = quantize(compiled.program, [*blocks, expected]).plan
    runs = [(compiled.prefill(GIVEN, leave_state=True), expected[:GIVEN])]
    runs += [(compiled.decode(past), expected[past : past + 1]) for past in range(GIVEN, CONTEXT - 1)]
    for engine in engines:
        found = [int(logits[0].argmax()) for logits in engine(plan, runs)]
        assert found == expected[GIVEN:].tolist()
        assert len(set(found)) > 2, "the text must vary, or this shows nothing"


@pytest.mark.parametrize(
    "notation",
    ["SM+RMS+R+GaFFN", "SM+FRMS+SiLU+GaFFN", "SM+FRMS+R", "SM+FRMS(p)+ScFuFFN", "SM+FRMS+ScFuFFN_i1", "SM+R"],
)
def test_private_greedy_tokens_of_the_rungs_below_a_llama(notation):
    config = AeroConfig.from_notation(notation, SHAPE, tie_embeddings=False)
    model = drawn(AeroForCausalLM(config), seed=16)
    for index, norm in enumerate(frozen_norms(model)):
        norm.log_sigma.copy_(torch.linspace(-0.3, 0.3, len(norm.log_sigma)) + 0.1 * index)
        norm.blend.fill_(1)
    ids = torch.tensor([[7, 31, 58, 12]])
    while ids.shape[1] < CONTEXT:
        ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
    assert_tokens(model, ids[0].numpy(), [on_plain, on_two_party])
