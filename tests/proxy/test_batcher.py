"""Requests that share one private session, whose computation is in the clear here."""

import threading
from queue import Queue

import pytest

from aero.proxy import batcher as batching
from aero.proxy.batcher import AwayError, Batcher, BusyError, Job
from aero.serve.sampling import Sampling
from aero.serve.session import Span
from aero.wire import PeerBusyError, ProtocolError
from clear_session import LONGER as PROGRAM
from clear_session import Sessions, greedy, tokenizer_file

PATIENCE = 60


class Asked:
    """A job, and what came of it."""

    def __init__(self, ids, count, **options):
        self.tokens, self.ended = [], Queue()
        self.hold = threading.Event()
        self.hold.set()
        self.begun = threading.Event()
        self.job = Job(ids, count, self._deliver, self.ended.put, **options)

    def _deliver(self, token, finish):
        self.tokens.append(token)
        self.begun.set()
        assert self.hold.wait(PATIENCE)
        if finish is not None:
            self.ended.put(finish)

    @property
    def outcome(self):
        return self.ended.get(timeout=PATIENCE)

    @property
    def ids(self):
        return [token.id for token in self.tokens]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> bytes:
    return tokenizer_file(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def start(tokenizer, monkeypatch):
    monkeypatch.setattr(batching, "PAUSE", 0.01)
    monkeypatch.setattr(batching, "RETRY_AFTER", 0.05)
    made = []

    def begin(max_prompts=4, queue=16, reconnect=3):
        sessions = Sessions(tokenizer, max_prompts)
        made.append(Batcher(sessions.open, queue, reconnect))
        made[-1].start()
        return made[-1], sessions

    yield begin
    for batcher in made:
        batcher.close()


def test_a_job_gets_the_tokens_of_its_prompt(start):
    batcher, _ = start()
    asked = Asked([1, 2, 3], 4)
    batcher.submit(asked.job)
    assert asked.outcome == "length"
    assert asked.ids == greedy([1, 2, 3], 4, PROGRAM)


def test_jobs_join_and_leave_at_any_step(start):
    batcher, sessions = start()
    first, second, third = Asked([1, 2, 3], 6), Asked([7, 8], 2), Asked([9], 3)
    first.hold.clear()
    batcher.submit(first.job)
    assert first.begun.wait(PATIENCE)
    batcher.submit(second.job)  # the first is in the middle of a step
    batcher.submit(third.job)
    first.hold.set()
    assert [one.outcome for one in (first, second, third)] == ["length"] * 3
    for one, prompt in ((first, [1, 2, 3]), (second, [7, 8]), (third, [9])):
        assert one.ids == greedy(prompt, one.job.max_new_tokens, PROGRAM)
    # Both join at the second step, and leave after two and three.
    assert [len(steps) for steps in sessions.steps] == [1, 3, 3, 2, 1, 1]


def test_more_jobs_than_places_wait_for_one(start):
    batcher, sessions = start(max_prompts=2)
    asked = [Asked([i + 1], 2) for i in range(5)]
    batcher.submit(*(one.job for one in asked))
    assert [one.outcome for one in asked] == ["length"] * 5
    for i, one in enumerate(asked):
        assert one.ids == greedy([i + 1], 2, PROGRAM)
    assert max(len(steps) for steps in sessions.steps) == 2


def test_a_full_queue_takes_all_of_a_request_or_nothing(start):
    batcher, _ = start(max_prompts=1, queue=2)
    running = Asked([1], 2)
    running.hold.clear()
    batcher.submit(running.job)
    assert running.begun.wait(PATIENCE)
    waiting = Asked([2], 1)
    batcher.submit(waiting.job)
    with pytest.raises(BusyError):
        batcher.submit(Asked([3], 1).job, Asked([4], 1).job)
    assert batcher.waiting == 1
    running.hold.set()
    assert waiting.outcome == "length"


def test_a_cancelled_job_frees_its_place_after_the_step(start):
    batcher, sessions = start(max_prompts=1)
    gone, other = Asked([1, 2], 30), Asked([5], 2)
    gone.hold.clear()
    batcher.submit(gone.job)
    assert gone.begun.wait(PATIENCE)
    batcher.submit(other.job)
    gone.job.cancel()
    gone.hold.set()
    assert other.outcome == "length" and other.ids == greedy([5], 2, PROGRAM)
    assert len(gone.tokens) == 1 and len(sessions.steps) == 3


def test_a_conversation_that_goes_on_is_read_from_where_it_was(start):
    batcher, sessions = start(max_prompts=2)
    first = Asked([1, 2, 3], 3)
    batcher.submit(first.job)
    assert first.outcome == "length"
    ids = [1, 2, 3, *first.ids, 11, 12]
    second = Asked(ids, 2)
    batcher.submit(second.job)
    assert second.outcome == "length" and second.ids == greedy(ids, 2, PROGRAM)
    assert sessions.steps[3] == (Span(5, 3),)  # the last token was chosen, and not read


def test_a_broken_session_is_opened_again_and_jobs_go_on(start):
    batcher, sessions = start()
    asked = Asked([1, 2, 3], 5)
    asked.hold.clear()
    batcher.submit(asked.job)
    assert asked.begun.wait(PATIENCE)
    sessions.opened[0].lose()
    asked.hold.set()
    assert asked.outcome == "length"
    assert asked.ids == greedy([1, 2, 3], 5, PROGRAM)
    assert len(sessions.opened) == 2


def test_a_job_goes_on_through_so_many_breaks_and_no_more(start):
    """Of two that run together, one began a break later."""
    batcher, sessions = start(reconnect=2)
    asked, other = Asked([1, 2, 3], 5), Asked([7], 5)
    deliver = asked.job.deliver

    def deliver_and_lose(token, finish):
        deliver(token, finish)
        if len(asked.tokens) == 2:
            batcher.submit(other.job)
        sessions.opened[-1].lose()

    asked.job.deliver = deliver_and_lose
    batcher.submit(asked.job)
    assert "broke off 3 times: the other side" in str(asked.outcome) and other.outcome == "length"
    assert asked.ids == greedy([1, 2, 3], 3, PROGRAM) and other.ids == greedy([7], 5, PROGRAM)
    assert len(sessions.opened) == 4


def test_a_busy_server_is_not_away(start):
    batcher, sessions = start()
    sessions.opened[0].lose()
    sessions.away = PeerBusyError("all places are taken")
    asked, again = Asked([1], 2), Asked([1], 2)
    batcher.submit(asked.job)
    assert asked.outcome is sessions.away and not batcher.away
    sessions.away = False
    batcher.submit(again.job)
    assert again.outcome == "length" and again.ids == greedy([1], 2, PROGRAM)


def test_after_a_failed_check_jobs_end_and_only_who_asks_again_goes_on(start):
    batcher, sessions = start()
    asked = Asked([1, 2, 3], 5)
    asked.hold.clear()
    batcher.submit(asked.job)
    assert asked.begun.wait(PATIENCE)
    sessions.opened[0].client_engine.outputs.put(ProtocolError("a check failed"))
    asked.hold.set()
    assert str(asked.outcome) == "the private server does not follow the protocol: a check failed"
    assert len(sessions.opened) == 1
    again = Asked([1], 2)
    batcher.submit(again.job)
    assert again.outcome == "length" and len(sessions.opened) == 2


def test_drawn_tokens_are_the_same_over_a_broken_session(start):
    batcher, sessions = start()
    options = dict(sampling=Sampling(1.0, seed=3))
    whole, broken = Asked([1, 2, 3], 6, **options), Asked([1, 2, 3], 6, **options)
    batcher.submit(whole.job)
    assert whole.outcome == "length"
    broken.hold.clear()
    batcher.submit(broken.job)
    assert broken.begun.wait(PATIENCE)
    sessions.opened[0].lose()
    broken.hold.set()
    assert broken.outcome == "length" and broken.ids == whole.ids


def test_a_server_that_is_away_is_said_to_be_and_found_again(start):
    batcher, sessions = start()
    sessions.away = True
    sessions.opened[0].lose()
    asked = Asked([1], 2)
    batcher.submit(asked.job)
    assert isinstance(asked.outcome, AwayError) and batcher.away
    with pytest.raises(AwayError):
        batcher.submit(Asked([1], 2).job)
    sessions.away = False
    for _ in range(PATIENCE * 20):
        if not batcher.away:
            break
        threading.Event().wait(0.05)
    again = Asked([1], 2)
    batcher.submit(again.job)
    assert again.outcome == "length" and again.ids == greedy([1], 2, PROGRAM)


def test_given_tokens_come_first_with_the_logits_of_their_places(start):
    batcher, _ = start()
    asked = Asked([4], 1, given=[5, 6])
    batcher.submit(asked.job)
    assert asked.outcome == "length"
    assert asked.ids == [5, 6, *greedy([4, 5, 6], 1, PROGRAM)]
    assert int(asked.tokens[0].logits.argmax()) == greedy([4], 1, PROGRAM)[0]


def test_a_prompt_that_does_not_fit_fails_alone(start):
    batcher, _ = start()
    long, other = Asked([1] * 40, 2), Asked([1], 1)
    batcher.submit(long.job, other.job)
    assert isinstance(long.outcome, ValueError) and other.outcome == "length"
