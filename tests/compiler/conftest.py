import pytest
import torch

from aero.models import AeroConfig, AeroForCausalLM


@pytest.fixture(scope="session")
def trained():
    """By notation: a small model after some steps of training on a text with structure."""
    models: dict[str, AeroForCausalLM] = {}

    def train(name: str, steps: int = 60) -> AeroForCausalLM:
        if name not in models:
            torch.manual_seed(1)
            config = AeroConfig.from_notation(
                name, "demo", vocab_size=32, context=16, hidden_size=32, num_heads=2, num_layers=3
            )
            model = AeroForCausalLM(config)
            optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
            for _ in range(steps):
                start, stride = torch.randint(32, (16, 1)), torch.randint(1, 4, (16, 1))
                ids = (start + stride * torch.arange(16)) % 32
                loss = model(input_ids=ids, labels=ids).loss
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            models[name] = model.eval()
        return models[name]

    return train
