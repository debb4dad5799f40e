"""The talk around the computation, over a channel in memory; the computation itself is in the clear here."""

import json
from collections.abc import Callable
from queue import Queue

import numpy as np
import pytest

from aero.compiler.positions import decode, prefill
from aero.data.chat_template import ChatTemplate
from aero.engines.reveal import LOGITS, TOKEN, Reveal
from aero.graph.task import GENERATE
from aero.mpc.party import Role
from aero.serve.client import Client, check_length
from aero.serve.limits import LimitError
from aero.serve.sampling import Sampling, probabilities
from aero.serve.session import PROTOCOL, DeclinedError, Span
from aero.wire import Channel, PeerClosedError, ProtocolError, UntrustedPeerError
from aero.wire.memory import channel_pair
from clear_session import (
    CONTEXT,
    PROGRAM,
    VOCABULARY,
    InsecureTestEngine,
    Session,
    greedy,
    logits_after,
    tokenizer_file,
)


@pytest.fixture(scope="module")
def tokenizer_bytes(tmp_path_factory) -> bytes:
    return tokenizer_file(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def open_session(tokenizer_bytes):
    opened: list[Session] = []

    def open_one(reveal: Reveal = LOGITS, ends: tuple[int, ...] = ()) -> Session:
        opened.append(Session(tokenizer_bytes, reveal, ends=ends))
        return opened[-1]

    yield open_one
    for session in opened:
        session.client_channel.close()
        session.join()


@pytest.fixture
def session(open_session):
    return open_session()


def test_a_session_gives_the_greedy_tokens(session):
    with session.client() as client:
        assert (client.offer.notation, client.offer.context, client.offer.engine) == ("SM", CONTEXT, "insecure-test")
        ids = client.tokenizer.encode("to")
        tokens = list(client.generate(ids, 3))
    session.join()
    assert session.failure is None
    assert [token.id for token in tokens] == greedy(ids, 3)
    assert "".join(token.text for token in tokens) == client.tokenizer.decode([token.id for token in tokens])
    read = list(ids)
    for token in tokens:
        np.testing.assert_allclose(token.logits, logits_after(read), rtol=0, atol=1e-9)
        read.append(token.id)
    # The prompt once, then one token each: what was read before is in the state.
    n = len(ids)
    assert session.steps == [Span(0, n), Span(n, 1), Span(n + 1, 1)] == [token.step for token in tokens]
    assert [step.work for step in session.steps] == ["prefill", "next-token", "next-token"]
    assert session.client_engine.closed and session.server_engine.closed


def test_a_text_ends_with_any_of_the_models_end_tokens(open_session):
    """Alone and in a batch, whatever the tokenizer calls its end of text."""
    whole = {prompt: greedy([prompt], 6) for prompt in (1, 2, 3, 4)}
    ends = (whole[1][1], whole[2][2])
    expected = {p: ids[: next((i for i, t in enumerate(ids) if t in ends), 5) + 1] for p, ids in whole.items()}
    assert len({len(ids) for ids in expected.values()}) > 1, "texts of one length show nothing"
    session = open_session(ends=ends)
    with session.client() as client:
        assert client.offer.end_tokens == ends
        for prompt, ids in expected.items():
            tokens = list(client.generate([prompt], 6))
            assert [token.id for token in tokens] == ids
            spoken = ids[:-1] if ids[-1] in ends else ids
            assert "".join(token.text for token in tokens) == client.tokenizer.decode(spoken)
        found = {prompt: [] for prompt in whole}
        for place, token in client.generate_batch([[prompt] for prompt in whole], 6):
            found[list(whole)[place]].append(token.id)
        assert found == expected
    session.join()
    assert session.failure is None


def test_a_server_refuses_end_tokens_that_its_tokenizer_has_not(tokenizer_bytes):
    for ends in ((VOCABULARY,), (-1,), tuple(range(65)), (1.5,)):
        with pytest.raises((ValueError, ProtocolError), match="end token"):
            Session(tokenizer_bytes, ends=ends)


def test_several_prompts_in_one_session(session):
    prompts = [[1, 2, 3], [4, 5, 6], [7, 8]]
    with session.client() as client:
        before = session.client_channel.traffic.messages
        for prompt in prompts:
            assert [token.id for token in client.generate(prompt, 3)] == greedy(prompt, 3)
        messages = session.client_channel.traffic.messages - before
    session.join()
    assert session.failure is None
    assert session.steps == [step for n in (3, 3, 2) for step in (Span(0, n), Span(n, 1), Span(n + 1, 1))]
    # Nine requests and their goes, three ends; each of the five graphs was sent once.
    assert len(set(session.steps)) == 5 and messages == 9 + 9 + 3 + 5


def test_a_prompt_that_continues_the_last_one_is_not_read_again(session):
    with session.client() as client:
        first = [token.id for token in client.generate([1, 2], 2, keep=True)]
        ids = [1, 2, *first, 7]
        (token,) = client.generate(ids, 1, keep=True)
        assert token.id == greedy(ids, 1)[0]
        (other,) = client.generate([*ids[:-1], 8], 1, keep=True)  # not a continuation
        assert other.id == greedy([*ids[:-1], 8], 1)[0]
    session.join()
    # The last new token was chosen, but not read yet.
    assert session.steps == [Span(0, 2), Span(2, 1), Span(3, 2), Span(0, 5)]
    assert [step.work for step in session.steps] == ["prefill", "next-token", "prefill", "prefill"]


def test_a_prompt_that_has_ended_is_forgotten_by_both(session):
    ours, theirs = session.client_engine, session.server_engine
    with session.client() as client:
        tokens = client.generate([1, 2], 2)
        assert next(tokens) and set(theirs.states) == {0} and ours.forgotten == []
        assert next(tokens) and ours.forgotten == [0]  # the last one, though the iteration is not over
        client.next_logits([1, 2, 3])  # nothing of it is there to continue
        assert theirs.forgotten == [0] and set(theirs.states) == {0}
        client.forget([0, 3])
        client.forget([0])
        assert ours.forgotten == [0, 0]
        assert [token.id for token in client.generate([1, 2, 3, 4], 1)] == greedy([1, 2, 3, 4], 1)
    session.join()
    assert session.failure is None
    assert session.steps == [Span(0, 2), Span(2, 1), Span(0, 3), Span(0, 4)]
    assert ours.forgotten == theirs.forgotten == [0, 0, 0] and theirs.states == {}


def test_a_step_that_the_engine_refuses_is_declined_before_any_work_and_the_session_goes_on(session):
    ours, theirs = session.client_engine, session.server_engine
    theirs.refused = [3]
    with session.client() as client:
        with pytest.raises(DeclinedError, match="cannot compute 3 tokens of one prompt at once") as told:
            next(client.generate([1, 2, 3], 2))
        assert "77" not in str(told.value) and "q" not in str(told.value).split("declines: ")[1].split("ask")[0]
        assert session.declined == ["blocks.0.q: the noise may reach 77 steps"]
        assert session.done == [] and ours.forgotten == [] and not session.client_channel.ended
        assert [token.id for token in client.generate([1, 2], 3)] == greedy([1, 2], 3)
        with pytest.raises(DeclinedError):  # again, of a prompt that has keys and values
            client.next_logits([7])
            client.next_logits([7, 1, 2, 3])
        logits, step = client.next_logits([7, 1])
        assert step == Span(1, 1)
        np.testing.assert_allclose(logits, logits_after([7, 1]), rtol=0, atol=1e-9)
        theirs.refused = [1, 1]
        with pytest.raises(DeclinedError, match="2 tokens of 2 prompts"):
            list(client.generate_batch([[1, 2], [3, 4]], 2))
    session.join()
    assert session.failure is None and len(session.declined) == 3
    assert theirs.states == {}  # what was held when a batch was declined is dropped


def test_a_step_over_a_limit_is_declined_and_the_session_goes_on(session):
    asked: list[tuple[int, int]] = []
    over: list[LimitError] = []

    def admit(tokens: int, outputs: int) -> None:
        asked.append((tokens, outputs))
        if over:
            raise over.pop()

    session.admit = admit
    with session.client() as client:
        growing = client.generate([1, 2], 4)
        first = next(growing)
        over.append(LimitError("alice has used 3 of its 3 tokens a minute; free again in 9 s", "tokens_a_minute", 8.2))
        with pytest.raises(DeclinedError, match=r"the server declines: alice has used 3 .* free again in 9 s") as told:
            next(growing)
        assert (told.value.limit, told.value.retry) == ("tokens_a_minute", 9)
        assert [first.id, *(token.id for token in client.generate([1, 2, first.id], 2))] == greedy([1, 2], 3)
        over.append(LimitError("it cannot count", detail="accounts at /secret: locked"))
        with pytest.raises(
            DeclinedError, match=r"declines: it cannot count$"
        ) as told:  # of steps that were computed before
            list(client.generate([1, 2, first.id], 2))
        assert (told.value.limit, told.value.retry) == ("", None)
        list(client.generate_batch([[1, 2], [3]], 1))
    session.join()
    assert asked == [(2, 1), (1, 1), (3, 1), (1, 1), (3, 1), (3, 2)]
    assert session.declined == [
        "alice has used 3 of its 3 tokens a minute; free again in 9 s",
        "accounts at /secret: locked",
    ]
    assert len(session.done) == 4 and session.failure is None


def test_a_client_that_is_revoked_hears_so_at_its_next_step(session):
    def revoked(tokens: int, outputs: int) -> None:
        raise UntrustedPeerError("alice was revoked")

    with pytest.raises(ProtocolError, match="the other side refuses: alice was revoked"), session.client() as client:
        list(client.generate([1, 2], 2))
        session.admit = revoked
        client.next_logits([1, 2])
    session.client_channel.close()
    session.join()
    assert isinstance(session.failure, UntrustedPeerError) and len(session.done) == 2


def test_what_the_engine_can_compute_is_asked_once(session):
    with session.client() as client:
        for prompt in ([1, 2], [5, 6]):
            list(client.generate(prompt, 2))
        assert session.server_engine.loaded == [[2], [1]]
        before = session.client_channel.traffic.messages
        list(client.generate_batch([[1, 2], [3, 4]], 1))  # known graphs, together for the first time
        assert session.client_channel.traffic.messages - before == 3  # request, go, end
        list(client.generate_batch([[1, 2], [3, 4]], 1))
        assert session.client_channel.traffic.messages - before == 6
    session.join()
    assert session.failure is None and session.server_engine.loaded == [[2], [1], [2, 2]]


def test_prompts_of_a_batch_are_forgotten_as_they_end(session):
    prompts = [[1, 2], [3], [10, 11]]
    with session.client() as client:
        texts = [client.tokenizer.decode(greedy(ids, 4)) for ids in prompts]
        stop = [texts[1][0], texts[2][2]]  # texts of 4, 1 and 3 tokens, as below
        assert len(list(client.generate_batch(prompts, 4, stop=stop))) == 4 + 1 + 3
    session.join()
    assert session.failure is None
    assert session.server_engine.held == [{0, 1, 2}, {0, 2}, {0, 2}, {0}]
    assert session.client_engine.forgotten == session.server_engine.forgotten == [1, 2, 0]
    assert session.server_engine.states == {}


def test_prompts_that_end_at_different_times_share_their_runs(session):
    prompts = [[1, 2], [3], [10, 11]]
    with session.client() as client:
        texts = [client.tokenizer.decode(greedy(ids, 4)) for ids in prompts]
        stop = [texts[1][0], texts[2][2]]  # one character to a token here: texts of 4, 1 and 3 tokens
        expected = [list(client.generate(ids, 4, stop=stop)) for ids in prompts]
        before, messages = len(session.done), session.client_channel.traffic.messages
        found: list[list] = [[], [], []]
        for i, token in client.generate_batch(prompts, 4, stop=stop):
            found[i].append(token)
        messages = session.client_channel.traffic.messages - messages
    session.join()
    assert session.failure is None
    for tokens, same in zip(found, expected, strict=True):
        assert [(t.id, t.text) for t in tokens] == [(t.id, t.text) for t in same]
        for token, other in zip(tokens, same, strict=True):
            np.testing.assert_allclose(token.logits, other.logits, rtol=0, atol=1e-9)
    assert [len(tokens) for tokens in found] == [4, 1, 3]
    runs = {token.run.index: token.run for tokens in found for token in tokens}
    shared = session.done[before : before + len(runs)]
    assert [run.steps for _, run in sorted(runs.items())] == [computed.steps for computed in shared]
    assert shared[0].steps == (Span(0, 2), Span(0, 1), Span(0, 2)) and shared[0].work == "prefill"
    assert len(shared) == max(map(len, found))
    assert all(len(computed.steps) == sum(len(t) > n for t in found) for n, computed in enumerate(shared))
    # A request and a go each, and an end of each prompt; no graph.
    assert messages == 2 * len(shared) + 3


def test_prompts_of_one_length_get_one_graph(session):
    with session.client() as client:
        before = session.client_channel.traffic.messages
        assert len(list(client.generate_batch([[1, 2], [3, 4], [5, 6]], 1))) == 3
        assert session.client_channel.traffic.messages - before == 4  # request, announcement, graph, end
    session.join()
    assert session.failure is None


def test_prompts_longer_than_the_context_together_take_several_runs(session):
    prompts = [[1, 2, 3], [4, 5], [6, 7, 8]]
    with session.client() as client:
        found = list(client.generate_batch(prompts, 2))
    session.join()
    assert session.failure is None
    assert [computed.steps for computed in session.done] == [
        (Span(0, 3), Span(0, 2)), (Span(0, 3),), (Span(3, 1), Span(2, 1), Span(3, 1))
    ]  # fmt: skip
    for i, ids in enumerate(prompts):
        assert [token.id for place, token in found if place == i] == greedy(ids, 2)


def test_each_prompt_draws_what_it_would_draw_alone(session):
    sampling, prompts = Sampling(30.0, seed=5), [[1, 2], [3]]
    with session.client() as client:
        alone = [[token.id for token in client.generate(ids, 3, sampling=sampling)] for ids in prompts]
        together: list[list[int]] = [[], []]
        for i, token in client.generate_batch(prompts, 3, sampling=sampling):
            together[i].append(token.id)
    assert together == alone


def test_more_prompts_than_the_server_offers_are_refused(session):
    with session.client() as client:
        with pytest.raises(ValueError, match="1 to 4 prompts at once, not 5"):
            client.generate_batch([[1]] * 5, 1)
        with pytest.raises(ValueError, match="not 0"):
            client.generate_batch([], 1)
        with pytest.raises(ValueError, match="context of 6"):
            client.generate_batch([[1], [1] * 7], 1)
    session.join()
    assert session.done == [] and session.failure is None


@pytest.mark.parametrize("count", [0, 33])
def test_a_server_offers_a_sane_number_of_prompts(tokenizer_bytes, count):
    with pytest.raises(ValueError, match="1 to 32 prompts"):
        Session(tokenizer_bytes, max_prompts=count)


@pytest.mark.parametrize("reveal", [TOKEN, Reveal(1), Reveal(7)], ids=str)
def test_no_more_is_revealed_than_the_server_offers(open_session, reveal):
    session = open_session(reveal)
    with session.client() as client:
        assert client.offer.revealed == reveal
        tokens = list(client.generate([1, 2], 3))
        assert [token.id for token in tokens] == greedy([1, 2], 3)
        for token in tokens:
            assert len(token.revealed) == reveal.k
        if reveal.values:
            expected = np.sort(logits_after([1, 2])[: client.tokenizer.vocab_size])[::-1][: reveal.k]
            np.testing.assert_allclose(np.sort(tokens[0].logits[tokens[0].revealed])[::-1], expected, rtol=1e-9)
            drawn = list(client.generate([1, 2], 3, sampling=Sampling(1.0, seed=0)))
            assert set(drawn[0].revealed) >= {drawn[0].id}
            with pytest.raises(ValueError, match=f"reveals {reveal.k} logits"):
                client.generate([1, 2], 1, sampling=Sampling(1.0, top_k=8))
        else:
            with pytest.raises(ValueError, match="nothing to draw from"):
                client.generate([1, 2], 1, sampling=Sampling(1.0))
    session.join()
    assert session.failure is None


def test_tokens_are_drawn_as_a_seed_says(session):
    sampling = Sampling(30.0, seed=5)
    with session.client() as client:
        drawn = [[token.id for token in client.generate([1, 2], 4, sampling=sampling)] for _ in range(2)]
        other = [token.id for token in client.generate([1, 2], 4, sampling=Sampling(30.0, seed=6))]
        usable = logits_after([1, 2])[: client.tokenizer.vocab_size]
        # The first token is what numpy draws from these probabilities.
        assert drawn[0][0] == np.random.default_rng(5).choice(len(usable), p=probabilities(usable, sampling))
    assert drawn[0] == drawn[1] != other


def test_a_stop_string_ends_the_text(session):
    with session.client() as client:
        whole = client.tokenizer.decode([token.id for token in client.generate([1, 2], 4)])
        stop = whole[2:4]
        tokens = list(client.generate([1, 2], 4, stop=[stop]))
    assert "".join(token.text for token in tokens) == whole[: whole.index(stop)]
    assert len(tokens) <= 4


def test_too_much_is_refused_before_any_work(session):
    with session.client() as client:
        with pytest.raises(ValueError, match="context of 6"):
            client.generate([1] * 5, 3)
        with pytest.raises(ValueError, match="empty"):
            client.generate([], 1)
        with pytest.raises(ValueError, match="empty"):
            client.generate([1], 1, stop=["x", ""])
    session.join()
    assert session.steps == [] and session.failure is None
    check_length(5, 2, 6)  # the last token is never read


def raw(session, *messages: dict) -> Channel:
    for message in messages:
        session.client_channel.send_control(message)
    return session.client_channel


HELLO = {"say": "hello", "protocol": PROTOCOL, "version": "0"}
ONE = {"prompt": 0, "past": 0, "length": 2, "outputs": 1, "digest": ""}


def step_of(*prompts: dict) -> dict:
    return {"say": "step", "prompts": list(prompts)}


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([{"say": "what"}], "expected hello"),
        ([{"protocol": PROTOCOL}], "expected hello"),
        ([{**HELLO, "protocol": str(PROTOCOL)}], "not int"),
        ([{**HELLO, "protocol": 99}], "protocol 99"),
        ([HELLO, {"say": "step", "past": 0, "length": 2, "digest": ""}], "'prompts'"),
        ([HELLO, {"say": "step", "prompts": {"0": ONE}}], "not list"),
        ([HELLO, {"say": "step", "prompts": [0]}], "not a JSON object"),
        ([HELLO, step_of()], "0 prompts at once"),
        ([HELLO, step_of(*({**ONE, "prompt": i, "length": 1} for i in range(5)))], "5 prompts at once"),
        ([HELLO, step_of(ONE, ONE)], "the same prompt twice"),
        ([HELLO, step_of({**ONE, "prompt": -1})], "the prompt number -1"),
        ([HELLO, step_of({**ONE, "prompt": 4})], "knows 0 to 3"),
        ([HELLO, step_of({**ONE, "prompt": "0"})], "not int"),
        ([HELLO, step_of({"prompt": 0, "past": 0, "outputs": 1, "digest": ""})], "'length'"),
        ([HELLO, step_of({**ONE, "length": True})], "not int"),
        ([HELLO, step_of({**ONE, "length": 0})], "do not fit"),
        ([HELLO, step_of({**ONE, "length": CONTEXT + 1})], "do not fit"),
        ([HELLO, step_of({**ONE, "length": 4}, {**ONE, "prompt": 1, "length": 3})], "7 tokens at once"),
        ([HELLO, step_of({**ONE, "past": -1})], "0 were read"),
        ([HELLO, step_of({**ONE, "past": 3})], "0 were read"),
        ([HELLO, step_of({**ONE, "digest": 1})], "not str"),
        ([HELLO, step_of({**ONE, "outputs": 2})], "2 outputs of 2 tokens after 0"),
        ([HELLO, step_of({**ONE, "outputs": None})], "not int"),
        ([HELLO, {"say": "end", "prompts": [0]}], "have not begun"),
        ([HELLO, {"say": "end", "prompts": ["0"]}], "have not begun"),
        ([HELLO, {"say": "end", "prompts": [[]]}], "have not begun"),
        ([HELLO, {"say": "end", "prompts": 0}], "not list"),
        ([HELLO, {"say": "offer"}], "expected step or end or draft or finish"),
    ],
)
def test_a_server_refuses_what_it_does_not_expect(session, messages, complaint):
    raw(session, *messages)
    session.join()
    assert isinstance(session.failure, ProtocolError)
    assert complaint in str(session.failure)


