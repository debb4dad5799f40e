"""Probabilities of tokens against Hugging Face's processors of logits."""

import numpy as np
import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from aero.serve.sampling import Sampler, Sampling, probabilities


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [None, 1, 5, 200])
@pytest.mark.parametrize("top_p", [None, 0.2, 0.9, 1.0])
def test_probabilities_are_those_of_hugging_face(temperature, top_k, top_p):
    rng = np.random.default_rng(0)
    for _ in range(5):
        logits = rng.normal(0, 3, 50)
        scores = TemperatureLogitsWarper(temperature)(None, torch.tensor(logits[None]))
        if top_k is not None:
            scores = TopKLogitsWarper(min(top_k, 50))(None, scores)
        if top_p is not None:
            scores = TopPLogitsWarper(top_p)(None, scores)
        expected = torch.softmax(scores, -1)[0].numpy()
        np.testing.assert_allclose(probabilities(logits, Sampling(temperature, top_k, top_p)), expected, atol=1e-12)


def test_what_is_not_revealed_is_never_drawn():
    logits = np.full(100, -np.inf)
    logits[[3, 70]] = 1.0, 1.0
    sampler = Sampler(Sampling(1.0, seed=1))
    drawn = [sampler.choose(logits) for _ in range(200)]
    assert set(drawn) == {3, 70} and 60 < drawn.count(3) < 140
    assert Sampler(Sampling()).choose(logits) == 3


def test_a_seed_gives_the_same_tokens():
    logits = np.random.default_rng(2).normal(size=(50, 30))
    runs = [[Sampler.choose(s, row) for row in logits] for s in (Sampler(Sampling(1.0, seed=n)) for n in (7, 7, 8))]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": 1.0, "top_k": 0}, "at least 1"),
        ({"temperature": 1.0, "top_p": 0.0}, "top-p"),
        ({"temperature": 1.0, "top_p": 1.5}, "top-p"),
        ({"temperature": 1.0, "seed": -1}, "seed"),
        ({"top_k": 5}, "temperature above 0"),
        ({"seed": 5}, "temperature above 0"),
    ],
)
def test_options_that_make_no_sense(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        Sampling(**options)
