"""The same predictions in plaintext and in a private session, so that their perplexities can be compared.

A text is read from its beginning: some tokens at once, then each true next token from keys and values. Every step
predicts the token after it, and all but the first cost what a generated token costs. The same steps are computed by the
model in float64 and by the fixed-point reference, `InsecurePlainEngine`, which has the engine's number formats and no
protocols: what the formats do to the model, and what the protocols add, can be told apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aero.compiler.compiled import Compiled
from aero.compiler.verify import every_logit
from aero.data.packing import Shard
from aero.engines.insecure.plain import InsecurePlainEngine
from aero.graph.ring_plan import RingPlan
from aero.models import AeroForCausalLM
from aero.report.record import Record
from aero.serve.client import Client


@dataclass(frozen=True)
class Text:
    """ids: int64 [length]; the first `given` are read at once, and each later one is predicted."""

    ids: np.ndarray
    given: int

    def __post_init__(self) -> None:
        if not 1 <= self.given < len(self.ids):
            raise ValueError(
                f"of a text of {len(self.ids)} tokens, {self.given} cannot be read before the first prediction; "
                f"give 1 to {len(self.ids) - 1}"
            )

    @property
    def actual(self) -> np.ndarray:
        """The tokens that are predicted."""
        return self.ids[self.given :]

    @property
    def reads(self) -> range:
        """How many tokens have been read at each prediction."""
        return range(self.given, len(self.ids))


def texts_of(shard: Shard, length: int, given: int, tokens: int, first: int = 0) -> list[Text]:
    """As many blocks of `length` tokens as make `tokens` predictions, from block `first` on; the last may be shorter.

    ValueError where the shard has too few, or `given` leaves nothing to predict.
    """
    if tokens < 1:
        raise ValueError(f"cannot predict {tokens} tokens; ask for at least 1")
    if not 1 <= given < length:
        raise ValueError(f"{given} tokens of {length} leave none to predict; read 1 to {length - 1} of them at once")
    each = length - given
    needed = first + math.ceil(tokens / each)
    if shard.blocks(length) < needed:
        raise ValueError(
            f"{tokens} predictions need {needed} blocks of {length} tokens, the text has {shard.blocks(length)}; "
            "ask for fewer, or use more text"
        )
    lengths = [min(length, given + tokens - done) for done in range(0, tokens, each)]
    return [
        Text(shard.block(first + index, length)[:stop].astype(np.int64), given) for index, stop in enumerate(lengths)
    ]


@dataclass(frozen=True)
class Predictions:
    """What one computation says of the tokens of some texts, in their order.

    logits: float64 [N, V], minus infinity where they are not revealed. actual: int64 [N], the true tokens. vocabulary:
    ids from here on are no tokens. values: whether finite logits are values, or only mark what was revealed.
    """

    logits: np.ndarray
    actual: np.ndarray
    vocabulary: int
    values: bool = True

    @cached_property
    def loss(self) -> float | None:
        """Mean of -log p(true token), in nats; None where not every logit is known."""
        if not self.values or not np.isfinite(self.logits).all():
            return None
        rows = self.logits - self.logits.max(axis=1, keepdims=True)
        log_p = rows[np.arange(len(rows)), self.actual] - np.log(np.exp(rows).sum(axis=1))
        return float(-log_p.mean())

    @property
    def perplexity(self) -> float | None:
        return None if self.loss is None else math.exp(min(self.loss, 700.0))  # beyond it exceeds a float

    @cached_property
    def greedy(self) -> np.ndarray:
        """The most likely tokens, int64 [N]."""
        return self.logits[:, : self.vocabulary].argmax(axis=1)

    def agreement(self, other: Predictions) -> int:
        """In how many predictions the most likely token is the same."""
        return int((self.greedy == other.greedy).sum())

    def distance(self, other: Predictions) -> float | None:
        """The largest difference of a logit that is known of both; None where none is."""
        if not (self.values and other.values):
            return None
        known = np.isfinite(self.logits) & np.isfinite(other.logits)
        return float(np.abs(self.logits - other.logits)[known].max())


@dataclass(frozen=True)
class Disagreement:
    """A prediction whose greedy token is not the reference's.

    read: tokens read before it; token, expected: ids; margin: by how much the reference's logit of `expected` is above
    that of `token`.
    """

    read: int
    token: int
    expected: int
    margin: float


def disagreements(found: Predictions, reference: Predictions, texts: Sequence[Text]) -> list[Disagreement]:
    """Where the greedy tokens differ."""
    reads = [read for text in texts for read in text.reads]
    result = []
    for index in np.flatnonzero(found.greedy != reference.greedy):
        token, expected, row = int(found.greedy[index]), int(reference.greedy[index]), reference.logits[index]
        result.append(Disagreement(reads[index], token, expected, float(row[expected] - row[token])))
    return result


def by_model(model: AeroForCausalLM, texts: Sequence[Text], vocabulary: int) -> Predictions:
    """By the model itself, in float64."""
    logits = [every_logit(model, text.ids[None])[0, text.given - 1 : -1] for text in texts]
    return _predictions(np.concatenate(logits), texts, vocabulary)


def by_plain_engine(compiled: Compiled, plan: RingPlan, texts: Sequence[Text], vocabulary: int) -> Predictions:
    """By the fixed-point reference: the very steps of a session, without cryptography."""
    rows = []
    with InsecurePlainEngine(plan) as engine:
        for text in texts:
            for read in text.reads:
                first = read == text.given
                program = compiled.prefill(read, leave_state=True) if first else compiled.decode(read - 1)
                ids = text.ids[:read] if first else text.ids[read - 1 : read]
                rows.append(engine.run(program.graph, weights=program.weights, ids=ids)[0])
    return _predictions(np.array(rows), texts, vocabulary)


def by_session(
    client: Client, texts: Sequence[Text], on_token: Callable[[int], None] = lambda _: None
) -> tuple[Predictions, list[Record]]:
    """By a session with a server, and a record of its set-up and of each step. on_token: told how many are done."""
    rows, records, offer = [], [], client.offer
    for text in texts:
        for read in text.reads:
            logits, step = client.next_logits(text.ids[:read].tolist())
            rows.append(logits)
            records.append(Record.of_cost(client.engine.cost, step.work, offer.engine, offer.notation, step.context))
            on_token(len(rows))
    set_up = Record.of_cost(client.engine.set_up_cost, "set-up", offer.engine, offer.notation, None)
    found = _predictions(np.array(rows), texts, client.tokenizer.vocab_size, offer.revealed.values)
    return found, [set_up, *records]


def _predictions(logits: np.ndarray, texts: Sequence[Text], vocabulary: int, values: bool = True) -> Predictions:
    return Predictions(logits, np.concatenate([text.actual for text in texts]), vocabulary, values)
