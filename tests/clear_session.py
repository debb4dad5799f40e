"""A session in memory, in which the computation itself is in the clear: for tests of the talk around it."""

import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import numpy as np

from aero.compiler.positions import decode, prefill
from aero.data.chat_template import ChatTemplate
from aero.data.tokenizer import train
from aero.engines.engine import Engine, PromptRun, RunCost, first_rows
from aero.engines.reveal import LOGITS, Reveal
from aero.graph import Program, interpret
from aero.graph.interpret import interpret_step
from aero.mpc.party import Role
from aero.serve.client import Client
from aero.serve.server import Computed, Server
from aero.serve.session import Span
from aero.wire import PeerVanishedError
from aero.wire.memory import channel_pair
from programs import random_program

VOCABULARY, CONTEXT = 260, 6


PROGRAM = random_program(length=CONTEXT, vocabulary=VOCABULARY, every_position=True, seed=3)

LONGER = random_program(length=40, vocabulary=VOCABULARY, every_position=True, seed=5)


class Programs:
    """Of a program with every position; keeps what was asked for."""

    def __init__(self, program: Program = PROGRAM) -> None:
        self.program = program
        self.made: list[Span] = []

    def prefill(self, length, *, leave_state):
        self.made.append(Span(0, length))
        return prefill(self.program, length, leave_state=leave_state)

    def decode(self, past, length=1, outputs=1):
        self.made.append(Span(past, length, outputs))
        return decode(self.program, past, length, outputs)


class InsecureTestEngine(Engine):
    """The client hands its ids to the server's thread, which computes in the clear, and gets the output back."""

    name, insecure, cuts = "insecure-test", True, True

    def __init__(self, party: Role, ids: Queue, outputs: Queue) -> None:
        self.party, self.ids, self.outputs, self.closed = party, ids, outputs, False
        self.states: dict[int, dict] = {}
        self.loaded: list[list[int]] = []  # the lengths of each batch that was to be made ready
        self.refused: list[int] = []
        self.forgotten: list[int] = []
        self.held: list[set[int]] = []  # after each run
        self.cuts_made: list[tuple[int, int]] = []

    def reveal_only(self, what, vocabulary):
        self.what, self.vocabulary = what, vocabulary

    def run(self, graph, *, weights=None, ids=None):
        return self.run_batch([PromptRun(graph, ids, weights=weights)])[0]

    def run_batch(self, batch):
        said = [(one.graph.digest, one.prompt) for one in batch]
        if self.party is Role.CLIENT:
            self.ids.put((said, self.what, [one.ids for one in batch]))
            outputs = self.outputs.get(timeout=10)
            if isinstance(outputs, BaseException):
                raise outputs
            return outputs
        theirs, what, ids = self.ids.get(timeout=10)
        assert (theirs, what) == (said, self.what)
        outputs = []
        for one, mine in zip(batch, ids, strict=True):
            own = {name: one.weights[name] for name in one.graph.weight_shapes}
            state = self.states.pop(one.prompt, {})
            logits, self.states[one.prompt] = interpret_step(Program(one.graph, own), mine, state)
            outputs.append(self.what.of(logits, self.vocabulary))
        self.held.append(set(self.states))
        self.outputs.put(outputs)
        return [None] * len(batch)

    def load(self, batch):
        assert self.party is Role.SERVER
        assert all(one.weights[name].shape == s for one in batch for name, s in one.graph.weight_shapes.items())
        lengths = [one.graph.length for one in batch]
        self.loaded.append(lengths)
        if lengths == self.refused:
            raise ValueError("blocks.0.q: the noise may reach 77 steps")

    def cut(self, prompt, tokens):
        self.cuts_made.append((prompt, tokens))
        if self.party is Role.SERVER:
            self.states[prompt] = {name: first_rows(x, tokens) for name, x in self.states[prompt].items()}

    def forget(self, prompt):
        self.forgotten.append(prompt)
        self.states.pop(prompt, None)

    @property
    def cost(self):
        return RunCost(0.5, 10, 20, messages=2)

    def close(self):
        self.closed = True


