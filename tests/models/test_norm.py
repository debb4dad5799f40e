"""Norms that end as affine maps: LayerNorm or RMSNorm at first, constants at last, and what is tracked on the way."""

import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from aero.compiler.compile import compile
from aero.compiler.lower import lower
from aero.compiler.verify import every_logit
from aero.graph import interpret, interpret_step
from aero.models import AeroForCausalLM
from aero.models.norm import MOMENTUM, FrozenNorm, frozen_norms
from small_models import LLAMA, make_model

POSITIONS = torch.arange(5)[None]


def norm_of(positions=1, seed=0, *, centred=True):
    torch.manual_seed(seed)
    norm = FrozenNorm(8, 1e-5, positions, centred=centred).double()
    with torch.no_grad():
        for tensor in (*norm.parameters(), norm.log_sigma):
            tensor.normal_()
    return norm


def log_sigma(x, *, centred=True):
    squares = x.var(-1, unbiased=False) if centred else x.square().mean(-1)
    return 0.5 * (squares + 1e-5).log()


@pytest.mark.parametrize("positions", [1, 5])
@pytest.mark.parametrize("centred", [True, False])
def test_between_a_norm_and_an_affine_map(positions, centred):
    norm, x = norm_of(positions, centred=centred).eval(), 3 * torch.randn(2, 5, 8, dtype=torch.float64) + 1
    if centred:
        expected = F.layer_norm(x, (8,), norm.weight, norm.bias, 1e-5)
    else:
        assert norm.bias is None
        expected = F.rms_norm(x, (8,), norm.weight, 1e-5)
    torch.testing.assert_close(norm(x, POSITIONS), expected)
    norm.blend.fill_(0.25)
    sigma = torch.exp(0.75 * log_sigma(x, centred=centred) + 0.25 * norm.log_sigma)[..., None]
    expected = (x - x.mean(-1, keepdim=True)) / sigma * norm.weight + norm.bias if centred else x / sigma * norm.weight
    torch.testing.assert_close(norm(x, POSITIONS), expected)
    norm.blend.fill_(1)
    assert norm.frozen
    # Affine: f(x) + f(y) - f(0) = f(x + y).
    y, zero = torch.randn_like(x), torch.zeros_like(x)
    f = lambda z: norm(z, POSITIONS)  # noqa: E731
    torch.testing.assert_close(f(x) + f(y) - f(zero), f(x + y))
    assert torch.autograd.gradcheck(f, (x.requires_grad_(),))


@pytest.mark.parametrize("positions", [1, 5])
@pytest.mark.parametrize("centred", [True, False])
def test_the_running_mean(positions, centred):
    norm, first, second = norm_of(positions, centred=centred).train(), *torch.randn(2, 3, 5, 8, dtype=torch.float64)
    batches = [first, 4 * second, second]
    expected = None
    for x in batches:
        norm(x, POSITIONS)
        own = log_sigma(x, centred=centred)
        now = own.mean(0) if positions > 1 else own.mean()[None]
        expected = now if expected is None else (1 - MOMENTUM) * expected + MOMENTUM * now
        torch.testing.assert_close(norm.log_sigma, expected)
    norm.eval()(batches[1], POSITIONS)
    norm.train().blend.fill_(1)
    norm(batches[1], POSITIONS)
    torch.testing.assert_close(norm.log_sigma, expected, msg="constants do not move")


def test_order_of_freezing():
    model = make_model("SM+FLN+R", num_layers=3)
    blocks = model.transformer.blocks
    expected = [b.norm_2 for b in blocks] + [b.norm_1 for b in blocks] + [model.transformer.final_norm]
    assert [id(norm) for norm in frozen_norms(model)] == [id(norm) for norm in expected]
    assert frozen_norms(make_model("SM+LN+G")) == []
    attention = [block.attention for block in make_model("SM+FRMS(p)+R", qk_norm=True).transformer.blocks]
    assert all(norm.bias is None and len(norm.log_sigma) == 1 for a in attention for norm in (a.q_norm, a.k_norm))
    model = make_model("SM+FRMS+R", qk_norm=True)
    named = {id(norm): name for name, norm in model.named_modules()}
    order = [named[id(norm)].rpartition(".")[2] for norm in frozen_norms(model)]
    assert order == ["norm_2"] * 2 + ["norm_1"] * 2 + ["q_norm", "k_norm"] * 2 + ["final_norm"]


QWEN3 = {**LLAMA, "qk_norm": True}
NEOX = {"positions": "rotary", "rotary_fraction": 0.5, "parallel_residual": True}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *((name, {}) for name in ("SM+FLN+R", "SM+FLN(p)+G", "SM+FLN+ScFuFFN", "SM(t)+FLN(p)+ScFuFFN", "SM+FRMS+R")),
        *((name, NEOX) for name in ("SM+FLN+R", "SM+FLN(p)+G", "SM+FLN+ScFuFFN", "SM(t)+FLN(p)+ScFuFFN")),
        *((name, LLAMA) for name in ("SM+FRMS+SiLU+GaFFN", "SM+FRMS+R+ScGaFFN_i1", "SM+FRMS+R", "SM+FRMS(p)+R")),
        ("SM+FRMS+R", QWEN3),
        *((name, LLAMA) for name in ("SM+FRMS+ScFuFFN", "SM(t)+FRMS(p)+ScFuFFN_i1", "SM+FLN+ScFuFFN")),
    ],
)
def test_compiles_as_free_of_norms(name, shape, tmp_path):
    model = make_model(name, **shape)
    with torch.no_grad():
        for norm in frozen_norms(model):
            norm.log_sigma.normal_(std=0.3)
    with pytest.raises(ValueError, match="not frozen yet"):
        lower(model, 5)
    for norm in frozen_norms(model):
        norm.blend.fill_(1)
    model.save_pretrained(tmp_path)
    again = AeroForCausalLM.from_pretrained(tmp_path)
    compiled = compile(again)
    assert compiled.verification.passed and compiled.verification.tolerance < 1e-6
    ids = torch.randint(50, (12,), generator=torch.Generator().manual_seed(4)).numpy()
    expected = every_logit(again, ids[None])[0]
    logits, state = interpret_step(compiled.prefill(5, leave_state=True), ids[:5], {})
    for past in range(5, 12):
        np.testing.assert_allclose(logits[0], expected[past - 1], rtol=0, atol=compiled.verification.tolerance)
        logits, state = interpret_step(compiled.decode(past), ids[past : past + 1], state)
    last = interpret(lower(again, 7), ids[:7])  # the last position alone
    np.testing.assert_allclose(last[0], expected[6], rtol=0, atol=1e-9)
    operations = [node.op for node in compiled.program.graph.nodes]
    assert not {"layer_norm", "rms_norm"} & set(operations)
    # Folded away: no more linear layers than the model without norms has.
    free = make_model(re.sub(r"\+F(LN|RMS)(\(p\))?", "", name), **shape)
    without = [node.op for node in compile(free).program.graph.nodes]
    assert operations.count("linear") <= without.count("linear") + (2 if "(p)" in name else 0)
