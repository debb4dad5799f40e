"""Guessed tokens: the same text as without them, in fewer steps; what did not hold is taken back."""

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from aero.compiler.draft import Draft, pack, unpack
from aero.engines.reveal import LOGITS, TOKEN, Reveal
from aero.files.cache import Cache
from aero.serve.client import GREEDY
from aero.serve.drafts import MAX_GUESSES, Pace, continued_phrase
from aero.serve.sampling import Sampling, probabilities
from aero.serve.session import MAX_OUTPUTS, Span
from aero.wire import ProtocolError
from clear_session import LONGER, VOCABULARY, Session, greedy, logits_after, tokenizer_file


@pytest.fixture(scope="module")
def tokenizer_bytes(tmp_path_factory) -> bytes:
    return tokenizer_file(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def open_session(tokenizer_bytes):
    opened: list[Session] = []

    def open_one(reveal: Reveal = LOGITS, **how) -> Session:
        opened.append(Session(tokenizer_bytes, reveal, program=LONGER, **how))
        return opened[-1]

    yield open_one
    for session in opened:
        session.client_channel.close()
        session.join()


def test_a_phrase_goes_on_as_it_did_where_it_stood_last():
    assert continued_phrase([1, 2, 3, 9, 1, 2, 4, 9, 1, 2], 2) == [4, 9]
    assert continued_phrase([5, 1, 2, 3, 8, 6, 1, 2, 4, 8, 5, 1, 2], 3) == [3, 8, 6], "the longer phrase counts"
    assert continued_phrase([1, 2, 1, 2], 9) == [1, 2]
    assert continued_phrase([1, 2, 3, 1], 4) == [], "one token alone is no phrase"
    for ids in ([], [1], [1, 2], [1, 2, 3]):
        assert continued_phrase(ids, 4) == []


def test_as_many_are_guessed_as_pay():
    pace = Pace(8)
    assert pace.length(0, 1) == 0 and 0 < pace.length(8, 1) <= 8
    for _ in range(20):
        pace.took(1, 1.0)
        pace.took(4, 1.03)
        pace.guessed(8, 8)
    assert pace.length(8, 1) == 8 and pace.length(3, 1) == 3
    for _ in range(40):
        pace.guessed(8, 0)
    few = pace.length(8, 1)
    assert few < 4
    dear = Pace(8)
    for _ in range(20):
        dear.took(1, 1.0)
        dear.took(3, 3.0)
        dear.guessed(8, 1)
    assert dear.length(8, 1) == 0, "a row costs as much as a step"
    assert Pace(0).length(5, 1) == 0
    for most in (-1, MAX_GUESSES + 1):
        with pytest.raises(ValueError, match="guesses"):
            Pace(most)


class Eager(Pace):
    """Guesses all that there is."""

    def length(self, available, rows, source="phrase"):
        return min(self.most, available)


def eagerly(client):
    client._pace = Eager(client._pace.most)
    return client


def wrong_every(several):
    """A token that does not hold, at every so many places of the text; 0: none."""
    return lambda at: several and at % several == 0


@pytest.fixture
def told_wrongly(monkeypatch):
    """Guesses from the text that will be, of which those at some places are wrong: told_wrongly(text, wrong)."""

    def tell(text, wrong):
        def guess(ids, most):
            assert list(ids) == text[: len(ids)]
            coming = enumerate(text[len(ids) : len(ids) + most], len(ids))
            return [(token + 1) % 256 if wrong(at) else token for at, token in coming]

        monkeypatch.setattr("aero.serve.client.continued_phrase", guess)

    return tell


@pytest.mark.parametrize("reveal", [LOGITS, TOKEN, Reveal(5)])
def test_the_tokens_are_those_without_guesses_in_fewer_steps(open_session, told_wrongly, reveal):
    ids, tokens = [1, 2, 3, 4], greedy([1, 2, 3, 4], 24, LONGER)
    told_wrongly([*ids, *tokens], wrong_every(3))
    session = open_session(reveal)
    with eagerly(session.client(guesses=4)) as client:
        found = list(client.generate(ids, 24))
    assert [token.id for token in found] == tokens
    assert [token.last for token in found] == [False] * 23 + [True]
    for at, token in enumerate(found):
        exact = logits_after([*ids, *tokens[:at]], LONGER)
        shown = token.revealed
        assert len(shown) == (VOCABULARY if reveal.k is None else reveal.k)
        if reveal.values:
            np.testing.assert_allclose(token.logits[shown], exact[shown], rtol=0, atol=1e-9)
    assert len(session.steps) == 1 + 8, "two of three guesses hold: three tokens a step"
    for step in session.steps[1:]:
        assert step.length == step.outputs <= 5 and step.work == "next-token"
    # What did not hold was taken back by both, to the same place.
    assert session.client_engine.cuts_made == session.server_engine.cuts_made != []


def test_drawn_tokens_are_those_without_guesses(open_session, told_wrongly):
    sampling = Sampling(0.8, seed=5)
    ids = [1, 2, 3]
    with open_session().client() as client:
        plain = [token.id for token in client.generate(ids, 20, sampling=sampling)]
    assert plain != greedy(ids, 20, LONGER)
    told_wrongly([*ids, *plain], wrong_every(3))
    session = open_session()
    with eagerly(session.client(guesses=3)) as client:
        assert [token.id for token in client.generate(ids, 20, sampling=sampling)] == plain
    assert len(session.steps) < 10


def test_drawn_tokens_have_the_models_distribution(open_session, monkeypatch):
    """Three tokens, drawn among three each, where every guess is the most likely one: chi-squared of the 27 texts
    against the products of their probabilities, by the quantile that one of 10^4 exceeds (Wilson and Hilferty 1931)."""
    sampling = Sampling(3.0, top_k=3)
    ids, drawn, draws = [1, 2, 3], Counter(), 400
    likely = cache(lambda text: int(logits_after(list(text), LONGER).argmax()))

    def guess(text, most):
        found = list(text)
        for _ in range(most):
            found.append(likely(tuple(found)))
        return found[len(text) :]

    monkeypatch.setattr("aero.serve.client.continued_phrase", guess)
    session = open_session()
    with eagerly(session.client(guesses=2)) as client:
        usable = client.tokenizer.vocab_size
        for seed in range(draws):
            tokens = client.generate(ids, 3, sampling=replace(sampling, seed=seed))
            drawn[tuple(token.id for token in tokens)] += 1
    assert len(session.steps) < 2.9 * draws, "some guesses hold"
    expected = {(): 1.0}
    for _ in range(3):
        expected = {
            (*text, int(i)): chance * shares[i]
            for text, chance in expected.items()
            for shares in [probabilities(logits_after([*ids, *text], LONGER)[:usable], sampling)]
            for i in np.flatnonzero(shares)
        }
    assert drawn.keys() <= expected.keys() and len(expected) == 27
    often = {text: draws * chance for text, chance in expected.items() if draws * chance >= 5}
    rest = draws - sum(often.values())
    counts = [(drawn[text], mean) for text, mean in often.items()]
    counts += [(draws - sum(count for count, _ in counts), rest)] if rest > 1 else []
    chi_squared = sum((count - mean) ** 2 / mean for count, mean in counts)
    freedom = len(counts) - 1
    assert freedom > 3 and chi_squared < freedom * (1 - 2 / (9 * freedom) + 3.719 * (2 / (9 * freedom)) ** 0.5) ** 3


def test_several_prompts_guess_each_for_itself(open_session):
    prompts = [[1, 2, 1, 2], [7, 8, 9], [30, 2, 30, 2, 30]]
    session = open_session()
    with eagerly(session.client(guesses=4)) as client:
        found = {place: [] for place in range(3)}
        for place, token in client.generate_batch(prompts, 12):
            found[place].append(token.id)
    assert found == {place: greedy(ids, 12, LONGER) for place, ids in enumerate(prompts)}
    for done in session.done:
        assert sum(step.outputs for step in done.steps) <= MAX_OUTPUTS
        assert sum(step.length for step in done.steps) <= LONGER.graph.length


def test_what_follows_a_kept_answer_takes_guesses_back(open_session, told_wrongly):
    """Guesses behind an answer's end, here of its end token, are no part of what is gone on with."""
    ids, tokens = [1, 2, 1, 2], greedy([1, 2, 1, 2], 12, LONGER)
    told_wrongly([*ids, *tokens], wrong_every(3))
    session = open_session(ends=(tokens[8],))
    with eagerly(session.client(guesses=4)) as client:
        answer = [token.id for token in client.generate(ids, 12, keep=True)]
        assert answer == tokens[: tokens.index(tokens[8]) + 1]
        longer = [*ids, *answer, 40, 41]
        (token,) = client.generate(longer, 1, keep=True)
        assert token.id == greedy(longer, 1, LONGER)[0]
    assert session.steps[-1].past >= len(ids) + len(answer) - 1, "what was read is not read again"


def test_padding_goes_with_guesses(open_session, told_wrongly):
    session = open_session()
    with eagerly(session.client(pad_to=8, guesses=3)) as client:
        expected = greedy([client.tokenizer.end_of_text] * 4 + [1, 2, 1, 2], 12, LONGER)
        told_wrongly([1, 2, 1, 2, *expected], wrong_every(3))
        assert [token.id for token in client.generate([1, 2, 1, 2], 12)] == expected
    assert session.steps[0] == Span(0, 8) and len(session.steps) < 8


@pytest.mark.parametrize("reveal", [LOGITS, Reveal(5)])
def test_steady_steps_are_the_same_whatever_holds(open_session, told_wrongly, reveal):
    """The tokens are those without guesses, and each step's past and length follow from its number alone."""
    ids, tokens = [1, 2, 3, 4], greedy([1, 2, 3, 4], 24, LONGER)
    counts = []
    for several in (0, 1, 3):
        told_wrongly([*ids, *tokens], wrong_every(several))
        session = open_session(reveal)
        with session.client(guesses=15, steady=True) as client:
            found = list(client.generate(ids, 24))
        assert [token.id for token in found] == tokens
        assert [token.last for token in found] == [False] * 23 + [True]
        for at, token in enumerate(found):
            exact = logits_after([*ids, *tokens[:at]], LONGER)
            np.testing.assert_allclose(token.logits[token.revealed], exact[token.revealed], rtol=0, atol=1e-9)
        lengths = [min(16, 40 - past) for past in range(4, 3 + len(session.steps))]
        assert session.steps == [Span(0, 4), *(Span(past, n, n) for past, n in enumerate(lengths, 4))]
        counts.append(len(session.steps))
    assert counts == [24 - 15, 24, 24 - 15], "at most as many fewer as are guessed"


def test_steady_steps_of_several_prompts(open_session):
    """Their lengths follow from how many prompts are left, and the context's end."""
    prompts = [[1, 2, 1, 2], [7, 8, 9], [30, 2, 30, 2, 30]]
    session = open_session()
    with session.client(guesses=4, steady=True) as client:
        found = {place: [] for place in range(3)}
        for place, token in client.generate_batch(prompts, 36 - 5):
            found[place].append(token.id)
    assert found == {place: greedy(ids, 36 - 5, LONGER) for place, ids in enumerate(prompts)}
    lengths = [len(ids) for ids in prompts]
    assert session.done[0].steps == tuple(Span(0, length) for length in lengths)
    for number, done in enumerate(session.done[1:]):
        for step in done.steps:
            assert step.past - number in lengths and step.length == step.outputs == min(5, 40 - step.past)


def test_steady_steps_then_what_follows_a_kept_answer(open_session, told_wrongly):
    ids, tokens = [1, 2, 1, 2], greedy([1, 2, 1, 2], 12, LONGER)
    told_wrongly([*ids, *tokens, *tokens], wrong_every(5))
    session = open_session()
    with session.client(guesses=4, steady=True) as client:
        answer = [token.id for token in client.generate(ids, 12, keep=True)]
        steps = len(session.steps)
        longer = [*ids, *answer, 40, 41]
        (token,) = client.generate(longer, 1, keep=True)
        assert answer == tokens and token.id == greedy(longer, 1, LONGER)[0]
    assert session.steps[-1] == Span(4 + steps - 1, 18 - (4 + steps - 1)), "what is settled is not read again"


def test_padding_goes_with_steady_steps(open_session, told_wrongly):
    session = open_session()
    with session.client(pad_to=8, guesses=3, steady=True) as client:
        expected = greedy([client.tokenizer.end_of_text] * 4 + [1, 2, 1, 2], 12, LONGER)
        told_wrongly([1, 2, 1, 2, *expected], wrong_every(4))
        assert [token.id for token in client.generate([1, 2, 1, 2], 12)] == expected
    assert session.steps == [Span(0, 8), *(Span(8 + n, 4, 4) for n in range(len(session.steps) - 1))]


def test_tokens_that_are_given_hold(open_session):
    """As where a program has their probabilities measured; the server does not see that they were known."""
    ids, tokens = [1, 2, 3], list(range(60, 72))
    session = open_session()
    with session.client(guesses=5, steady=True) as client:
        prompt = client.continuation(ids, 2, given=tokens)
        found = [token for _, token in client.go_on({0: prompt}, keep=False)]
    assert [token.id for token in found[:12]] == tokens
    assert [token.id for token in found[12:]] == greedy([*ids, *tokens], 2, LONGER)
    for at, token in enumerate(found[:12]):
        np.testing.assert_allclose(token.logits, logits_after([*ids, *tokens[:at]], LONGER), rtol=0, atol=1e-9)
    assert session.steps == [Span(0, 3), *(Span(3 + n, 6, 6) for n in range(len(session.steps) - 1))]
    assert len(session.steps) < 14


def test_steady_without_guesses_is_refused(open_session):
    with pytest.raises(ValueError, match="give a number of guesses"):
        open_session().client(steady=True)


def test_by_default_nothing_is_guessed(open_session):
    session = open_session()
    with session.client() as client:
        assert [t.id for t in client.generate([1, 2, 1, 2], 9, sampling=GREEDY)] == greedy([1, 2, 1, 2], 9, LONGER)
    assert session.steps == [Span(0, 4), *(Span(4 + n, 1) for n in range(8))]


def test_a_step_with_impossible_outputs_ends_the_session(open_session):
    for past, length, outputs, reason in (
        (0, 3, 2, "2 outputs of 3 tokens after 0"),
        (3, 2, 3, "3 outputs of 2 tokens after 3"),
        (3, 2, 0, "0 outputs of 2 tokens after 3"),
        (3, 34, 33, "33 outputs at once"),
        (4, 1, 1, "tokens after 4 others, where 3 were read"),
    ):
        session = open_session()
        client = session.client()
        client.next_logits([1, 2, 3])
        step = {"prompt": 0, "past": past, "length": length, "outputs": outputs, "digest": ""}
        session.client_channel.send_control({"say": "step", "prompts": [step]})
        answer = session.client_channel.recv_control()
        assert answer["say"] == "refusal" and reason in answer["reason"]
        session.join()


def draft_for(data, vocab_size):
    return Draft(unpack(data, vocab_size)).guess


def test_a_model_that_the_server_publishes_guesses(open_session):
    """Its own weights as the draft: all guesses hold, where no phrase was there before."""
    ids = [1, 2, 3, 4]
    session = open_session(draft=pack(LONGER))
    with eagerly(session.client(guesses=3, draft_for=draft_for)) as client:
        assert client.offer.draft_bytes == len(pack(LONGER))
        assert [token.id for token in client.generate(ids, 21)] == greedy(ids, 21, LONGER)
    assert [step.length for step in session.steps] == [4, 4, 4, 4, 4, 4]
    assert session.client_engine.cuts_made == []


def test_a_draft_model_is_sent_once(open_session, tmp_path):
    """The second session has it from the cache, unless it was changed there; a server is asked for it once."""
    drafts, size = Cache(tmp_path / "drafts"), len(pack(LONGER))
    for sent in (True, False, True):
        session = open_session(draft=pack(LONGER))
        with session.client(guesses=3, draft_for=draft_for, drafts=drafts) as client:
            assert [token.id for token in eagerly(client).generate([1, 2], 9)] == greedy([1, 2], 9, LONGER)
            assert (session.client_channel.traffic.bytes_received > size) is sent
        (kept,) = (tmp_path / "drafts").iterdir()
        assert kept.name == client.offer.draft_digest and kept.read_bytes() == pack(LONGER)
        if not sent:
            kept.write_bytes(pack(LONGER)[:-1] + b"?")
    for draft in (b"", pack(LONGER)):
        session = open_session(draft=draft)
        client = session.client(guesses=3)
        for _ in range(2 if draft else 1):
            session.client_channel.send_control({"say": "draft"})
        if draft:
            session.client_channel.recv(len(draft), np.uint8)
        answer = session.client_channel.recv_control()
        assert answer["say"] == "refusal" and "draft model" in answer["reason"]


def test_another_draft_model_than_the_one_that_was_offered_ends_the_session(open_session, monkeypatch):
    session = open_session(draft=pack(LONGER))
    monkeypatch.setattr(session.server, "_draft", pack(LONGER)[:-1] + b"?")
    with pytest.raises(ProtocolError, match="not the one that was offered"):
        session.client(guesses=3, draft_for=draft_for)


def test_who_guesses_nothing_gets_no_draft_model(open_session):
    session = open_session(draft=pack(LONGER))
    with session.client(draft_for=draft_for) as client:
        assert [token.id for token in client.generate([1, 2], 3)] == greedy([1, 2], 3, LONGER)
        assert session.client_channel.traffic.bytes_received < len(pack(LONGER))


def test_another_draft_model_than_a_usable_one_ends_the_session(open_session):
    session = open_session(draft=b"none" * 20)
    with pytest.raises(ProtocolError, match="draft model is not usable"):
        session.client(guesses=3, draft_for=draft_for)


def test_an_engine_that_takes_nothing_back_does_not_guess(open_session, monkeypatch):
    session = open_session()
    monkeypatch.setattr(session.client_engine, "cuts", False, raising=False)
    with pytest.raises(ValueError, match="leave the guesses out"):
        session.client(guesses=2)