def greedy(ids: list[int], count: int, program: Program = PROGRAM) -> list[int]:
    """The tokens of the whole program in the clear, the prompt read anew for each."""
    ids = list(ids)
    for _ in range(count):
        ids.append(int(logits_after(ids, program).argmax()))
    return ids[-count:]


def logits_after(ids: list[int], program: Program = PROGRAM) -> np.ndarray:
    return interpret(prefill(program, len(ids)), np.array(ids))[0]


def tokenizer_file(folder: Path) -> bytes:
    path = folder / "tokenizer.json"
    train(["to be or not to be"] * 3, VOCABULARY).save(path)
    return path.read_bytes()


class Session:
    """A server in a thread; `failure` is what its side ended with. refused: lengths that the engine does not load.
    admit: as of `Server.handle`."""

    refused: tuple[int, ...] = ()
    admit: Callable[[int, int], None] = staticmethod(lambda tokens, outputs: None)
    chat_template: ChatTemplate | None = None

    def __init__(
        self,
        tokenizer: bytes,
        reveal: Reveal = LOGITS,
        max_prompts: int = 4,
        program: Program = PROGRAM,
        timeout: float = 10.0,
        ends: tuple[int, ...] = (),
        draft: bytes = b"",
    ) -> None:
        self.client_channel, self.server_channel = channel_pair(timeout=timeout)
        self.done: list[Computed] = []
        self.declined: list[str] = []
        self.programs = Programs(program)
        self.failure: BaseException | None = None
        ids, logits = Queue(), Queue()
        self.client_engine = InsecureTestEngine(Role.CLIENT, ids, logits)
        self.server_engine = InsecureTestEngine(Role.SERVER, ids, logits)
        self.server_engine.refused = list(self.refused)
        self.server = Server(
            notation="SM", context=program.graph.length, vocab_size=program.graph.shapes[program.graph.output][1],
            tokenizer=tokenizer,
            programs=self.programs,
            engine="insecure-test", engine_for=lambda _: self.server_engine, reveal=reveal, max_prompts=max_prompts,
            end_tokens=ends, chat_template=self.chat_template, draft=draft,
        )  # fmt: skip
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        try:
            with self.server_channel as channel:
                self.server.handle(channel, self.done.append, self.declined.append, lambda *asked: self.admit(*asked))
        except BaseException as error:
            self.failure = error

    def client(
        self, pad_to: int | None = None, guesses: int = 0, steady: bool = False, draft_for=None, drafts=None
    ) -> Client:
        return Client(
            self.client_channel, lambda name, _: self.client_engine,
            pad_to=pad_to, guesses=guesses, steady=steady, draft_for=draft_for, drafts=drafts,
        )  # fmt: skip

    def lose(self) -> None:
        """The connection breaks, without a word."""
        self.server_channel._link.close()
        self.client_engine.outputs.put(PeerVanishedError("gone"))

    @property
    def steps(self) -> list[Span]:
        """Of one prompt at a time."""
        return [step for computed in self.done for step in computed.steps]

    def join(self) -> None:
        self.thread.join(10)
        assert not self.thread.is_alive()


class Sessions:
    """Sessions one after another, of the longer program: a server in a thread each time, unless it is away."""

    def __init__(
        self, tokenizer: bytes, max_prompts: int = 4, reveal: Reveal = LOGITS, program: Program = LONGER
    ) -> None:
        self.tokenizer, self.max_prompts, self.reveal, self.program = tokenizer, max_prompts, reveal, program
        self.opened: list[Session] = []
        self.away: bool | Exception = False
        self.admit: Callable[[int, int], None] | None = None
        self.how: dict = {}  # of each client

    @contextmanager
    def open(self):
        if self.away:
            raise self.away if isinstance(self.away, Exception) else ConnectionRefusedError("nobody listens there")
        session = Session(self.tokenizer, self.reveal, self.max_prompts, self.program, timeout=120.0)
        session.admit = self.admit or session.admit
        self.opened.append(session)
        try:
            with session.client(**self.how) as client:
                yield client
        finally:
            session.client_channel.close()
            session.join()

    @property
    def steps(self) -> list[tuple[Span, ...]]:
        return [done.steps for session in self.opened for done in session.done]
