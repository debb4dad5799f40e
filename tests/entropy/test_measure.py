"""Entropies of attention whose entropy is known, and the shares that they fall into."""

import math

import pytest
import torch
from torch.distributions import Categorical

from aero.entropy.measure import head_entropy, range_shares, row_entropy


def causal_attention(*shape):
    logits = 3 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hidden = torch.ones(shape[-2:], dtype=torch.bool).triu(1)
    return logits.masked_fill(hidden, -math.inf).softmax(-1)


def test_equals_pytorchs_entropy():
    attention = causal_attention(2, 3, 7, 7)
    expected = Categorical(attention).entropy()
    # eps moves each of the terms by at most eps, and Categorical clamps zeros in its own way.
    torch.testing.assert_close(row_entropy(attention), expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(head_entropy(attention), expected.mean(-1), rtol=0, atol=1e-7)


def test_known_values():
    assert head_entropy(torch.full((1, 4, 8), 1 / 8)).item() == pytest.approx(math.log(8))
    assert head_entropy(torch.eye(6)[None]).item() == pytest.approx(0, abs=1e-6)
    causal = torch.ones(5, 5).tril() / torch.arange(1, 6)[:, None]
    assert head_entropy(causal).item() == pytest.approx(math.log(math.factorial(5)) / 5)


def test_eps_is_the_one_of_the_definition():
    attention = causal_attention(1, 4, 4)
    eps = 0.01
    expected = -(attention * torch.log(attention + eps)).sum(-1).mean(-1)
    # Entropies of at most log 4, from sums of 4 terms and their mean of 4: some 8 roundings of 2^-53.
    torch.testing.assert_close(head_entropy(attention, eps), expected, rtol=0, atol=1e-14)


def test_types():
    attention = causal_attention(2, 5, 5)
    assert row_entropy(attention).dtype == torch.float64
    assert row_entropy(attention.bfloat16()).dtype == torch.float32


def test_zero_probabilities_have_gradients():
    logits = torch.tensor([[0.0, -torch.inf], [0.0, 1.0]], requires_grad=True)
    row_entropy(logits.softmax(-1)).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_shares_of_the_largest():
    entropies = torch.tensor([[0.0, 0.9, 1.0], [1.9, 3.0, 4.0]])
    assert range_shares(entropies) == pytest.approx((2 / 6, 2 / 6, 0, 2 / 6))
    assert range_shares(entropies, maximum=8.0) == pytest.approx((4 / 6, 1 / 6, 1 / 6, 0))
    assert range_shares(torch.zeros(2, 2)) == (1, 0, 0, 0)


@pytest.mark.parametrize("entropies", [torch.tensor([]), torch.tensor([1.0, float("nan")])])
def test_shares_of_nothing_are_refused(entropies):
    with pytest.raises(ValueError, match="diverged"):
        range_shares(entropies)
