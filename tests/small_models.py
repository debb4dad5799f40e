"""Small models of every architecture, with weights that are not those of initialisation."""

import torch

from aero.models import AeroConfig, AeroForCausalLM

# The papers' names; between them, every kind of norm, activation, FFN and temperature.
NOTATIONS = [
    "SM+LN+G", "SM+LN+R", "SM+LN", "SM+G", "SM+R", "SM", "SM+ScFFN", "SM+ScFuFFN", "SM+ScFuFFN_i1", "SM+ScFuFFN_i2",
    "SM(t)+ScFuFFN", "SM(t_h)+ScFuFFN", "EReg(SM(t)+ScFuFFN_i1)", "SM+LN+G+ScFFN", "SM+R+ScFFN",
]  # fmt: skip


def make_model(name: str, seed: int = 0, **overrides) -> AeroForCausalLM:
    torch.manual_seed(seed)
    fields = dict(vocab_size=50, context=12, hidden_size=16, num_heads=2, num_layers=2, initializer_range=0.3)
    config = AeroConfig.from_notation(name, "demo", **{**fields, **overrides})
    model = AeroForCausalLM(config).eval()
    with torch.no_grad():  # what is trained starts at 0 or 1, where a forgotten factor would not show
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model
