"""The client's side of a session: it holds the text, and learns the next token's logits and nothing else.

Needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

import aero
from aero.data.tokenizer import Tokenizer
from aero.engines.engine import Cost, Engine
from aero.graph import Graph
from aero.graph.serialize import graph_from_json
from aero.serve.session import MAX_GRAPH_BYTES, PROTOCOL, Offer, expect, field_of
from aero.wire import Channel, ProtocolError


@dataclass(frozen=True)
class PrivateToken:
    """A token that the client computed with the server.

    id: token id; logits: float64 [V], from which it was chosen; cost: of computing it.
    """

    id: int
    logits: np.ndarray
    cost: Cost


class Client:
    """A session with a server over an open channel.

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
        self._engine = engine_for(self.offer.engine, channel)

    @property
    def set_up_cost(self) -> Cost:
        """What connecting the engine cost, once for the session."""
        return self._engine.set_up_cost

    def next_logits(self, ids: np.ndarray) -> tuple[np.ndarray, Cost]:
        """Logits float64 [V] of the token after `ids` (int64 [n], n up to the context), computed privately."""
        check_length(len(ids), 1, self.offer.context)
        self._channel.send_control({"say": "step", "length": len(ids)})
        graph = self._receive_graph(len(ids))
        logits = self._engine.run(graph, ids=ids)
        assert logits is not None
        return logits[0], self._engine.cost

    def generate(self, ids: list[int], max_new_tokens: int) -> Iterator[PrivateToken]:
        """Continue `ids` greedily, token by token, to the end of the text or `max_new_tokens`.

        ValueError, before any work, when that would leave the context.
        """
        check_length(len(ids), max_new_tokens, self.offer.context)
        for _ in range(max_new_tokens):
            logits, cost = self.next_logits(np.array(ids, dtype=np.int64))
            token = PrivateToken(int(np.argmax(logits[: self.tokenizer.vocab_size])), logits, cost)
            yield token
            if token.id == self.tokenizer.end_of_text:
                return
            ids = [*ids, token.id]

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

    def _receive_graph(self, length: int) -> Graph:
        message = self._channel.recv_control()
        expect(message, "graph")
        size = field_of(message, "bytes", int)
        if not 0 < size <= MAX_GRAPH_BYTES:
            raise ProtocolError(f"the server announces a graph of {size} bytes")
        try:
            graph = graph_from_json(json.loads(self._channel.recv(size, np.uint8).tobytes()))
        except ValueError as error:
            raise ProtocolError(f"the server's graph is not usable: {error}") from None
        if graph.length != length or graph.shapes[graph.output] != (1, self.offer.vocab_size):
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
