"""A compiled program gives the model's own logits, in float64, for every rung of the ladder."""

import copy

import numpy as np
import pytest
import torch

from aero.compiler import VerificationError, compile, lower, verify
from aero.compiler.verify import TOLERANCE, model_logits
from aero.graph import Program, interpret
from aero.models import AeroConfig, AeroForCausalLM

RUNGS = [
    "SM+LN+G", "SM+LN+R", "SM+LN", "SM+G", "SM+R", "SM", "SM+ScFFN", "SM+ScFuFFN", "SM+ScFuFFN_i1", "SM+ScFuFFN_i2",
    "SM(t)+ScFuFFN", "SM(t_h)+ScFuFFN", "EReg(SM(t)+ScFuFFN_i1)", "SM+LN+G+ScFFN",
]  # fmt: skip


def small_model(name: str, seed: int = 0) -> AeroForCausalLM:
    torch.manual_seed(seed)
    config = AeroConfig.from_notation(
        name, "demo", vocab_size=50, context=12, hidden_size=16, num_heads=2, num_layers=2, initializer_range=0.3
    )
    model = AeroForCausalLM(config).eval()
    with torch.no_grad():  # what is trained starts at 0 or 1, where a forgotten factor would not show
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("name", RUNGS)
@pytest.mark.parametrize("length", [1, 7, 12])
def test_program_equals_model(name, length):
    model = small_model(name)
    before = copy.deepcopy(model.state_dict())
    program = compile(model, length)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    ids = np.random.default_rng(3).integers(50, size=(4, length))
    expected = model_logits(model, ids)
    found = np.concatenate([interpret(program, row) for row in ids])
    assert np.abs(expected).max() > 0.1
    assert np.abs(found - expected).max() <= TOLERANCE * max(1, np.abs(expected).max())


@pytest.mark.parametrize("name", RUNGS)
def test_what_is_left_is_what_the_name_says(name):
    operations = {node.op for node in compile(small_model(name), 5).graph.nodes}
    assert ("layer_norm" in operations) == ("LN" in name)
    assert ("gelu" in operations) == name.endswith("G") or name == "SM+LN+G+ScFFN"
    assert ("relu" in operations) == name.endswith("R")
    assert "scale" not in operations
    assert ("gain" in operations) == ("(t)" in name)  # one per position stays


def test_a_planted_error_is_caught():
    model = small_model("SM+ScFuFFN")
    program = compile(model, 5)
    wrong = dict(program.weights)
    name = program.graph.by_name["blocks.1.v"].weights[0]
    wrong[name] = wrong[name] + 1e-6
    with pytest.raises(VerificationError, match="differs from the model"):
        verify(Program(program.graph, wrong), model)


def test_a_length_beyond_the_context_is_refused():
    for length in (0, 13):
        with pytest.raises(ValueError, match="context of 12"):
            lower(small_model("SM"), length)