def test_a_client_that_goes_away_ends_the_session(session):
    channel = raw(session, HELLO)
    channel.recv(channel.recv_control()["tokenizer_bytes"], np.uint8)
    channel.close()
    session.join()
    assert isinstance(session.failure, PeerClosedError)
    assert session.server_engine.closed


def client_of(answers: Callable[[Channel], None]) -> Client:
    """A client that talks to a made-up server."""
    ours, theirs = channel_pair(timeout=10)
    answers(theirs)
    return Client(ours, lambda name, _: InsecureTestEngine(Role.CLIENT, Queue(), Queue()))


def offer(tokenizer: bytes, **changes) -> dict:
    return {
        "say": "offer", "protocol": PROTOCOL, "version": "0", "notation": "SM", "context": CONTEXT,
        "vocab_size": VOCABULARY, "engine": "x", "reveal": "logits", "max_prompts": 4,
        "tokenizer_bytes": len(tokenizer), "end_tokens": [0], "chat_template_bytes": 0, "draft_bytes": 0,
        "draft_digest": "", "task": GENERATE.to_json(), "embedding_size": 0, **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"protocol": 1}, "same version"),
        ({"context": -1}, "impossible"),
        ({"vocab_size": 1 << 40}, "impossible"),
        ({"context": "6"}, "not int"),
        ({"tokenizer_bytes": 1 << 40}, "impossible"),
        ({"chat_template_bytes": -1}, "impossible"),
        ({"chat_template_bytes": 1 << 20}, "impossible"),
        ({"chat_template_bytes": None}, "not int"),
        ({"draft_bytes": -1}, "impossible"),
        ({"task": None}, "not dict"),
        ({"task": {"kind": "sing", "normalize": False, "labels": []}}, "not usable"),
        ({"task": {"kind": "classify", "normalize": False, "labels": ["a"]}}, "one class"),
        ({"task": {"kind": "classify", "normalize": False, "labels": [1, 2]}}, "no text"),
        ({"task": {"kind": "embed", "normalize": True, "labels": []}}, "embeddings of 0 numbers"),
        ({"embedding_size": 4}, "embeddings of 4 numbers"),
        ({"draft_bytes": (256 << 20) + 1}, "impossible"),
        ({"draft_bytes": 8}, "no SHA-256"),
        ({"draft_bytes": 8, "draft_digest": "../" + 61 * "a"}, "no SHA-256"),
        ({"draft_digest": 64 * "a"}, "no SHA-256"),
        ({"draft_bytes": 8, "draft_digest": None}, "not str"),
        ({"max_prompts": 0}, "impossible"),
        ({"max_prompts": 1000}, "impossible"),
        ({"engine": None}, "not str"),
        ({"reveal": "everything"}, "nothing to reveal"),
        ({"reveal": "top-k:0"}, "nothing to reveal"),
        ({"vocab_size": 3}, "more tokens"),
        ({"end_tokens": None}, "not list"),
        ({"end_tokens": 0}, "not list"),
        ({"end_tokens": [VOCABULARY]}, "end tokens"),
        ({"end_tokens": [0, -1]}, "end tokens"),
        ({"end_tokens": [True]}, "end tokens"),
        ({"end_tokens": [[0]]}, "end tokens"),
        ({"end_tokens": ["0"]}, "end tokens"),
        ({"end_tokens": [0] * 65}, "end tokens"),
        ({"say": "refusal", "reason": "full"}, "refuses: full"),
        ({"say": "refusal", "reason": "\x1b[2Jfull" + 1000 * "!"}, "refuses: \ufffd.2Jfull!{192}$"),
        ({"say": "refusal", "reason": [[]]}, "refuses: $"),
        ({"say": ["\x1b"]}, "the other side says ''"),
        ({"protocol": 1, "version": "\x1b[31m" + 1000 * "9"}, r"aero \ufffd.31m9{195}\)"),
    ],
)
def test_a_client_refuses_a_wrong_offer(tokenizer_bytes, changes, complaint):
    def answers(channel: Channel) -> None:
        channel.send_control(offer(tokenizer_bytes, **changes))
        channel.send(tokenizer_bytes)

    with pytest.raises(ProtocolError, match=complaint):
        client_of(answers)


