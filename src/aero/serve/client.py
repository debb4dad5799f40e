"""The client's side of a session: it holds the text, and learns of each output what the server's offer says.

Needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

import aero
from aero.data.tokenizer import Tokenizer
from aero.engines.engine import Cost, Engine, StepReport
from aero.graph import Graph
from aero.graph.serialize import graph_from_json
from aero.serve.sampling import Sampler, Sampling
from aero.serve.session import MAX_GRAPH_BYTES, PROTOCOL, Offer, Step, expect, field_of
from aero.serve.text import TextStream
from aero.wire import Channel, ProtocolError

GREEDY = Sampling()


@dataclass(frozen=True)
class PrivateToken:
    """A token that the client computed with the server.

    id: token id; text: what it adds to the text, whole characters only; logits: float64 [V], from which it was chosen,
    minus infinity where they were not revealed; step: what was computed for it; cost: of that; report: the same by
    operation, where the engine can tell.
    """

    id: int
    text: str
    logits: np.ndarray
    step: Step
    cost: Cost
    report: tuple[StepReport, ...] = ()

    @property
    def revealed(self) -> np.ndarray:
        """The ids of the logits that the client learnt, ascending."""
        return np.flatnonzero(np.isfinite(self.logits))


class Client:
    """A session with a server over an open channel, for any number of prompts.

    engine_for: connects the engine that the server names; raises ValueError for one that this client does not run.
    """

    def __init__(self, channel: Channel, engine_for: Callable[[str, Channel], Engine]) -> None:
        channel.send_control({"say": "hello", "protocol": PROTOCOL, "version": aero.__version__})
        message = channel.recv_control()
        expect(message, "offer")
        self.offer = Offer.read(message)
        data = channel.recv(self.offer.tokenizer_bytes, np.uint8)
        try:
            self.tokenizer = Tokenizer.from_bytes(data.tobytes())
        except ValueError as error:
            raise ProtocolError(f"the server's tokenizer is not usable: {error}") from None
        if self.tokenizer.vocab_size > self.offer.vocab_size:
            raise ProtocolError("the server's tokenizer has more tokens than its model")
        self._channel = channel
        self._graphs: dict[Step, Graph] = {}
        self._read: list[int] = []  # the tokens whose keys and values the engines hold
        self._engine = engine_for(self.offer.engine, channel)
        try:
            self._engine.reveal_only(self.offer.revealed, self.tokenizer.vocab_size)
        except BaseException:
            self._engine.close()
            raise

    @property
    def engine(self) -> Engine:
        return self._engine

    def next_logits(self, ids: Sequence[int]) -> tuple[np.ndarray, Step]:
        """Logits float64 [V] of the token after `ids` (1 up to the context), computed privately; minus infinity where
        they are not revealed. Where `ids` continue what was read before, only what is new is computed."""
        ids = [int(i) for i in ids]
        check_length(len(ids), 1, self.offer.context)
        past = len(self._read) if len(self._read) < len(ids) and ids[: len(self._read)] == self._read else 0
        step = Step(past, len(ids) - past)
        held = self._graphs.get(step)
        digest = "" if held is None else held.digest
        self._channel.send_control({"say": "step", "past": step.past, "length": step.length, "digest": digest})
        if held is None:
            held = self._graphs[step] = self._receive_graph(step)
        logits = self._engine.run(held, ids=np.array(ids[past:], dtype=np.int64))
        assert logits is not None
        self._read = ids
        return logits[0], step

    def generate(
        self, ids: Sequence[int], max_new_tokens: int, *, sampling: Sampling = GREEDY, stop: Sequence[str] = ()
    ) -> Iterator[PrivateToken]:
        """Continue `ids` token by token, to the end of the text, a stop string or `max_new_tokens`.

        ValueError, before any work, when that would leave the context, or when the server reveals too little.
        """
        check_length(len(ids), max_new_tokens, self.offer.context)
        check_sampling(sampling, self.offer)
        return self._generate(list(ids), max_new_tokens, Sampler(sampling), TextStream(self.tokenizer.decode, stop))

    def _generate(
        self, ids: list[int], max_new_tokens: int, sampler: Sampler, text: TextStream
    ) -> Iterator[PrivateToken]:
        for index in range(max_new_tokens):
            logits, step = self.next_logits(ids)
            usable = logits[: self.tokenizer.vocab_size]
            if not np.isfinite(usable).any() or np.isnan(usable).any():
                raise ProtocolError("the server's output reveals no token")
            token = sampler.choose(usable)
            ended = token == self.tokenizer.end_of_text
            piece = "" if ended else text.push(token)
            ended = ended or text.stopped or index == max_new_tokens - 1
            piece += text.finish() if ended else ""
            yield PrivateToken(token, piece, logits, step, self._engine.cost, self._engine.report)
            if ended:
                return
            ids = [*ids, token]

    def close(self) -> None:
        """Finish the session."""
        self._channel.send_control({"say": "finish"})
        self._engine.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._engine.close()

    def _receive_graph(self, step: Step) -> Graph:
        message = self._channel.recv_control()
        expect(message, "graph")
        size = field_of(message, "bytes", int)
        if not 0 < size <= MAX_GRAPH_BYTES:
            raise ProtocolError(f"the server announces a graph of {size} bytes")
        try:
            graph = graph_from_json(json.loads(self._channel.recv(size, np.uint8).tobytes()))
        except ValueError as error:
            raise ProtocolError(f"the server's graph is not usable: {error}") from None
        rows_read = {shape[0] for shape in graph.state_in.values()}
        if (
            graph.length != step.length
            or graph.shapes[graph.output] != (1, self.offer.vocab_size)
            or rows_read - {step.past}
        ):
            raise ProtocolError("the server's graph does not compute what was asked for")
        return graph


def check_length(prompt: int, new_tokens: int, context: int) -> None:
    """ValueError when a prompt and its continuation do not fit a context (the last token is never read)."""
    if prompt < 1:
        raise ValueError("the prompt is empty; give at least one token of text")
    if new_tokens < 1:
        raise ValueError(f"cannot generate {new_tokens} tokens; ask for at least 1")
    if prompt + new_tokens - 1 > context:
        raise ValueError(
            f"a prompt of {prompt} tokens and {new_tokens} new ones do not fit the model's context of {context}; "
            "shorten the prompt or ask for fewer tokens"
        )


def check_sampling(sampling: Sampling, offer: Offer) -> None:
    """ValueError when tokens are to be drawn from logits that the server does not reveal."""
    if sampling.greedy:
        return
    reveal = offer.revealed
    if not reveal.values:
        raise ValueError(
            "this server reveals the most likely token alone, nothing to draw from; leave --temperature out"
        )
    if reveal.k is not None and sampling.top_k is not None and sampling.top_k > reveal.k:
        raise ValueError(f"this server reveals {reveal.k} logits; draw among as many at most (--top-k {reveal.k})")
