"""Models of each family that can be converted: their greedy tokens, computed privately."""

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
from aero.models.convert_hf import convert
from aero.models.families import FAMILIES
from conformance.test_engines import on_two_party

VOCABULARY, CONTEXT, GIVEN, SEED = 61, 10, 4, 30
LLAMA = dict(
    vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
    num_attention_heads=6, num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
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


def drawn(family: str) -> torch.nn.Module:
    """Weights of trained-like scale, the same whatever transformers draws itself."""
    model, generator = MODELS[family]().double().eval(), torch.Generator().manual_seed(SEED)
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
    theirs = drawn(family)
    text = torch.tensor([[7, 31, 58, 12]])
    options = {"do_sample": False, "pad_token_id": 1, "attention_mask": torch.ones_like(text), "eos_token_id": None}
    expected = theirs.generate(text, max_new_tokens=CONTEXT - GIVEN, **options)[0].numpy()
    compiled = compile(convert(theirs), softmax_base="2")
    blocks = [np.random.default_rng(seed).integers(VOCABULARY, size=CONTEXT) for seed in range(8)]
    plan = quantize(compiled.program, [*blocks, expected]).plan
    runs = [(compiled.prefill(GIVEN, leave_state=True), expected[:GIVEN])]
    runs += [(compiled.decode(past), expected[past : past + 1]) for past in range(GIVEN, CONTEXT - 1)]
    found = [int(logits[0].argmax()) for logits in on_two_party(plan, runs)]
    assert found == expected[GIVEN:].tolist()
    assert len(set(found)) > 2, "the text must vary, or this shows nothing"
