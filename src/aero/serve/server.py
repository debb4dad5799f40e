"""The server's side of a session: it holds the weights, and never sees a prompt, a logit or a token."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import aero
from aero.data.tokenizer import Tokenizer
from aero.engines.engine import Cost, Engine
from aero.engines.reveal import LOGITS, Reveal
from aero.graph import Program
from aero.serve.session import PROTOCOL, Offer, Step, expect, field_of
from aero.wire import Channel, ProtocolError

log = logging.getLogger(__name__)


class Programs(Protocol):
    """A compiled model: its program for each step of a session. ValueError for what does not fit the context."""

    def prefill(self, length: int, *, leave_state: bool) -> Program:
        """The logits [1, V] after `length` tokens, whose keys and values stay in the engine."""

    def decode(self, past: int, length: int = 1) -> Program:
        """The logits [1, V] after `length` tokens that follow `past` others."""


@dataclass(frozen=True)
class Computed:
    """One step, as the server knows it: how many tokens, and what it cost."""

    step: Step
    cost: Cost


class Server:
    """Serves one model.

    programs: the compiled model. tokenizer: the bytes of the tokenizer file, which every client gets.
    engine_for: connects an engine over a session's channel.
    reveal: what a client learns of each output.
    Raises ValueError for a tokenizer that is not usable.
    """

    def __init__(
        self,
        *,
        notation: str,
        context: int,
        vocab_size: int,
        tokenizer: bytes,
        programs: Programs,
        engine: str,
        engine_for: Callable[[Channel], Engine],
        reveal: Reveal = LOGITS,
    ) -> None:
        self._offer = Offer(
            PROTOCOL, aero.__version__, notation, context, vocab_size, engine, str(reveal), len(tokenizer)
        )
        self._tokenizer = tokenizer
        self._tokens = Tokenizer.from_bytes(tokenizer).vocab_size
        if self._tokens > vocab_size:
            raise ValueError(
                f"the tokenizer has {self._tokens} tokens, and the model {vocab_size}; use the model's own"
            )
        self._programs = programs
        self._engine_for = engine_for

    def handle(self, channel: Channel, on_step: Callable[[Computed], None] = lambda _: None) -> None:
        """Serve one client until it finishes. Raises a WireError when the session breaks off."""
        hello = channel.recv_control()
        expect(hello, "hello")
        if field_of(hello, "protocol", int) != PROTOCOL:
            channel.send_control({"say": "refusal", "reason": f"this server speaks session protocol {PROTOCOL}"})
            raise ProtocolError(f"the client speaks session protocol {hello['protocol']}, this server {PROTOCOL}")
        channel.send_control(self._offer.message())
        channel.send(self._tokenizer)
        with self._engine_for(channel) as engine:
            engine.reveal_only(self._offer.revealed, self._tokens)
            read = 0  # tokens whose keys and values the engine holds
            while True:
                message = channel.recv_control()
                if expect(message, "step", "finish") == "finish":
                    return
                step = self._checked_step(channel, message, read)
                program = self._program(step)
                if field_of(message, "digest", str) != program.graph.digest:
                    structure = program.graph.dumps().encode()
                    channel.send_control({"say": "graph", "bytes": len(structure)})
                    channel.send(structure)
                engine.run(program.graph, weights=program.weights)
                read = step.context
                log.info("%s: %d tokens after %d in %.2f s", step.work, step.length, step.past, engine.cost.seconds)
                on_step(Computed(step, engine.cost))

    def _checked_step(self, channel: Channel, message: dict[str, object], read: int) -> Step:
        """What the client asks for; anything that cannot be computed ends the session."""
        step = Step(field_of(message, "past", int), field_of(message, "length", int))
        reason = ""
        if step.length < 1 or step.context > self._offer.context:
            reason = f"{step.length} tokens after {step.past} do not fit the context of {self._offer.context}"
        elif step.past not in (0, read):
            reason = f"tokens after {step.past} others, where {read} were read"
        if reason:
            channel.send_control({"say": "refusal", "reason": reason})
            raise ProtocolError(f"the client asks for {reason}")
        return step

    def _program(self, step: Step) -> Program:
        if step.past:
            return self._programs.decode(step.past, step.length)
        return self._programs.prefill(step.length, leave_state=True)
