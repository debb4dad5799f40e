"""Sessions that break off at any place: what follows them is what would have followed, and what is no break ends."""

from contextlib import contextmanager

import pytest

from aero.serve import reconnecting
from aero.serve.reconnecting import Reconnecting
from aero.serve.sampling import Sampling
from aero.serve.session import Span
from aero.wire import (
    PeerAbsentError,
    PeerBusyError,
    PeerClosedError,
    PeerSilentError,
    PeerVanishedError,
    ProtocolError,
    Reason,
    RefusedByPeerError,
    UntrustedPeerError,
    WireError,
)
from clear_session import LONGER, Sessions, greedy, tokenizer_file

PROMPTS = [[1, 2, 3], [9]]
GONE = PeerVanishedError("gone")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> bytes:
    return tokenizer_file(tmp_path_factory.mktemp("tokenizer"))


class Breaking(Sessions):
    """Sessions that end by an error at the given uses of the client's channel, all counted together."""

    def __init__(self, tokenizer: bytes, breaks: dict[int, WireError], pad_to: int | None = None) -> None:
        super().__init__(tokenizer)
        self.breaks, self.pad_to, self.uses = breaks, pad_to, 0
        self.refusals: list[Exception] = []
        self.said: list[str] = []

    @contextmanager
    def open(self):
        if self.refusals:
            raise self.refusals.pop(0)
        with super().open() as client:
            client._pad_to, client._padding = self.pad_to, client.tokenizer.end_of_text
            channel = client.channel
            send, recv = channel.send_control, channel.recv_control
            for name, used in (("send_control", send), ("recv_control", recv)):
                setattr(channel, name, lambda *a, used=used: self._use(channel, used, *a))
            yield client

    def _use(self, channel, used, *arguments):
        self.uses += 1
        if self.uses in self.breaks:
            channel._fail(self.breaks[self.uses])
        return used(*arguments)

    def client(self, most: int = 3) -> Reconnecting:
        return Reconnecting(self.open, most, self.said.append)


def texts(client: Reconnecting, **options) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in PROMPTS]
    for place, token in client.generate_batch(PROMPTS, 5, **options):
        found[place].append(token.id)
    return found


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0, seed=7)])
def test_the_tokens_are_the_same_wherever_it_breaks(tokenizer, sampling):
    whole = Breaking(tokenizer, {})
    with whole.client() as client:
        expected = texts(client, sampling=sampling)
    if sampling.greedy:
        assert expected == [greedy(prompt, 5, LONGER) for prompt in PROMPTS]
    assert whole.uses > 10 and not whole.said
    for at in range(1, whole.uses + 1):
        sessions = Breaking(tokenizer, {at: GONE})
        with sessions.client() as client:
            assert texts(client, sampling=sampling) == expected, at
        begun_again = len(sessions.opened) - 1
        assert len(sessions.said) == begun_again == (at < whole.uses - 1)  # then come the end and the goodbye


def test_what_is_read_again_is_padded_as_before(tokenizer):
    lengths = set()
    for at in range(1, 12):
        sessions = Breaking(tokenizer, {at: GONE}, pad_to=8)
        with sessions.client() as client:
            list(client.generate([1, 2, 3], 5))
        if len(sessions.opened) > 1:
            done, again = sessions.opened[0].done, sessions.opened[1].steps[0]
            assert again == Span(0, 8 + len(done))  # as long as the answer, which the server has seen grow
            lengths.add(again.length)
    assert len(lengths) > 2


def test_steady_steps_stay_so_over_breaks(tokenizer, monkeypatch):
    """What is read again is what the server takes to be settled, as far as it has seen the answer grow."""
    tokens = greedy([1, 2, 3], 12, LONGER)
    text = [1, 2, 3, *tokens]
    monkeypatch.setattr("aero.serve.client.continued_phrase", lambda ids, most: text[len(ids) :][:most])
    again = set()
    for at in range(1, 16):
        sessions = Breaking(tokenizer, {at: GONE})
        sessions.how = {"guesses": 6, "steady": True}
        with sessions.client() as client:
            assert [token.id for token in client.generate([1, 2, 3], 12)] == tokens
        first, *others = sessions.opened
        assert len(others) <= 1
        for session in others:
            settled = 3 + max(len(first.done) - 1, 0)
            assert session.steps == [
                Span(0, settled),
                *(Span(settled + n, 7, 7) for n in range(len(session.steps) - 1)),
            ]
            again.add(settled)
    assert len(again) > 3