def test_what_an_offer_says_is_one_printable_line(tokenizer_bytes):
    def answers(channel: Channel) -> None:
        channel.send_control(offer(tokenizer_bytes, notation="SM\x1b[8m\n" + 1000 * "x", version="1\r"))
        channel.send(tokenizer_bytes)

    client = client_of(answers)
    assert client.offer.notation == ("SM\ufffd[8m\ufffd" + 1000 * "x")[:200] and client.offer.version == "1\ufffd"


def test_a_client_refuses_a_broken_tokenizer():
    def answers(channel: Channel) -> None:
        channel.send_control(offer(b"{}"))
        channel.send(b"{}")

    with pytest.raises(ProtocolError, match="tokenizer is not usable"):
        client_of(answers)


@pytest.mark.parametrize("template", [None, ChatTemplate("{{ messages[0].content }}", {"eos_token": "</s>"})])
def test_the_chat_template_is_offered(tokenizer_bytes, monkeypatch, template):
    monkeypatch.setattr(Session, "chat_template", template)
    session = Session(tokenizer_bytes)
    with session.client() as client:
        assert client.chat_template == template
    session.join()
    assert session.failure is None


@pytest.mark.parametrize("data", [b"{}", b"\xff", b'{"source": "x", "tokens": {"a": "b"}}'])
def test_a_client_refuses_a_wrong_chat_template(tokenizer_bytes, data):
    def answers(channel: Channel) -> None:
        channel.send_control(offer(tokenizer_bytes, chat_template_bytes=len(data)))
        channel.send(tokenizer_bytes)
        channel.send(data)

    with pytest.raises(ProtocolError, match="chat template is not usable"):
        client_of(answers)


