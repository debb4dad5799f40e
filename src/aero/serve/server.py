"""The server's side of a session: it holds the weights, and never sees a prompt, a logit or a token."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import aero
from aero.engines.engine import Cost, Engine
from aero.graph import Program
from aero.serve.session import PROTOCOL, Offer, expect, field_of
from aero.wire import Channel, ProtocolError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """One private computation, as the server knows it: how many tokens, and what it cost."""

    length: int
    cost: Cost


class Server:
    """Serves one model.

    program_for: the compiled program for a number of tokens, up to the context.
    tokenizer: the bytes of the tokenizer file, which every client gets.
    engine_for: connects an engine over a session's channel.
    """

    def __init__(
        self,
        *,
        notation: str,
        context: int,
        vocab_size: int,
        tokenizer: bytes,
        program_for: Callable[[int], Program],
        engine: str,
        engine_for: Callable[[Channel], Engine],
    ) -> None:
        self._offer = Offer(PROTOCOL, aero.__version__, notation, context, vocab_size, engine, len(tokenizer))
        self._tokenizer = tokenizer
        self._program_for = program_for
        self._engine_for = engine_for

    def handle(self, channel: Channel, on_step: Callable[[Step], None] = lambda _: None) -> None:
        """Serve one client until it finishes. Raises a WireError when the session breaks off."""
        hello = channel.recv_control()
        expect(hello, "hello")
        if field_of(hello, "protocol", int) != PROTOCOL:
            channel.send_control({"say": "refusal", "reason": f"this server speaks session protocol {PROTOCOL}"})
            raise ProtocolError(f"the client speaks session protocol {hello['protocol']}, this server {PROTOCOL}")
        channel.send_control(self._offer.message())
        channel.send(self._tokenizer)
        with self._engine_for(channel) as engine:
            while True:
                message = channel.recv_control()
                if expect(message, "step", "finish") == "finish":
                    return
                length = field_of(message, "length", int)
                if not 1 <= length <= self._offer.context:
                    reason = f"{length} tokens do not fit the context of {self._offer.context}"
                    channel.send_control({"say": "refusal", "reason": reason})
                    raise ProtocolError(f"the client asks for {reason}")
                program = self._program_for(length)
                structure = program.graph.dumps().encode()
                channel.send_control({"say": "graph", "bytes": len(structure)})
                channel.send(structure)
                engine.run(program.graph, weights=program.weights)
                log.info("computed %d tokens in %.2f s", length, engine.cost.seconds)
                on_step(Step(length, engine.cost))