def test_costs_of_all_sessions_are_kept(tokenizer):
    sessions = Breaking(tokenizer, {6: GONE, 11: GONE})
    with sessions.client() as client:
        tokens = list(client.generate([1, 2, 3], 5))
        firsts = [first for first, _ in client.set_ups]
    assert len(sessions.opened) == len(firsts) == 3 and sorted(firsts) == firsts
    assert [token.run.index for token in tokens] == list(range(5))
    again = [token.run.index for token in tokens if token.step.past == 0]
    assert again == firsts  # each session begins by reading all that there was
    assert [tokens[i].step.length for i in again] == [3 + i for i in again]


def test_sessions_for_one_answer_are_bounded(tokenizer):
    breaks = dict.fromkeys(range(3, 1000), GONE)
    for most in (0, 1, 3):
        sessions = Breaking(tokenizer, dict(breaks))
        with pytest.raises(PeerVanishedError), sessions.client(most) as client:
            list(client.generate([1, 2, 3], 5))
        assert len(sessions.opened) == 1 + most == 1 + len(sessions.said)


def test_a_conversation_that_lost_its_session_between_two_answers(tokenizer):
    sessions = Breaking(tokenizer, {})
    with sessions.client() as client:
        first = [token.id for token in client.generate([1, 2, 3], 3, keep=True)]
        sessions.breaks[sessions.uses + 1] = PeerClosedError("it waited", Reason.SILENCE)
        ids = [1, 2, 3, *first, 7]
        second = [token.id for token in client.generate(ids, 2, keep=True)]
        sessions.breaks[sessions.uses + 1] = GONE
        client.forget([0])
        third = [token.id for token in client.generate([4], 2)]
    assert (second, third) == (greedy(ids, 2, LONGER), greedy([4], 2, LONGER))
    assert len(sessions.opened) == 3 and sessions.steps[3] == (Span(0, len(ids)),)


@pytest.mark.parametrize(
    "error",
    [
        ProtocolError("a check failed"),
        UntrustedPeerError("another certificate"),
        PeerClosedError("it failed", Reason.FAILURE),
        PeerClosedError("unexpected", Reason.UNEXPECTED_MESSAGE),
        WireError("of our own"),
    ],
)
def test_what_is_no_break_is_not_tried_again(tokenizer, error):
    sessions = Breaking(tokenizer, {5: error})
    with pytest.raises(WireError) as caught, sessions.client() as client:
        list(client.generate([1, 2, 3], 5))
    assert caught.value is error and len(sessions.opened) == 1 and not sessions.said


@pytest.mark.parametrize(
    "error",
    [PeerSilentError("silent"), *(PeerClosedError("ended it", why) for why in (Reason.STOPPING, Reason.TIME_UP))],
)
def test_other_breaks(tokenizer, error):
    sessions = Breaking(tokenizer, {5: error})
    with sessions.client() as client:
        assert [token.id for token in client.generate([1, 2, 3], 5)] == greedy([1, 2, 3], 5, LONGER)
    assert len(sessions.said) == 1 and str(error) in sessions.said[0]


def test_a_server_that_is_away_or_busy_for_a_while_is_looked_for(tokenizer, monkeypatch):
    monkeypatch.setattr(reconnecting, "_PAUSE", 0.01)
    sessions = Breaking(tokenizer, {5: GONE})
    with sessions.client(1) as client:
        sessions.refusals = [PeerAbsentError("nobody"), PeerBusyError("full"), PeerVanishedError("restarts")]
        assert [token.id for token in client.generate([1, 2, 3], 5)] == greedy([1, 2, 3], 5, LONGER)
    assert len(sessions.opened) == 2 and len(sessions.said) == 1 and not sessions.refusals


@pytest.mark.parametrize("error", [RefusedByPeerError("no"), UntrustedPeerError("who"), ProtocolError("other version")])
def test_who_refuses_is_not_asked_again(tokenizer, error):
    sessions = Breaking(tokenizer, {5: GONE})
    with pytest.raises(WireError) as caught, sessions.client() as client:
        sessions.refusals = [error]
        list(client.generate([1, 2, 3], 5))
    assert caught.value is error and len(sessions.opened) == 1


def test_it_gives_up_a_server_that_stays_away(tokenizer, monkeypatch):
    monkeypatch.setattr(reconnecting, "SEEK", 0.0)
    sessions = Breaking(tokenizer, {5: GONE})
    with pytest.raises(PeerAbsentError), sessions.client() as client:
        sessions.refusals = [PeerAbsentError("nobody")] * 2
        list(client.generate([1, 2, 3], 5))
    assert len(sessions.refusals) == 1


def test_another_model_is_no_continuation(tokenizer):
    sessions = Breaking(tokenizer, {5: GONE})
    with pytest.raises(ProtocolError, match="another model"), sessions.client() as client:
        sessions.max_prompts = 2
        list(client.generate([1, 2, 3], 5))
