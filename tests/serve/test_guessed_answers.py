"""Answers with guesses by our own engine: the tokens that the model chooses, whoever guesses, whatever is revealed."""

from functools import cache

import numpy as np
import pytest

from aero.compiler.draft import Draft, pack, unpack
from aero.compiler.positions import prefill
from aero.compiler.quantize import quantize
from aero.engines.insecure.plain import InsecurePlainEngine
from aero.engines.reveal import LOGITS, TOKEN
from aero.graph import Program
from aero.graph.ring_plan import RingPlan
from programs import RUNGS, random_ids, random_program
from serve.test_engine_session import VOCABULARY, Session
from serve.test_session import tokenizer_bytes

assert tokenizer_bytes  # the fixture of the sessions

CONTEXT = 48
# The demo's three networks, by the names of `RUNGS`: SM+LN+G, SM+FLN+ScFuFFN and SM+ScFuFFN.
DEMO = ("layer norm, gelu", "softmax-only, frozen norm", "softmax-only, scaled")
TOLERANCE = 0.05
"""How much smaller than the largest a chosen logit may be by the engine that has the same number formats and no noise:
twice what the noise of one layer was seen to do to logits of such a program, 0.01, with room; their spread is 3."""


@cache
def model(rung: str) -> tuple[Program, RingPlan]:
    program = random_program(
        length=CONTEXT, vocabulary=VOCABULARY, layers=1, every_position=True, seed=11, **RUNGS[rung]
    )
    return program, quantize(program, [random_ids(program, seed) for seed in range(8)]).plan


def draft_for(data, vocab_size):
    return Draft(unpack(data, vocab_size)).guess


def check(rung, tokenizer, reveal, by, steady, prompts, tokens) -> float:
    """Tokens of a step, on average; each has to be the most likely one after those before it, but for ties."""
    program, plan = model(rung)
    session = Session(tokenizer, program, plan, reveal=reveal, draft=pack(program) if by == "draft" else b"")
    with session.client(guesses=4, steady=steady, draft_for=draft_for) as client:
        usable, found = client.tokenizer.vocab_size, {place: [] for place in range(len(prompts))}
        for place, token in client.generate_batch(prompts, tokens):
            found[place].append(token.id)
    session.join()
    assert session.failure is None
    plain = InsecurePlainEngine(plan)
    for place, ids in enumerate(prompts):
        assert len(found[place]) == tokens
        for at, token in enumerate(found[place]):
            text = [*ids, *found[place][:at]]
            first = prefill(program, len(text))
            (logits,) = plain.run(first.graph, weights=first.weights, ids=np.array(text))
            assert logits[token] >= logits[:usable].max() - TOLERANCE, (place, at)
    return tokens / len(session.done)


@pytest.mark.parametrize(
    ("rung", "reveal", "by", "steady"),
    [(DEMO[2], LOGITS, "draft", False), (DEMO[2], TOKEN, "phrases", True), (DEMO[1], LOGITS, "phrases", False)],
)
def test_the_tokens_are_the_models(tokenizer_bytes, rung, reveal, by, steady):
    check(rung, tokenizer_bytes, reveal, by, steady, [[1, 2, 1, 2], [9, 8, 7]], 8)


@pytest.mark.slow
@pytest.mark.parametrize("steady", [False, True])
@pytest.mark.parametrize("by", ["phrases", "draft"])
@pytest.mark.parametrize("reveal", [LOGITS, TOKEN])
@pytest.mark.parametrize("rung", DEMO)
def test_two_hundred_tokens_are_the_models(tokenizer_bytes, rung, reveal, by, steady):
    """Five answers, one after the other and then the last two together."""
    prompts = [[3, 4, 3], [200, 100], [7], [1, 2, 1, 2], [50, 60, 70, 50, 60]]
    for several in (prompts[:1], prompts[1:2], prompts[2:3], prompts[3:]):
        a_step = check(rung, tokenizer_bytes, reveal, by, steady, several, 40)
        assert by == "phrases" or a_step > 1.5
