"""The kernels against the definition, in float64; gradients against finite differences."""

import math

import pytest
import torch
from torch.distributions import Categorical

from aero.models.attend import Wanted, attend, blockwise, choose_kernel
from aero.models.attention import additive_causal_mask
from small_models import make_model

ALL = Wanted(probabilities=True, entropy=True, log_sum_exp=True, lowest=True)
ROWS = Wanted(entropy=True, log_sum_exp=True)


def inputs(length, dtype=torch.float64, values=5, scale=2.0, gradient=False):
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 3, length, 4), (2, 3, length, 4), (2, 3, length, values))
    tensors = [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]
    return [(scale * x).to(dtype).requires_grad_(gradient) for x in tensors]


def definition(q, k, v):
    logits = torch.einsum("bhik,bhjk->bhij", q, k)
    live = torch.ones(logits.shape[-2:], dtype=torch.bool).tril()
    logits = torch.where(live, logits, -math.inf)
    p = logits.softmax(-1)
    lowest = torch.where(live, logits, math.inf).amin(-1)
    return p @ v, p, Categorical(p).entropy(), logits.exp().sum(-1).log(), lowest


@pytest.mark.parametrize("length", [1, 7, 16])
def test_kernels_equal_the_definition(length):
    q, k, v = inputs(length)
    output, p, entropy, log_sum_exp, lowest = definition(q, k, v)
    mask = additive_causal_mask(length, 0, None, q.dtype, q.device)
    found, rows = attend(q, k, v, "materialised", ALL, mask)
    close = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(found, output, **close)
    torch.testing.assert_close(rows.probabilities, p, **close)
    torch.testing.assert_close(rows.entropy, entropy, rtol=0, atol=1e-7)  # eps inside its logarithm
    torch.testing.assert_close(rows.log_sum_exp, log_sum_exp, **close)
    torch.testing.assert_close(rows.lowest, lowest, **close)
    for block_rows in (3, 7, 100):
        found, log_sum_exps, entropies = blockwise(q, k, v, block_rows=block_rows)
        torch.testing.assert_close(found, output, **close)
        torch.testing.assert_close(log_sum_exps, log_sum_exp, **close)
        torch.testing.assert_close(entropies, entropy, rtol=0, atol=1e-7)  # Categorical clamps small probabilities
    found, rows = attend(q, k, v, "library", Wanted(), None)
    torch.testing.assert_close(found, output, **close)
    assert rows == (None, None, None, None)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("block_rows", [3, 100])
@pytest.mark.parametrize("parts", [(0,), (1,), (2,), (0, 1, 2)])
def test_gradients(parts, block_rows, keep):
    """Of the output, the log-sum-exp and the entropy, each alone and together."""
    tensors = inputs(7, gradient=True)
    weights = torch.randn(2, 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def value(*x):
        found = blockwise(*x, block_rows=block_rows, keep=keep)
        return sum((found[part] * (weights[..., None] if part == 0 else weights)).sum() for part in parts)

    assert torch.autograd.gradcheck(value, tensors)


def test_lower_precision_is_close_and_rows_are_float32():
    exact = definition(*inputs(40))
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.15)):  # logits up to 30, eight bits
        q, k, v = inputs(40, dtype)
        output, log_sum_exp, entropy = blockwise(q, k, v, block_rows=16)
        reference = definition(q.double(), k.double(), v.double())
        assert output.dtype == dtype and log_sum_exp.dtype == entropy.dtype == torch.float32
        for found, expected in ((output, reference[0]), (log_sum_exp, reference[3]), (entropy, reference[2])):
            assert (found.double() - expected).abs().max() <= tolerance * exact[3].abs().max() / 10
    assert (entropy >= 0).all()


def test_a_saturated_row_has_finite_gradients():
    q, k, v = inputs(9, torch.float32, scale=100.0, gradient=True)
    output, log_sum_exp, entropy = blockwise(q, k, v)
    (output.sum() + log_sum_exp.sum() + entropy.sum()).backward()
    assert all(torch.isfinite(x.grad).all() for x in (q, k, v))


@pytest.mark.parametrize("name", ["SM+LN+G", "SM(t)+ScFuFFN"])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_model_gives_the_same_by_every_kernel(name, positions):
    fields = {"positions": positions, "rotary_fraction": 0.5} if positions == "rotary" else {}
    model = make_model(name, **fields).double()
    ids = torch.randint(50, (2, 12), generator=torch.Generator().manual_seed(1))
    outputs, gradients = {}, {}
    for kernel in ("materialised", "blockwise"):
        model.transformer.attention_kernel = kernel
        model.zero_grad()
        outputs[kernel] = model(ids, labels=ids, output_entropies=True, output_log_sum_exps=True)
        rows = [*outputs[kernel].entropies, *outputs[kernel].log_sum_exps]
        (outputs[kernel].loss + sum(x.square().sum() for x in rows)).backward()
        gradients[kernel] = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    one, other = outputs.values()
    torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=1e-11)
    for field in ("entropies", "log_sum_exps"):
        for a, b in zip(one[field], other[field], strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-7)  # eps inside the materialised logarithm
    for a, b in zip(*gradients.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    model.transformer.attention_kernel = "library"
    torch.testing.assert_close(model(ids).logits, one.logits, rtol=0, atol=1e-11)


def test_the_choice():
    cpu, short = torch.device("cpu"), 128
    assert choose_kernel(Wanted(), short, cpu, masked=False) == "materialised"
    assert choose_kernel(Wanted(), 4096, cpu, masked=False) == "library"
    assert choose_kernel(ROWS, short, cpu, masked=False) == choose_kernel(ROWS, 4096, cpu, masked=False) == "blockwise"
    for wanted in (ALL, Wanted(lowest=True)):
        assert choose_kernel(wanted, 4096, cpu, masked=False) == "materialised"
    for wanted in (ROWS, Wanted()):
        assert choose_kernel(wanted, 4096, cpu, masked=True) == "materialised"


def test_a_kernel_that_cannot_serve_is_refused():
    model = make_model("SM")
    model.transformer.attention_kernel = "blockwise"
    ids = torch.randint(50, (2, 6))
    with pytest.raises(ValueError, match="takes no padding and no cache"):
        model(ids, attention_mask=torch.ones(2, 6, dtype=torch.long))
