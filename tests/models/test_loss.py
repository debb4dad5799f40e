"""The chunked loss against PyTorch's own cross-entropy."""

import pytest
import torch
from torch.nn import functional as F

from aero.models.loss import IGNORED, causal_lm_loss

VOCABULARY, WIDTH = 11, 5


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 7, WIDTH, dtype=torch.float64, generator=generator).requires_grad_()
    words = torch.randn(VOCABULARY, WIDTH, dtype=torch.float64, generator=generator).requires_grad_()
    labels = torch.randint(VOCABULARY, (3, 7), generator=generator)
    labels[0, 3:] = IGNORED
    labels[2, 1] = IGNORED
    return hidden, words, labels


def reference(hidden, words, labels, multiplier, reduction="mean"):
    logits = multiplier * hidden @ words.T
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction=reduction)


@pytest.mark.parametrize("chunk_rows", [1, 4, 21, 100])
@pytest.mark.parametrize("multiplier", [1.0, 16.0])
def test_value_and_gradients_equal_pytorch(batch, chunk_rows, multiplier):
    hidden, words, labels = batch
    found = causal_lm_loss(hidden, words, labels, multiplier=multiplier, chunk_rows=chunk_rows)
    expected = reference(hidden, words, labels, multiplier)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    found_gradients = torch.autograd.grad(3 * found, (hidden, words))
    expected_gradients = torch.autograd.grad(3 * expected, (hidden, words))
    for one, other in zip(found_gradients, expected_gradients, strict=True):
        assert one.dtype == torch.float64
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


def test_gradcheck(batch):
    hidden, words, labels = batch
    assert torch.autograd.gradcheck(
        lambda h, w: causal_lm_loss(h, w, labels, multiplier=2.0, chunk_rows=4), (hidden, words)
    )


def test_num_items_replaces_the_count(batch):
    hidden, words, labels = batch
    expected = reference(hidden, words, labels, 1.0, reduction="sum") / 40
    torch.testing.assert_close(causal_lm_loss(hidden, words, labels, num_items=40), expected)
    torch.testing.assert_close(causal_lm_loss(hidden, words, labels, num_items=torch.tensor(40)), expected)


def test_gradient_of_only_one_argument(batch):
    hidden, words, labels = batch
    (found,) = torch.autograd.grad(causal_lm_loss(hidden, words.detach(), labels), hidden)
    (expected,) = torch.autograd.grad(reference(hidden, words, labels, 1.0), hidden)
    torch.testing.assert_close(found, expected)


def test_an_extreme_logit_keeps_the_loss_finite():
    words = torch.eye(2) * 1e4
    labels = torch.tensor([[0, 1]])
    hidden = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    assert causal_lm_loss(hidden, words, labels).item() == pytest.approx(1e4)


def test_bfloat16_autocast_is_near_float32():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 50, 32, generator=generator).requires_grad_()
    words = (0.1 * torch.randn(200, 32, generator=generator)).requires_grad_()
    labels = torch.randint(200, (2, 50), generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        found = causal_lm_loss(hidden, words, labels)
    expected = reference(hidden, words, labels, 1.0)
    assert found.dtype == torch.float32
    # bfloat16 keeps 8 bits: logits of about 1 are off by 2^-9, their mean over 98 tokens by less.
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
    for one, other in zip(
        torch.autograd.grad(found, (hidden, words)), torch.autograd.grad(expected, (hidden, words)), strict=True
    ):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0, atol=0.02 * other.abs().max().item())
