"""The entropy regulariser against the algorithm written out in NumPy, and its gradients against finite differences."""

import math

import numpy as np
import pytest
import torch

from aero.entropy.measure import row_entropy
from aero.entropy.regularizer import EntropyRegularizer

LAYERS, BATCH, HEADS, POSITIONS = 3, 2, 4, 6


def example():
    generator = torch.Generator().manual_seed(0)
    entropies = [
        math.log(POSITIONS) * torch.rand(BATCH, HEADS, POSITIONS, dtype=torch.float64, generator=generator)
        for _ in range(LAYERS)
    ]
    thresholds = torch.rand(LAYERS, HEADS, dtype=torch.float64, generator=generator)
    return [e.requires_grad_() for e in entropies], thresholds.requires_grad_()


def written_out(entropies, thresholds, weight, gamma, reduction, reference="context"):
    of_rows = np.log(np.arange(1, POSITIONS + 1)) if reference == "rows" else np.full(POSITIONS, np.log(POSITIONS))
    by_layer = []
    for layer, entropy in enumerate(entropies):
        by_head = []
        for head in range(HEADS):
            rows, theta = entropy[:, head], thresholds[layer, head]
            values = [rows.mean()] if reduction == "mean" else rows.ravel()
            largest = [of_rows.mean()] if reduction == "mean" else np.tile(of_rows, BATCH)
            deviations = [value - theta * top for value, top in zip(values, largest, strict=True)]
            by_head.append(sum(d**2 for d, top in zip(deviations, largest, strict=True) if abs(d) > gamma * top))
        by_layer.append(np.mean(by_head))
    return weight * np.mean(by_layer)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("reference", ["context", "rows"])
def test_value(reference, reduction, gamma):
    entropies, thresholds = example()
    found = EntropyRegularizer(0.7, gamma, reduction, reference)(entropies, thresholds)
    numbers = [e.detach().numpy() for e in entropies], thresholds.detach().numpy()
    expected = written_out(*numbers, 0.7, gamma, reduction, reference)
    assert expected > 0
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("reference", ["context", "rows"])
def test_gradients(reference, reduction):
    entropies, thresholds = example()
    loss = EntropyRegularizer(0.7, 0.1, reduction, reference)
    assert torch.autograd.gradcheck(lambda theta, *rows: loss(rows, theta), (thresholds, *entropies))


def test_gradients_through_attention():
    logits = 2 * torch.randn(1, 1, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    thresholds = torch.full((1, 2), 0.9, dtype=torch.float64)
    mask = torch.full((5, 5), -1e4, dtype=torch.float64).triu(1)
    loss = EntropyRegularizer(1.0, 0.0)

    def value(z, theta):
        return loss([row_entropy((z + mask).softmax(-1))[0]], theta)

    assert torch.autograd.gradcheck(value, (logits.requires_grad_(), thresholds.requires_grad_()))


def test_inside_the_margin_there_is_no_force():
    entropies = [torch.full((1, 1, 4), 0.5 * math.log(4), dtype=torch.float64, requires_grad=True)]
    near = torch.tensor([[0.6]], dtype=torch.float64, requires_grad=True)
    loss = EntropyRegularizer(1.0, 0.2)(entropies, near)
    loss.backward()
    assert loss.item() == 0
    assert near.grad.item() == 0
    assert (entropies[0].grad == 0).all()


def test_constant_rows_relate_the_two_reductions():
    """Where every position has the same entropy, the sum is batch * positions times the mean."""
    rows, thresholds = [torch.full((3, 2, 8), 0.1, dtype=torch.float64)], torch.full((1, 2), 0.5, dtype=torch.float64)
    mean, total = (EntropyRegularizer(1.0, 0.2, reduction)(rows, thresholds) for reduction in ("mean", "sum"))
    torch.testing.assert_close(total, 3 * 8 * mean)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight": -1}, "weight"),
        ({"gamma": 1.0}, "gamma"),
        ({"reduction": "max"}, "choose one of mean, sum"),
        ({"reference": "keys"}, "choose one of context, rows"),
    ],
)
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        EntropyRegularizer(**fields)


def test_thresholds_of_another_model_are_refused():
    entropies, _ = example()
    with pytest.raises(ValueError, match="3 layers, 4 heads"):
        EntropyRegularizer()(entropies, torch.zeros(4, 3))
