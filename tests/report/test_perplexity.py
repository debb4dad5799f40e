"""Predictions by the model, by the fixed-point reference and by a session: the same tokens, and what they cost."""

import math

import numpy as np
import pytest
import torch

from aero.compiler.compile import compile
from aero.compiler.quantize import quantize
from aero.data.packing import Shard, ShardWriter, token_dtype
from aero.engines.insecure.plain import InsecurePlainEngine
from aero.engines.reveal import TOKEN, Reveal
from aero.graph import interpret
from aero.report.perplexity import Predictions, Text, by_model, by_plain_engine, by_session, disagreements, texts_of
from aero.serve.session import Span
from serve.test_session import CONTEXT, PROGRAM, open_session, tokenizer_bytes
from small_models import logits_in_any_order, make_model

assert open_session and tokenizer_bytes  # fixtures of the sessions

TEXTS = [Text(np.arange(40, 40 + CONTEXT), 2), Text(np.array([7, 8, 9]), 2)]


def test_a_session_predicts_each_token_from_those_before(open_session):
    session, done = open_session(), []
    with session.client() as client:
        found, records = by_session(client, TEXTS, done.append)
    session.join()
    assert session.steps == [Span(0, 2), Span(2, 1), Span(3, 1), Span(4, 1), Span(0, 2)]
    assert [r.work for r in records] == ["set-up", "prefill", *["next-token"] * 3, "prefill"]
    assert done == [1, 2, 3, 4, 5]
    rows = np.concatenate([interpret(PROGRAM, np.resize(t.ids, CONTEXT))[1 : len(t.ids) - 1] for t in TEXTS])
    assert np.allclose(found.logits, rows, rtol=0, atol=1e-12)
    assert found.actual.tolist() == [42, 43, 44, 45, 9]
    expected = torch.nn.functional.cross_entropy(torch.tensor(rows), torch.tensor(found.actual)).item()
    assert found.loss == pytest.approx(expected, rel=1e-12)
    assert found.perplexity == pytest.approx(math.exp(expected), rel=1e-12)


@pytest.mark.parametrize("reveal", [TOKEN, Reveal(3)])
def test_what_is_not_revealed_is_not_known(open_session, reveal):
    session, in_full = open_session(reveal), open_session()
    with session.client() as client, in_full.client() as other:
        found, reference = by_session(client, TEXTS)[0], by_session(other, TEXTS)[0]
    assert found.loss is None and found.perplexity is None
    assert reference.perplexity is not None
    assert found.agreement(reference) == 5 and disagreements(found, reference, TEXTS) == []
    assert found.distance(reference) == (0.0 if reveal.values else None)


def test_where_tokens_differ_the_margin_says_how_clear_it_was():
    actual = np.concatenate([text.actual for text in TEXTS])
    logits = np.zeros((5, 4))
    logits[:, 1] = 1.0
    logits[:, 3] = 9.0  # no token: the vocabulary has three
    other = logits.copy()
    other[3, 2] = 1.25
    found, reference = (Predictions(rows, actual, 3) for rows in (other, logits))
    (difference,) = disagreements(found, reference, TEXTS)
    assert (difference.read, difference.token, difference.expected, difference.margin) == (5, 2, 1, 1.0)
    assert found.agreement(reference) == 4 and found.distance(reference) == 1.25


def test_the_plain_engine_reads_as_a_session_does():
    """Its steps give the very numbers of all positions at once."""
    model = make_model("SM+LN+G", context=8)
    compiled = compile(model, softmax_base="2", check=False)
    rng = np.random.default_rng(0)
    plan = quantize(compiled.program, list(rng.integers(50, size=(4, 8)))).plan
    texts = [Text(rng.integers(50, size=8), 3), Text(rng.integers(50, size=5), 3)]
    plain, exact = by_plain_engine(compiled, plan, texts, 50), by_model(model, texts, 50)
    for computed, text, rows in ((plain, texts[0], slice(0, 5)), (plain, texts[1], slice(5, 7))):
        program = compiled.every_position(len(text.ids))
        with InsecurePlainEngine(plan) as engine:
            whole = engine.run(program.graph, weights=program.weights, ids=text.ids)
        assert np.array_equal(computed.logits[rows], whole[2:-1])
    logits, bound = logits_in_any_order(model.double(), torch.from_numpy(texts[0].ids[None]))
    np.testing.assert_allclose(exact.logits[:5], logits[0, 2:-1].numpy(), rtol=0, atol=bound.item())
    assert 0 < plain.distance(exact) < 0.1
    assert np.array_equal(plain.actual, np.concatenate([text.ids[3:] for text in texts]))


def test_texts_are_blocks_from_the_first_wanted_on(tmp_path):
    with ShardWriter(tmp_path / "text.bin", 300, 0) as writer:
        writer.write(range(1, 40))
    shard = Shard(tmp_path / "text.bin", token_dtype(300))
    texts = texts_of(shard, 8, 5, 7, first=1)
    assert [text.ids.tolist() for text in texts] == [list(range(9, 17)), list(range(17, 25)), list(range(25, 31))]
    assert [list(text.reads) for text in texts] == [[5, 6, 7], [5, 6, 7], [5]]
    assert sum(len(text.actual) for text in texts) == 7
    for arguments, remedy in (((8, 5, 13, 1), "ask for fewer"), ((8, 8, 1), "read 1 to 7"), ((8, 5, 0), "at least 1")):
        with pytest.raises(ValueError, match=remedy):
            texts_of(shard, *arguments)
    with pytest.raises(ValueError, match="before the first prediction"):
        Text(np.arange(3), 3)
