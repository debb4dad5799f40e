"""What the two parties say to each other around the computation: who they are, and what is to be computed.

    client                                   server
      hello {protocol, version}       ->
                                      <-     offer {protocol, notation, context, vocab_size, task, reveal, ...}
                                      <-     tokenizer.json, and the chat template where there is one
      ... the engine connects ...            (see aero.engines.connect)
      draft                           ->     where the client guesses, and has not the draft model that is offered
                                      <-     the draft model
      step {prompts: [{prompt, past, length, outputs, digest}, ...]}
                                      ->
                                      <-     go {graphs: [bytes, ...]}, then each graph's structure; or declined
      ... the engine runs ...                {reason, limit, retry}
      end {prompts: [prompt, ...]}    ->     both drop what they hold of these
      step ... / finish               ->

A step is computed for one prompt or several at once. Of each it reads `length` tokens after the `past` ones whose keys
and values that prompt's steps left, in shares, and has `outputs` results: what follows each of the last of these. past
= 0 begins a new prompt under the same number; less than was read takes the tokens after it back, which both parties
drop; and `end` says that nothing follows what was read of some. So a prompt is one step, each token after it another,
or several tokens, which the client guesses and the model confirms or not (`aero.serve.drafts`); keys and set-up serve
any number of prompts. Prompts have numbers below `max_prompts`; a step reads no more tokens, of all its prompts
together, than the context has, and has at most MAX_OUTPUTS outputs. The client names a graph that it has by its digest,
and the server then sends it no second time; "" asks for it. `go` has those of the others, in order, once for prompts of
one past, length and number of outputs.

How many rows the weights are multiplied by decides how large the noise may be, how much is computed what a key bears,
and what a client has used whether it may use more. So the server knows only when it is asked whether it computes a
step, and says so before any work: after `declined`, nothing is computed and the session goes on. The reason names no
weight: the client would learn how large it is. `limit` names the limit that stands in the way (`aero.serve.limits`), or
is ""; after `retry` seconds it is free again, 0 where time changes nothing.

Everything here is public: sizes, the structure of the model, the tokenizer, the chat template, the number of tokens. No
weight, no token and no logit passes through these messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from aero.data import chat_template
from aero.engines.reveal import Reveal
from aero.graph.task import GENERATE, Task
from aero.wire import ProtocolError, one_line

PROTOCOL = 13

# A peer that announces more than this is refused before anything is allocated.
MAX_TOKENIZER_BYTES = 64 << 20
MAX_GRAPH_BYTES = 64 << 20
MAX_DRAFT_BYTES = 256 << 20
MAX_CONTEXT = 1 << 20
MAX_VOCABULARY = 1 << 21
MAX_EMBEDDING = 1 << 16
MAX_PROMPTS = 32
MAX_OUTPUTS = MAX_PROMPTS
"""Of a step, of all prompts together."""
MAX_END_TOKENS = 64
MAX_RETRY = 2 * 86400


class DeclinedError(ValueError):
    """The server does not compute what was asked for. Nothing was computed, and the session goes on.

    limit: which of the client's limits stands in the way, or "". retry: seconds after which it may be asked again, None
    where time changes nothing."""

    def __init__(self, message: str, limit: str = "", retry: float | None = None) -> None:
        super().__init__(message)
        self.limit, self.retry = limit, retry

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> DeclinedError:
        """What a `declined` says. ProtocolError where it is none."""
        reason, limit = (one_line(field_of(message, name, str)) for name in ("reason", "limit"))
        retry = field_of(message, "retry", int)
        if not 0 <= retry <= MAX_RETRY:
            raise ProtocolError(f"the server says to ask again after {retry} seconds")
        return cls(f"the server declines: {reason}", limit, retry or None)


@dataclass(frozen=True)
class Offer:
    """What a server says of itself.

    notation: its architecture in the papers' names; context: most tokens that it reads; vocab_size: V;
    engine: name of the engine that both must run; reveal: what the client will learn of each output, as
    `aero.engines.reveal` writes it; max_prompts: prompts of a session, and of a step, at the same time;
    tokenizer_bytes: size of the tokenizer file that follows; end_tokens: ids after which the model's text has ended;
    chat_template_bytes: size of the template that follows it (`aero.data.chat_template`), 0 where there is none;
    draft_bytes: of the draft model (`aero.compiler.draft`) that clients get which ask for it, 0 where there is none;
    draft_digest: its SHA-256, in lower-case hexadecimal, or "", by which a client knows one that it has;
    task: what outputs are for; embedding_size: numbers of one, where they are embeddings, else 0.
    """

    protocol: int
    version: str
    notation: str
    context: int
    vocab_size: int
    engine: str
    reveal: str
    max_prompts: int
    tokenizer_bytes: int
    end_tokens: tuple[int, ...] = ()
    chat_template_bytes: int = 0
    draft_bytes: int = 0
    draft_digest: str = ""
    task: Task = GENERATE
    embedding_size: int = 0

    def __post_init__(self) -> None:
        _check_protocol(self.protocol, self.version)
        fits = 1 <= self.context <= MAX_CONTEXT and 2 <= self.vocab_size <= MAX_VOCABULARY
        fits = (
            fits and 1 <= self.max_prompts <= MAX_PROMPTS and 0 <= self.chat_template_bytes <= chat_template.MAX_BYTES
        )
        fits = fits and 0 <= self.draft_bytes <= MAX_DRAFT_BYTES
        if not fits or not 0 < self.tokenizer_bytes <= MAX_TOKENIZER_BYTES:
            raise ProtocolError("the server's offer has impossible sizes")
        if not re.fullmatch("[0-9a-f]{64}" if self.draft_bytes else "", self.draft_digest):
            raise ProtocolError(f"the server's offer names no SHA-256 of its draft model: {self.draft_digest!r}")
        if not (1 <= self.embedding_size <= MAX_EMBEDDING if self.task.kind == "embed" else self.embedding_size == 0):
            raise ProtocolError(f"the server's offer names embeddings of {self.embedding_size} numbers")
        if self.task.kind == "classify" and len(self.task.labels) < 2:
            raise ProtocolError("the server's offer is of a classifier of one class")
        ends = self.end_tokens
        if len(ends) > MAX_END_TOKENS or any(type(i) is not int or not 0 <= i < self.vocab_size for i in ends):
            raise ProtocolError(f"the server's offer names end tokens that are none of its {self.vocab_size}")
        try:
            reveal = Reveal.parse(self.reveal)
        except ValueError as error:
            raise ProtocolError(f"the server's offer is not usable: {error}") from None
        if self.task.kind == "embed" and reveal.k is not None:
            raise ProtocolError("the server's offer reveals a part of embeddings, which mean nothing in parts")

    @property
    def revealed(self) -> Reveal:
        return Reveal.parse(self.reveal)

    @property
    def outputs(self) -> int:
        """Numbers of an output."""
        return {"generate": self.vocab_size, "embed": self.embedding_size, "classify": len(self.task.labels)}[
            self.task.kind
        ]

    def message(self) -> dict[str, Any]:
        return {"say": "offer", **asdict(self), "task": self.task.to_json()}

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> Offer:
        """ProtocolError where a field is missing, of another type or out of range. Its texts become printable lines."""
        _check_protocol(field_of(message, "protocol", int), one_line(field_of(message, "version", str)))
        values: dict[str, Any] = {}
        for f in fields(cls):
            if f.name == "task":
                values[f.name] = _read_task(field_of(message, "task", dict))
                continue
            kind = {"int": int, "str": str}.get(str(f.type), list)
            value = field_of(message, f.name, kind)
            values[f.name] = one_line(value) if kind is str else tuple(value) if kind is list else value
        return cls(**values)


def _read_task(message: Mapping[str, Any]) -> Task:
    labels = field_of(message, "labels", list)
    if not all(type(label) is str for label in labels):
        raise ProtocolError("a label of the server's classes is no text")
    kind, normalize = field_of(message, "kind", str), field_of(message, "normalize", bool)
    try:
        return Task.of({"kind": kind, "normalize": normalize, "labels": map(one_line, labels)})
    except ValueError as error:
        raise ProtocolError(f"the server's task is not usable: {one_line(str(error))}") from None


def _check_protocol(protocol: int, version: str) -> None:
    if protocol != PROTOCOL:
        raise ProtocolError(
            f"the other side speaks session protocol {protocol} (aero {version}), this aero {PROTOCOL}; install the "
            "same version of aero on both sides"
        )


@dataclass(frozen=True)
class Span:
    """What one computation does for one prompt: `length` tokens read after `past` others, and what follows each of the
    last `outputs` of them."""

    past: int
    length: int
    outputs: int = 1

    @property
    def context(self) -> int:
        """Tokens read in all."""
        return self.past + self.length

    @property
    def work(self) -> str:
        """What reports call it: "next-token" for one token after others, or several of which each has an output;
        "prefill" for text that is read at once."""
        return "next-token" if self.past and self.length == self.outputs else "prefill"


def work_of(steps: Sequence[Span]) -> str:
    """Of a computation for several prompts: "next-token" where it is that for all of them."""
    return "next-token" if all(step.work == "next-token" for step in steps) else "prefill"


@dataclass(frozen=True)
class Asked:
    """What a step message asks for, of one prompt. digest: of the graph that the client has for it, or ""."""

    prompt: int
    step: Span
    digest: str

    def message(self) -> dict[str, Any]:
        return {"prompt": self.prompt, **asdict(self.step), "digest": self.digest}


def read_asked(message: Mapping[str, Any]) -> list[Asked]:
    """The prompts of a step message. ProtocolError for what is no such message; numbers are not looked at."""
    found = []
    for entry in field_of(message, "prompts", list):
        if not isinstance(entry, dict):
            raise ProtocolError("a prompt of a step is not a JSON object")
        step = Span(*(field_of(entry, name, int) for name in ("past", "length", "outputs")))
        found.append(Asked(field_of(entry, "prompt", int), step, field_of(entry, "digest", str)))
    return found


def expect(message: Mapping[str, Any], *said: str) -> str:
    """What a control message says, one of `said`. ProtocolError otherwise; a refusal raises its reason."""
    word, reason = (value if isinstance(value, str) else "" for value in map(message.get, ("say", "reason")))
    if word == "refusal" and word not in said:
        raise ProtocolError(f"the other side refuses: {one_line(reason)}")
    if word not in said:
        raise ProtocolError(f"expected {' or '.join(said)}, the other side says {one_line(word, 40)!r}")
    return word


def field_of(message: Mapping[str, Any], name: str, kind: type) -> Any:
    """A field of a control message, of exactly this type. ProtocolError otherwise."""
    value = message.get(name)
    if type(value) is not kind:
        raise ProtocolError(f"the field {name!r} of a message is not {kind.__name__}")
    return value
