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
    # Categorical clamps probabilities to 2^-52, which moves each of 7 terms by less than 2^-52 * 36.
    torch.testing.assert_close(row_entropy(attention), expected, rtol=0, atol=1e-13)


def test_known_values():
    assert row_entropy(torch.full((1, 8), 1 / 8)).item() == pytest.approx(math.log(8))
    assert torch.equal(row_entropy(torch.eye(6)), torch.zeros(6))
    causal = torch.ones(5, 5).tril() / torch.arange(1, 6)[:, None]
    assert row_entropy(causal).tolist() == pytest.approx([math.log(i) for i in range(1, 6)])


def test_heads_are_means_over_texts_and_positions():
    layers = [torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]), torch.ones(2, 2, 2)]
    assert head_entropy(layers).tolist() == [[3.5, 5.5], [1.0, 1.0]]


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