@pytest.mark.parametrize("what", ["an id beyond the model", "a model that cannot encode all text"])
def test_a_client_refuses_a_tokenizer_that_fails_on_some_text(tokenizer_bytes, what):
    """Whether it fails would tell the server of the text."""
    file = json.loads(tokenizer_bytes)
    if what == "an id beyond the model":
        vocabulary = file["model"]["vocab"]
        vocabulary[next(iter(reversed(vocabulary)))] = VOCABULARY
    else:
        file["model"] = {"type": "WordLevel", "vocab": {"<|endoftext|>": 0, "be": 1}, "unk_token": "?"}
    data = json.dumps(file).encode()

    def answers(channel: Channel) -> None:
        channel.send_control(offer(data))
        channel.send(data)

    with pytest.raises(ProtocolError, match="tokenizer"):
        client_of(answers)


@pytest.mark.parametrize(
    "case", ["length", "output", "state", "junk", "size", "count", "junk size", "table", "nested", "name"]
)
def test_a_client_refuses_a_wrong_graph(tokenizer_bytes, case):
    wrong = decode(PROGRAM, 2, 3) if case == "state" else prefill(PROGRAM, 4 if case == "length" else 3)
    graph = wrong.graph.to_json()
    if case == "output":
        graph["output"] = "blocks.0.ffn"
    if case == "table":  # with fewer rows, the client would fail for ids beyond them, which the server would see
        graph["weight_shapes"]["embedding.table"][0] -= 1
    if case == "name":
        renamed = json.dumps(graph).replace("blocks.0.q", "\\u001b[2J")
        graph = json.loads(renamed)
    text = {"junk": b"not json", "nested": b"[" * 100_000}.get(case, json.dumps(graph).encode())

    def answers(channel: Channel) -> None:
        channel.send_control(offer(tokenizer_bytes))
        channel.send(tokenizer_bytes)
        sizes = {"size": [1 << 40], "count": [len(text)] * 2, "junk size": ["1"]}
        channel.send_control({"say": "go", "graphs": sizes.get(case, [len(text)])})
        channel.send(text)

    client = client_of(answers)
    with pytest.raises(ProtocolError, match=r"graph") as caught:
        client.next_logits([1, 2, 3])
    assert str(caught.value).isprintable()


