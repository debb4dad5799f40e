"""The talk around the computation, over a channel in memory; the computation itself is in the clear here."""

import json
import threading
from collections.abc import Callable
from queue import Queue

import numpy as np
import pytest

from aero.data.tokenizer import train
from aero.engines.engine import Cost, Engine, Party
from aero.graph import interpret
from aero.serve.client import Client, check_length
from aero.serve.server import Server, Step
from aero.wire import Channel, PeerClosedError, ProtocolError
from aero.wire.memory import channel_pair
from programs import random_program

VOCABULARY, CONTEXT = 260, 6


class InsecureTestEngine(Engine):
    """The client hands its ids to the server's thread, and gets the logits back."""

    name, insecure = "insecure-test", True

    def __init__(self, party: Party, ids: Queue, logits: Queue) -> None:
        self.party, self.ids, self.logits, self.closed = party, ids, logits, False

    def run(self, graph, *, weights=None, ids=None):
        if self.party is Party.CLIENT:
            self.ids.put(ids)
            return self.logits.get(timeout=10)
        program = program_for(graph.length)
        assert program.graph.digest == graph.digest
        self.logits.put(interpret(program, self.ids.get(timeout=10)))
        return None

    @property
    def cost(self):
        return Cost(0.5, 10, 20, messages=2)

    def close(self):
        self.closed = True


def program_for(length: int):
    return random_program(length=length, vocabulary=VOCABULARY, seed=3)


@pytest.fixture(scope="module")
def tokenizer_bytes(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train(["to be or not to be"] * 3, VOCABULARY).save(path)
    return path.read_bytes()


class Session:
    """A server in a thread; `failure` is what its side ended with."""

    def __init__(self, tokenizer: bytes) -> None:
        self.client_channel, self.server_channel = channel_pair(timeout=10)
        self.steps: list[Step] = []
        self.failure: BaseException | None = None
        ids, logits = Queue(), Queue()
        self.client_engine = InsecureTestEngine(Party.CLIENT, ids, logits)
        self.server_engine = InsecureTestEngine(Party.SERVER, ids, logits)
        self.server = Server(
            notation="SM", context=CONTEXT, vocab_size=VOCABULARY, tokenizer=tokenizer, program_for=program_for,
            engine="insecure-test", engine_for=lambda _: self.server_engine,
        )  # fmt: skip
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        try:
            with self.server_channel as channel:
                self.server.handle(channel, self.steps.append)
        except BaseException as error:
            self.failure = error

    def client(self) -> Client:
        return Client(self.client_channel, lambda name, _: self.client_engine)

    def join(self) -> None:
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def session(tokenizer_bytes):
    session = Session(tokenizer_bytes)
    yield session
    session.client_channel.close()
    session.join()


def test_a_session_gives_the_greedy_tokens(session):
    with session.client() as client:
        assert (client.offer.notation, client.offer.context, client.offer.engine) == ("SM", CONTEXT, "insecure-test")
        ids = client.tokenizer.encode("to be")
        tokens = list(client.generate(ids, 3))
    session.join()
    assert session.failure is None
    expected = list(ids)
    for token in tokens:
        logits = interpret(program_for(len(expected)), np.array(expected))[0]
        np.testing.assert_array_equal(token.logits, logits)
        usable = logits[: client.tokenizer.vocab_size]
        assert token.id == usable.argmax()
        expected.append(token.id)
    assert [step.length for step in session.steps] == [len(ids), len(ids) + 1, len(ids) + 2]
    assert session.client_engine.closed and session.server_engine.closed


def test_too_much_is_refused_before_any_work(session):
    with session.client() as client:
        with pytest.raises(ValueError, match="context of 6"):
            next(client.generate([1] * 5, 3))
        with pytest.raises(ValueError, match="empty"):
            next(client.generate([], 1))
    session.join()
    assert session.steps == [] and session.failure is None
    check_length(5, 2, 6)  # the last token is never read


def raw(session, *messages: dict) -> Channel:
    for message in messages:
        session.client_channel.send_control(message)
    return session.client_channel


HELLO = {"say": "hello", "protocol": 1, "version": "0"}


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([{"say": "what"}], "expected hello"),
        ([{"protocol": 1}], "expected hello"),
        ([{**HELLO, "protocol": "1"}], "not int"),
        ([{**HELLO, "protocol": 7}], "protocol 7"),
        ([HELLO, {"say": "step"}], "'length'"),
        ([HELLO, {"say": "step", "length": True}], "not int"),
        ([HELLO, {"say": "step", "length": 0}], "do not fit"),
        ([HELLO, {"say": "step", "length": CONTEXT + 1}], "do not fit"),
        ([HELLO, {"say": "offer"}], "expected step or finish"),
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
    return Client(ours, lambda name, _: InsecureTestEngine(Party.CLIENT, Queue(), Queue()))


def offer(tokenizer: bytes, **changes) -> dict:
    return {
        "say": "offer", "protocol": 1, "version": "0", "notation": "SM", "context": CONTEXT, "vocab_size": VOCABULARY,
        "engine": "x", "tokenizer_bytes": len(tokenizer), **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"protocol": 2}, "same version"),
        ({"context": -1}, "impossible"),
        ({"vocab_size": 1 << 40}, "impossible"),
        ({"context": "6"}, "not int"),
        ({"tokenizer_bytes": 1 << 40}, "impossible"),
        ({"engine": None}, "not str"),
        ({"vocab_size": 3}, "more tokens"),
        ({"say": "refusal", "reason": "full"}, "refuses: full"),
    ],
)
def test_a_client_refuses_a_wrong_offer(tokenizer_bytes, changes, complaint):
    def answers(channel: Channel) -> None:
        channel.send_control(offer(tokenizer_bytes, **changes))
        channel.send(tokenizer_bytes)

    with pytest.raises(ProtocolError, match=complaint):
        client_of(answers)


def test_a_client_refuses_a_broken_tokenizer():
    def answers(channel: Channel) -> None:
        channel.send_control(offer(b"{}"))
        channel.send(b"{}")

    with pytest.raises(ProtocolError, match="tokenizer is not usable"):
        client_of(answers)


@pytest.mark.parametrize("case", ["length", "output", "junk", "size"])
def test_a_client_refuses_a_wrong_graph(tokenizer_bytes, case):
    graph = program_for(4 if case == "length" else 3).graph.to_json()
    if case == "output":
        graph["output"] = "blocks.0.ffn"
    text = b"not json" if case == "junk" else json.dumps(graph).encode()

    def answers(channel: Channel) -> None:
        channel.send_control(offer(tokenizer_bytes))
        channel.send(tokenizer_bytes)
        channel.send_control({"say": "graph", "bytes": 1 << 40 if case == "size" else len(text)})
        channel.send(text)

    client = client_of(answers)
    with pytest.raises(ProtocolError, match=r"graph"):
        client.next_logits(np.array([1, 2, 3]))
