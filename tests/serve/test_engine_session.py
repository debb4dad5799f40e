"""A session with our own engine at both parties, over a channel in memory: what it holds, and what it goes on after."""

import dataclasses
import threading

import pytest

from aero.compiler.compiled import Compiled
from aero.compiler.positions import decode, prefill
from aero.compiler.quantize import quantize
from aero.engines.insecure.plain import InsecurePlainEngine
from aero.engines.planning import session_keys
from aero.engines.planning.declared import DeclaredSession
from aero.engines.planning.step_plans import bare_states, checked_schedule, wear_of
from aero.engines.two_party import weight_store
from aero.engines.two_party.engine import TwoPartyEngine
from aero.graph import Program
from aero.graph.ring_plan import RingPlan
from aero.mpc.party import Role
from aero.serve.client import Client
from aero.serve.drafts import Pace
from aero.serve.server import Computed, Server
from aero.serve.session import DeclinedError, Span
from aero.wire.memory import channel_pair
from programs import random_ids, random_program
from serve.test_session import tokenizer_bytes

assert tokenizer_bytes  # the fixture of the sessions

CONTEXT, VOCABULARY, PATIENCE = 8, 260, 240.0
PROGRAM = random_program(length=CONTEXT, vocabulary=VOCABULARY, layers=1, every_position=True, seed=3)
PLAN = quantize(PROGRAM, [random_ids(PROGRAM, seed) for seed in range(8)]).plan


class Session:
    """Both parties' engines; the server in a thread. how: as `Server` takes it."""

    def __init__(self, tokenizer: bytes, program: Program = PROGRAM, plan: RingPlan = PLAN, **how) -> None:
        self.channels = channel_pair(timeout=PATIENCE)
        self.engines = [TwoPartyEngine(p, c, plan) for p, c in zip(Role, self.channels, strict=True)]
        self.done: list[Computed] = []
        self.declined: list[str] = []
        self.held: list[list[int]] = []
        self.failure: BaseException | None = None
        server = Server(
            notation="SM", context=program.graph.length, vocab_size=VOCABULARY, tokenizer=tokenizer,
            programs=Compiled(program), engine="two-party", engine_for=lambda _: self.engines[1], **how,
        )  # fmt: skip
        self.thread = threading.Thread(target=self._serve, args=(server,))
        self.thread.start()

    def _serve(self, server: Server) -> None:
        def on_step(done: Computed) -> None:
            self.done.append(done)
            self.held.append(sorted(self.engines[1]._states))

        try:
            with self.channels[1] as channel:
                server.handle(channel, on_step, self.declined.append)
        except BaseException as error:
            self.failure = error

    def client(self, **how) -> Client:
        return Client(self.channels[0], lambda name, _: self.engines[0], **how)

    def join(self) -> None:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def session(tokenizer_bytes):
    opened = Session(tokenizer_bytes)
    yield opened
    opened.channels[0].close()
    opened.join()


def plain_tokens(ids: list[int], count: int, usable: int) -> list[int]:
    """Of the engine with the same number formats and no protocols, each prompt read anew."""
    ids, engine = list(ids), InsecurePlainEngine(PLAN)
    for _ in range(count):
        program = prefill(PROGRAM, len(ids))
        ids.append(int(engine.run(program.graph, weights=program.weights, ids=ids)[0][:usable].argmax()))
    return ids[-count:]


def test_what_is_held_does_not_grow_over_prompts(session):
    client_engine = session.engines[0]
    with session.client() as client:
        usable = client.tokenizer.vocab_size
        for ids in ([1, 2, 3], [4, 5], [10]):
            assert [token.id for token in client.generate(ids, 2)] == plain_tokens(ids, 2, usable)
            assert client_engine._states == client_engine._bare == {}
        batch = [[1, 2], [3]]
        found: list[list[int]] = [[], []]
        for i, token in client.generate_batch(batch, 2):
            found[i].append(token.id)
        assert found == [plain_tokens(ids, 2, usable) for ids in batch]
        assert client_engine._states == {}
    session.join()
    assert session.failure is None
    assert session.held == [[0]] * 6 + [[0, 1]] * 2  # after each run, of the prompts of that run alone


def test_guesses_that_hold_and_that_do_not(session, monkeypatch):
    """Three tokens are read at once, the second guess is wrong, and both take it back; as declared."""
    with session.client() as client:
        ids, usable = [1, 2], client.tokenizer.vocab_size
        tokens = plain_tokens(ids, 5, usable)
        text = [*ids, *tokens]
        wrong = (text[4] + 1) % usable
        guesses = {3: [text[3], wrong], 5: [text[5]]}
        monkeypatch.setattr("aero.serve.client.continued_phrase", lambda ids, most: guesses.get(len(ids), []))
        client._pace = Pace(2)
        monkeypatch.setattr(client._pace, "length", lambda available, rows, source: available)
        found = list(client.generate(ids, 5))
        assert [token.id for token in found] == tokens
    session.join()
    assert session.failure is None
    spans = [Span(0, 2), Span(2, 3, 3), Span(4, 2, 2)]
    assert [done.steps for done in session.done] == [(span,) for span in spans]
    states: dict[str, str] = {}
    declared = DeclaredSession(PLAN, vocabulary=usable)
    runs = {token.run.index: token.run for token in found}
    for span, run in zip(spans, runs.values(), strict=True):
        if span.past:
            graph = decode(PROGRAM, *dataclasses.astuple(span)).graph
        else:
            graph = prefill(PROGRAM, span.length, leave_state=True).graph
        expected = declared.run([graph], [states])
        states = bare_states(graph, states)
        assert expected.total(lambda c: c.bytes_client_to_server) == run.cost.bytes_client_to_server
        assert expected.total(lambda c: c.bytes_server_to_client) == run.cost.bytes_server_to_client
        if span.past:  # where the first run's set-up ends, the greeting before it is in the same round
            assert expected.rounds == run.cost.rounds