def test_padding_shows_a_server_nothing_but_a_multiple(open_session):
    """Prompts of any length up to it are the same steps; the answer is the model's own, of the padded text."""
    seen = []
    for ids in ([7], [1, 2, 3], [1, 2, 3, 4]):
        session = open_session()
        with session.client(4) as client:
            end = client.tokenizer.end_of_text
            tokens = [token.id for token in client.generate(ids, 3)]
            assert tokens == greedy([end] * (4 - len(ids)) + ids, 3)
        session.join()
        assert session.failure is None
        seen.append(session.steps)
    assert seen[0] == seen[1] == seen[2] == [Span(0, 4), Span(4, 1), Span(5, 1)]


def test_what_continues_is_padded_in_front_of_what_is_new(session):
    with session.client(2) as client:
        end = client.tokenizer.end_of_text
        first = [token.id for token in client.generate([1], 2, keep=True)]
        assert first == greedy([end, 1], 2)
        (token,) = client.generate([1, *first, 7], 1, keep=True)
        assert token.id == greedy([end, 1, first[0], end, first[1], 7], 1)[0]
    session.join()
    assert session.failure is None
    assert session.steps == [Span(0, 2), Span(2, 1), Span(3, 3)]


def test_padding_leaves_room_for_the_answer_and_makes_room_for_text(session):
    """The last multiple is cut where the answer would not fit; a text that old padding leaves no room is read anew."""
    with session.client(4) as client:
        end = client.tokenizer.end_of_text
        assert [token.id for token in client.generate([1, 2, 3, 4], 2)] == greedy([1, 2, 3, 4], 2)
        assert [token.id for token in client.generate([1, 2, 3, 4, 5], 1)] == greedy([end, 1, 2, 3, 4, 5], 1)
        (token,) = client.generate([1, 2], 1, keep=True)
        ids = [1, 2, token.id, 7, 8]
        assert [token.id for token in client.generate(ids, 1)] == greedy([end, *ids], 1)
    session.join()
    assert session.failure is None
    assert session.steps == [Span(0, 4), Span(4, 1), Span(0, CONTEXT), Span(0, 4), Span(0, CONTEXT)]


def test_what_is_read_anew_in_another_session_is_padded_as_before(open_session):
    """The server breaks off after each token, and knows how many there were: the length stays hidden."""
    seen = []
    for ids in ([7], [1, 2, 3]):
        seen.append([])
        growing = None
        for _ in range(3):
            session = open_session()
            with session.client(4) as client:
                growing = growing or client.continuation(ids, 3)
                next(client.advance({0: growing}))
            session.join()
            seen[-1] += session.steps
        assert growing.ids[len(ids) :] == greedy([client.tokenizer.end_of_text] * (4 - len(ids)) + ids, 3)
    assert seen[0] == seen[1] == [Span(0, 4), Span(0, 5), Span(0, 6)]


def test_impossible_padding_is_refused(session):
    with pytest.raises(ValueError, match="multiples of 0"):
        session.client(0)
