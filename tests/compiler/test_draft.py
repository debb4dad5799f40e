"""A published draft model: packed, unpacked, and guesses that are the model's own most likely tokens."""

import numpy as np
import pytest
from safetensors.numpy import save

from aero.compiler.draft import Draft, pack, unpack
from aero.compiler.positions import prefill
from aero.graph import interpret
from programs import random_program

PROGRAM = random_program(length=12, vocabulary=50, every_position=True, seed=4)


def likely(ids: list[int], count: int) -> list[int]:
    ids = list(ids)
    for _ in range(count):
        ids.append(int(interpret(prefill(PROGRAM, len(ids)), np.array(ids))[0].argmax()))
    return ids[-count:]


def test_guesses_are_the_models_most_likely_tokens_whatever_was_read_before():
    draft = Draft(unpack(pack(PROGRAM), 50))
    for ids, most in (([3, 4, 5], 4), ([3, 4, 5, 9], 3), ([3, 4], 2), ([8], 1), ([3, 4, 5, 9, 1, 2], 2)):
        assert draft.guess(ids, most) == likely(ids, most)
    longer = [3, 4, 5, *likely([3, 4, 5], 2)]
    assert draft.guess(longer, 3) == likely(longer, 3)
    assert len(draft.guess([1] * 10, 9)) == 3, "its context ends"
    assert draft.guess([1] * 13, 2) == [] == draft.guess([1, 2], 0)


def test_gains_of_one_number_are_packed():
    program = random_program(length=6, vocabulary=9, every_position=True, scaled=True)
    assert () in {weight.shape for weight in program.weights.values()}
    draft, ids = Draft(unpack(pack(program), 9)), [3, 4]
    assert draft.guess(ids, 1) == [int(interpret(prefill(program, 2), np.array(ids))[0].argmax())]


def test_of_a_text_that_goes_on_its_last_state_alone_is_kept():
    draft, text = Draft(unpack(pack(PROGRAM), 50)), [3, 4]
    for _ in range(6):
        draft.guess(text, 2)
        text.append(likely(text, 1)[0])
        draft.guess([9, *text], 1)  # another prompt, beside it
    assert [len(read) for read, _ in draft._texts] == [8, 9]


def test_what_is_no_draft_model_is_refused():
    data = pack(PROGRAM)
    for bad in (b"", data[:100], data[:-8], b"\xff" * 40, data.replace(b'"length', b'"lengti')):
        with pytest.raises(ValueError):
            unpack(bad, 50)
    with pytest.raises(ValueError, match="not rows of 51 logits"):
        unpack(data, 51)
    name = next(iter(PROGRAM.weights))
    weights = {n: np.full_like(w, np.nan if n == name else 1.0, np.float32) for n, w in PROGRAM.weights.items()}
    with pytest.raises(ValueError, match="not of float32"):
        unpack(save(dict(PROGRAM.weights), {"graph": PROGRAM.graph.dumps()}), 50)
    with pytest.raises(ValueError, match="NaN"):
        unpack(save(weights, {"graph": PROGRAM.graph.dumps()}), 50)
