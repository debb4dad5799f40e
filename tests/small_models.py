"""Small models of every architecture, with weights that are not those of initialisation."""

import copy
from pathlib import Path

import torch

from aero.data.tokenizer import train
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.notation import parse
from aero.models.presets import TRAITS

# The papers' names; between them, every kind of norm, activation, FFN and temperature.
NOTATIONS = [
    "SM+LN+G", "SM+LN+R", "SM+LN", "SM+G", "SM+R", "SM", "SM+ScFFN", "SM+ScFuFFN", "SM+ScFuFFN_i1", "SM+ScFuFFN_i2",
    "SM(t)+ScFuFFN", "SM(t_h)+ScFuFFN", "EReg(SM(t)+ScFuFFN_i1)", "SM+LN+G+ScFFN", "SM+R+ScFFN",
]  # fmt: skip

# Llama's shape at the width of `make_model`: no biases, whole heads turn, one head of keys.
LLAMA = {**TRAITS["llama"].fields, "num_key_heads": 1, "ffn_width": 44}

PERPLEXITY_SUMMED_ANEW = 5e-4
"""How far two perplexities of one small model in float32 may lie apart, relatively, by the order of their sums alone.

A chain of 20 sums of at most 64 terms moves the nats of a token by less than 20 * 64 * 2^-24 = 8e-5 of them, and there
are 6 of them at most (the logarithm of the vocabulary).
"""


def make_model(name: str, seed: int = 0, **overrides) -> AeroForCausalLM:
    torch.manual_seed(seed)
    fields = dict(vocab_size=50, context=12, hidden_size=16, num_heads=2, num_layers=2, initializer_range=0.3)
    parsed = parse(name)
    normed = parsed.norm != "none" or parsed.block == "simplified"
    fields["logit_multiplier" if normed else "embedding_multiplier"] = 16.0
    config = AeroConfig.from_notation(parsed, "demo", scale="gpt2", **{**fields, **overrides})
    model = AeroForCausalLM(config).eval()
    with torch.no_grad():  # what is trained starts at 0 or 1, where a forgotten factor would not show
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def save_run(folder: Path, seed: int = 0) -> AeroForCausalLM:
    """Write a run folder to be served, and return its model: untrained, but with logits that differ from each other.

    They lie within some units, as the bounds of the tests that serve it demand: errors are relative to what passes.
    """
    tokenizer = train(["def main():\n    return 1\n"] * 4, 270)
    torch.manual_seed(seed)
    sizes = dict(vocab_size=tokenizer.vocab_size, context=12, hidden_size=16, initializer_range=0.2)
    model = AeroForCausalLM(AeroConfig.from_notation("SM+ScFuFFN", "demo", scale="gpt2", **sizes))
    model.save_pretrained(folder)
    tokenizer.save(folder / "tokenizer.json")
    return model


def logits_in_any_order(model: AeroForCausalLM, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits of a model in float64, and how far another order of its sums can take them from there.

    The order may depend on where in memory a weight lies, as a vector unit's sums do. A model that errs by K 2^-24 in
    float32 errs, to first order, by K 2^-53 in float64 (Higham 2002, §3.3: K holds the lengths of its sums and its
    condition, and not the precision), so two orders differ by twice that. One evaluation shows K but for the luck of
    its roundings: eight times as much is allowed.
    """
    with torch.inference_mode():
        logits = model(ids).logits
        single = copy.deepcopy(model).float()(ids).logits
    assert logits.dtype == torch.float64
    return logits, 8 * 2 * 2**-29 * (single - logits).abs().max()


def assert_same_function(found: AeroForCausalLM, expected: AeroForCausalLM, ids: torch.Tensor) -> None:
    """Two models in float64 have the same tensors, bit for bit, and the same logits but for the order of their sums."""
    tensors = expected.state_dict()
    assert tensors.keys() == found.state_dict().keys()
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name
    logits, bound = logits_in_any_order(expected, ids)
    assert (found(ids).logits - logits).abs().max() <= bound
