"""What the two parties say to each other around the computation: who they are, and what is to be computed.

    client                                   server
      hello {protocol, version}       ->
                                      <-     offer {protocol, notation, context, vocab_size, engine, tokenizer_bytes}
                                      <-     tokenizer.json
      ... the engine connects ...            (see aero.engines.connect)
      step {length}                   ->
                                      <-     graph {bytes}, then the graph's structure, or refusal {reason}
      ... the engine runs ...
      step ... / finish               ->

Everything here is public: sizes, the structure of the model, the tokenizer, the length of the prompt. No weight, no
token and no logit passes through these messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from aero.wire import ProtocolError

PROTOCOL = 1

# A peer that announces more than this is refused before anything is allocated.
MAX_TOKENIZER_BYTES = 64 << 20
MAX_GRAPH_BYTES = 64 << 20
MAX_CONTEXT = 1 << 20
MAX_VOCABULARY = 1 << 21


@dataclass(frozen=True)
class Offer:
    """What a server says of itself.

    notation: its architecture in the papers' names; context: most tokens that it reads; vocab_size: V;
    engine: name of the engine that both must run; tokenizer_bytes: size of the tokenizer file that follows.
    """

    protocol: int
    version: str
    notation: str
    context: int
    vocab_size: int
    engine: str
    tokenizer_bytes: int

    def __post_init__(self) -> None:
        if self.protocol != PROTOCOL:
            raise ProtocolError(
                f"the other side speaks session protocol {self.protocol} (aero {self.version}), this aero {PROTOCOL}; "
                "install the same version of aero on both sides"
            )
        fits = 1 <= self.context <= MAX_CONTEXT and 2 <= self.vocab_size <= MAX_VOCABULARY
        if not fits or not 0 < self.tokenizer_bytes <= MAX_TOKENIZER_BYTES:
            raise ProtocolError("the server's offer has impossible sizes")

    def message(self) -> dict[str, Any]:
        return {"say": "offer", **asdict(self)}

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> Offer:
        values = {f.name: field_of(message, f.name, int if f.type == "int" else str) for f in fields(cls)}
        return cls(**values)


def expect(message: Mapping[str, Any], *said: str) -> str:
    """What a control message says, one of `said`. ProtocolError otherwise; a refusal raises its reason."""
    word = message.get("say")
    if word == "refusal" and word not in said:
        raise ProtocolError(f"the other side refuses: {str(message.get('reason'))[:200]}")
    if word not in said:
        raise ProtocolError(f"expected {' or '.join(said)}, the other side says {str(word)[:40]!r}")
    return str(word)


def field_of(message: Mapping[str, Any], name: str, kind: type) -> Any:
    """A field of a control message, of exactly this type. ProtocolError otherwise."""
    value = message.get(name)
    if type(value) is not kind:
        raise ProtocolError(f"the field {name!r} of a message is not {kind.__name__}")
    return value