def test_what_the_server_gets_of_steady_steps_does_not_depend_on_what_holds(tokenizer_bytes, monkeypatch):
    """The wire of as many steps is the same, message by message, where every guess holds and where none does."""
    traces, spans, counts = [], [], []
    for holds in (True, False):
        session, trace = Session(tokenizer_bytes), ([], [])
        with session.client(guesses=2, steady=True) as client:
            for channel, sent in zip(session.channels, trace, strict=True):
                channel.on_send = lambda label, size, _, sent=sent: sent.append((label, size))
            usable = client.tokenizer.vocab_size
            text = [1, 2, *plain_tokens([1, 2], 6, usable)]

            def guess(ids, most, text=text, holds=holds, usable=usable):
                return [token if holds else (token + 1) % usable for token in text[len(ids) :][:most]]

            monkeypatch.setattr("aero.serve.client.continued_phrase", guess)
            assert [token.id for token in client.generate([1, 2], 6)] == text[2:]
        session.join()
        assert session.failure is None
        spans.append([step for done in session.done for step in done.steps])
        counts.append(len(spans[-1]))
        traces.append(trace)
    assert counts == [4, 6]
    assert spans[1] == [Span(0, 2), *(Span(past, min(3, 8 - past), min(3, 8 - past)) for past in range(2, 7))]
    assert spans[0] == spans[1][:4]
    for few, many, ended in zip(*traces, (2, 0), strict=True):  # the client says that prompt and session have ended
        same = len(few) - ended
        assert few[:same] == many[:same] and same > 40


def test_every_byte_belongs_to_a_run_or_to_its_set_up(session):
    with session.client() as client:
        runs = {token.run.index: token.run for ids in ([1, 2, 3], [4]) for token in client.generate(ids, 2, keep=True)}
        counted, theirs = (channel.traffic for channel in session.channels)
        for name, count in (
            ("bytes_client_to_server", counted.bytes_sent),
            ("bytes_server_to_client", theirs.bytes_sent),
            ("messages", counted.messages),
            ("rounds", counted.rounds),
        ):
            assert sum(getattr(run.cost, name) + getattr(run.set_up, name) for run in runs.values()) == count
    first, *others = (run.set_up.bytes_client_to_server for run in runs.values())
    assert min(others) > 0 and first > 9 * max(others)  # keys


def test_weights_that_do_not_fit_for_some_rows_are_declined_and_the_session_goes_on(session, monkeypatch):
    original = weight_store.product_noise

    def noise(plan, *args, **more):
        if plan.product.rows == 3:
            return dataclasses.replace(original(plan, *args, **more), shares=77.0)
        return original(plan, *args, **more)

    monkeypatch.setattr(weight_store, "product_noise", noise)
    with session.client() as client:
        usable = client.tokenizer.vocab_size
        assert [token.id for token in client.generate([1, 2], 2)] == plain_tokens([1, 2], 2, usable)
        with pytest.raises(DeclinedError, match="cannot compute 3 tokens of one prompt at once"):
            list(client.generate([1, 2, 3], 2))
        with pytest.raises(DeclinedError, match="cannot compute 3 tokens of 2 prompts at once"):
            list(client.generate_batch([[1, 2], [3]], 2))
        ids = [5, 6, 7, 8]
        assert [token.id for token in client.generate(ids, 2)] == plain_tokens(ids, 2, usable)
    session.join()
    assert session.failure is None
    assert len(session.declined) == 2
    assert all("noise may reach" in reason and "blocks.0" in reason for reason in session.declined)
    assert [step.length for computed in session.done for step in computed.steps] == [2, 1, 4, 1]


def test_a_step_that_no_key_bears_is_declined_what_was_generated_stays_and_smaller_ones_renew_the_key(
    session, monkeypatch
):
    """Two prompts wear a key twice as much as one: from their third token on more than a whole one."""

    def wear(past: int, prompts: int) -> float:
        return wear_of(checked_schedule([decode(PROGRAM, past).graph] * prompts, PLAN).stages)

    monkeypatch.setattr(session_keys, "WHOLE_KEY", (wear(2, 2) + wear(3, 2)) / 2)
    ids = [[1], [3]]
    with session.client() as client:
        usable, found = client.tokenizer.vocab_size, [[], []]
        with pytest.raises(DeclinedError, match="cannot compute 2 tokens of 2 prompts at once"):
            for place, token in client.generate_batch(ids, 5):
                found[place].append(token.id)
        assert found == [plain_tokens(one, 3, usable) for one in ids]
        assert [token.id for token in client.generate(ids[0], 5)] == plain_tokens(ids[0], 5, usable)
    session.join()
    assert session.failure is None
    assert len(session.declined) == 1 and "run fewer or shorter prompts" in session.declined[0]
    assert session.engines[1]._keys.worn < sum(wear(past, 1) for past in range(1, 5))  # a new one since
