"""Texts unlike any training text."""

import numpy as np
import pytest

from aero.data import tokenizer
from aero.data.probes import PROBES, probe


@pytest.fixture(scope="module")
def trained():
    return tokenizer.train(["def f(x):\n    return x + 1\n" * 50], 280)


@pytest.mark.parametrize("name", PROBES)
def test_blocks_of_token_ids_and_the_same_every_time(name, trained):
    texts = probe(name, trained, 3, 17)
    assert [text.shape for text in texts] == [(17,)] * 3
    assert all(text.min() >= 0 and text.max() < trained.vocab_size for text in texts)
    again = probe(name, trained, 3, 17)
    assert all(np.array_equal(a, b) for a, b in zip(texts, again, strict=True))


def test_they_are_what_they_say(trained):
    text = trained.decode(np.concatenate(probe("other languages", trained, 30, 50)).tolist())
    assert "Menschen" in text and "свободными" in text and "自由" in text and "أحرارا" in text
    assert "human rights" in trained.decode(np.concatenate(probe("English prose", trained, 30, 50)).tolist())
    repeated = probe("repeated tokens", trained, 2, 32)[0]
    assert len(set(repeated[:16])) == 1
    assert len(np.unique(np.concatenate(probe("random tokens", trained, 80, 50)))) == trained.vocab_size


def test_another_name_is_refused(trained):
    with pytest.raises(ValueError, match="unknown probe 'poems'; known: English prose"):
        probe("poems", trained, 1, 8)
