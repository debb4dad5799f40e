"""The client's side of a session: it holds the text, and learns of each output what the server's offer says.

Needs no torch.
"""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

import aero
from aero.data.chat_template import ChatTemplate
from aero.data.tokenizer import Tokenizer
from aero.engines.engine import Engine, PromptRun, RunCost, StepReport
from aero.files.cache import Cache
from aero.graph import Graph
from aero.graph.serialize import graph_from_json
from aero.serve.drafts import MODEL, PHRASE, Guess, Pace, continued_phrase
from aero.serve.sampling import Sampler, Sampling
from aero.serve.session import (
    MAX_GRAPH_BYTES,
    MAX_OUTPUTS,
    PROTOCOL,
    Asked,
    DeclinedError,
    Offer,
    Span,
    expect,
    field_of,
    work_of,
)
from aero.serve.text import TextStream
from aero.wire import Channel, ProtocolError, Traffic, WireError, one_line, read_json

GREEDY = Sampling()
NO_COST = RunCost(0.0)


@dataclass(frozen=True)
class PrivateRun:
    """One computation with the server, for one prompt or several at once.

    index: its number in the session, from 0; steps: of each prompt; cost: of all together; report: the same by
    operation, where the engine can tell. guessed, held: tokens that it read as guesses, and how many of them were those
    that were chosen. set_up: what came before it and is no part of it: of the first run the
    greeting with the tokenizer, keys and base transfers; of any, the structures of steps that are new, renewed keys.
    """

    index: int
    steps: tuple[Span, ...]
    cost: RunCost
    report: tuple[StepReport, ...] = ()
    set_up: RunCost = NO_COST
    guessed: int = 0
    held: int = 0

    @property
    def work(self) -> str:
        return work_of(self.steps)

    @property
    def context(self) -> int:
        """The most tokens read so far of a prompt."""
        return max(step.context for step in self.steps)


@dataclass(frozen=True)
class PrivateToken:
    """A token that the client computed with the server.

    id: token id; text: what it adds to the text, whole characters only; logits: float64 [V], from which it was chosen,
    minus infinity where they were not revealed; step: what was computed for it; run: in which computation, which tokens
    of other prompts may share, and others of the same that were guessed. last: nothing follows.
    """

    id: int
    text: str
    logits: np.ndarray
    step: Span
    run: PrivateRun
    last: bool = False

    @property
    def revealed(self) -> np.ndarray:
        """The ids of the logits that the client learnt, ascending."""
        return np.flatnonzero(np.isfinite(self.logits))


@dataclass
class Continuation:
    """A prompt and what follows it so far; `Client.advance` adds a token.

    left: how many tokens may still be chosen. given: tokens that follow first, whatever the model would choose, and are
    no part of the new text; the logits from which each would have been chosen are learnt. ended: nothing follows.
    padding: how many tokens were read with it that are none of its own. As many are if it has to be read anew, so that
    a server that breaks sessions off does not see where, with more and more of an answer, the next multiple begins.
    told: with steady steps, how many of the ids the server takes to be settled: one more with each step, whatever held.
    """

    ids: list[int]
    sampler: Sampler
    text: TextStream
    left: int
    given: list[int] = field(default_factory=list)
    ended: bool = False
    padding: int | None = None
    told: int | None = None

    @property
    def ahead(self) -> int:
        """How many tokens may be read after the next step."""
        return max(len(self.given) + self.left - 1, 0)


@dataclass(frozen=True)
class _Reading:
    """What is computed next of a prompt. text: its ids, to the end of what is read; tokens: those that are read now,
    with padding; settled: how many of the text are not read again; sure: how many of it are no guesses; guesses: how
    many after these are, and by what.
    """

    step: Span
    text: list[int]
    tokens: list[int]
    settled: int
    sure: int
    guesses: int = 0
    source: str = PHRASE

    def guessing(self, guesses: list[int], source: str) -> _Reading:
        count = len(guesses)
        step, text = Span(self.step.past, self.step.length + count, 1 + count), self.text + guesses
        return _Reading(step, text, self.tokens + guesses, len(text), self.sure, count, source)


@dataclass(frozen=True)
class _Read:
    """What the engines hold of a prompt. ids: whose keys and values may be gone on with; held: how many there are in
    all; padding: how many of these stand for none of the ids; sure: how many of the ids are no guesses."""

    ids: list[int] = field(default_factory=list)
    held: int = 0
    padding: int = 0
    sure: int = 0


class Generating(ABC):
    """Continues prompts with a server: in one session, or over several."""

    offer: Offer

    def generate(
        self,
        ids: Sequence[int],
        max_new_tokens: int,
        *,
        sampling: Sampling = GREEDY,
        stop: Sequence[str] = (),
        keep: bool = False,
    ) -> Iterator[PrivateToken]:
        """Continue `ids` token by token, to one of the model's end tokens, a stop string or `max_new_tokens`.

        keep: hold the keys and values afterwards, for ids that begin with what was read; both parties drop them
        otherwise. Of an iteration that is not gone through to its end they stay, until the place is used again or
        `forget`.
        ValueError, before any work, when that would leave the context, or when the server reveals too little;
        DeclinedError, while it goes on, when the server does not compute a step.
        """
        tokens = self.generate_batch([ids], max_new_tokens, sampling=sampling, stop=stop, keep=keep)
        return (token for _, token in tokens)

    def generate_batch(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        *,
        sampling: Sampling = GREEDY,
        stop: Sequence[str] = (),
        keep: bool = False,
    ) -> Iterator[tuple[int, PrivateToken]]:
        """`generate` for several prompts at once, in the rounds of one: gives each token with the place of its prompt.

        Each prompt ends by itself. Prompts that are longer than the context together are read in several runs. A prompt
        gets the tokens that it would get alone, drawn ones too; and it continues what was kept of its place before.
        """
        check_prompts(len(prompts), self.offer)
        growing = {
            place: self.continuation(ids, max_new_tokens, sampling=sampling, stop=stop)
            for place, ids in enumerate(prompts)
        }
        return self.go_on(growing, keep=keep)

    @abstractmethod
    def continuation(
        self,
        ids: Sequence[int],
        max_new_tokens: int,
        *,
        sampling: Sampling = GREEDY,
        stop: Sequence[str] = (),
        given: Sequence[int] = (),
    ) -> Continuation:
        """A prompt to be continued by `go_on`: by `given`, then by up to `max_new_tokens` tokens that are chosen.

        ValueError when that would leave the context, or when the server reveals too little.
        """

    @abstractmethod
    def go_on(self, prompts: Mapping[int, Continuation], *, keep: bool) -> Iterator[tuple[int, PrivateToken]]:
        """Tokens for the prompts, which stand at these places, until all have ended. keep: as in `generate`."""


class Client(Generating):
    """A session with a server over an open channel, for any number of prompts.

    engine_for: connects the engine that the server names; raises ValueError for one that this client does not run.
    pad_to: text that is read at once is padded with tokens that end a document, before it, so that all that was read of
    a prompt is a multiple of so many tokens, or all that leaves room for its answer: the server learns no more of its
    length. The model reads them, too, so answers may be others. ValueError for less than 1, and where the tokenizer has
    no such token.
    guesses: tokens of a prompt that a step reads beyond those that are known, at most (`aero.serve.drafts`): how many
    pay is found out on the way. ValueError for too many, and for an engine that cannot take tokens back.
    steady: steps have that many guesses and settle one token each, whatever held: what held is read again, so that the
    server learns nothing but the number of steps. ValueError without guesses.
    draft_for: makes what guesses of the draft model that a server publishes; None: none is asked for. drafts: where
    those that were sent before are kept.
    """

    def __init__(
        self,
        channel: Channel,
        engine_for: Callable[[str, Channel], Engine],
        *,
        pad_to: int | None = None,
        guesses: int = 0,
        steady: bool = False,
        draft_for: Callable[[bytes, int], Guess] | None = None,
        drafts: Cache | None = None,
    ) -> None:
        self._pace, self._steady = Pace(guesses), steady
        if steady and not guesses:
            raise ValueError("steady steps hide how many guesses held; give a number of guesses with them")
        if pad_to is not None and pad_to < 1:
            raise ValueError(f"lengths cannot be padded to multiples of {pad_to}; give 1 or more")
        begun = time.perf_counter()
        channel.send_control({"say": "hello", "protocol": PROTOCOL, "version": aero.__version__})
        message = channel.recv_control()
        expect(message, "offer")
        self.offer = Offer.read(message)
        data = channel.recv(self.offer.tokenizer_bytes, np.uint8)
        try:
            self.tokenizer = Tokenizer.from_bytes(data.tobytes())
        except ValueError as error:
            raise ProtocolError(f"the server's tokenizer is not usable: {one_line(str(error))}") from None
        if self.tokenizer.vocab_size > self.offer.vocab_size:
            raise ProtocolError("the server's tokenizer has more tokens than its model")
        if self.offer.task.kind == "generate" and not self.tokenizer.lossless:
            raise ProtocolError("the server's tokenizer does not give texts back")
        self.tokenizer_digest = hashlib.sha256(data.tobytes()).hexdigest()
        self.chat_template: ChatTemplate | None = None
        """The model's own, as the server offers it."""
        if self.offer.chat_template_bytes:
            data = channel.recv(self.offer.chat_template_bytes, np.uint8)
            try:
                self.chat_template = ChatTemplate.from_bytes(data.tobytes())
            except ValueError as error:
                raise ProtocolError(f"the server's chat template is not usable: {one_line(str(error))}") from None
        self._draft: Guess | None = None
        self._channel = channel
        self._graphs: dict[Span, Graph] = {}
        self._read: dict[int, _Read] = {}
        self._pad_to, self._padding = pad_to, 0 if pad_to is None else self.tokenizer.end_of_text
        self.first_run = self._runs = 0
        self._engine = engine_for(self.offer.engine, channel)
        try:
            generates = self.offer.task.kind == "generate"
            columns = self.tokenizer.vocab_size if generates else self.offer.outputs
            self._engine.reveal_only(self.offer.revealed, columns)
            if guesses and not self._engine.cuts:
                raise ValueError(f"the engine {self.offer.engine!r} reads one token at a time; leave the guesses out")
            if guesses and self.offer.draft_bytes and draft_for is not None:
                try:
                    self._draft = draft_for(self._draft_model(drafts), self.offer.vocab_size)
                except ValueError as error:
                    raise ProtocolError(f"the server's draft model is not usable: {one_line(str(error))}") from None
        except BaseException:
            self._engine.close()
            raise
        self._counted, self._counted_set_up = Traffic(), NO_COST  # at the end of the last run
        self._begun: float | None = None
        self._opening = time.perf_counter() - begun

    def _draft_model(self, drafts: Cache | None) -> bytes:
        """What the server publishes, as it was sent before or is now. ValueError for another than it offers."""
        size, digest = self.offer.draft_bytes, self.offer.draft_digest
        kept = None if drafts is None else drafts.read(digest, size)
        if kept is not None:
            return kept
        self._channel.send_control({"say": "draft"})
        data = self._channel.recv(size, np.uint8).tobytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError("it is not the one that was offered")
        if drafts is not None:
            drafts.write(data)
        return data

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def channel(self) -> Channel:
        return self._channel

    @property
    def model(self) -> tuple[object, ...]:
        """All that the server has said of its model: equal for sessions with the same model."""
        return self.offer, self.tokenizer_digest, self.chat_template

    @property
    def in_vain(self) -> RunCost:
        """What was spent since the last run that came to its end, but for set-up."""
        spent, set_up = self._channel.traffic - self._counted, _since(self._counted_set_up, self._engine.set_up_cost)
        seconds = 0.0 if self._begun is None else time.perf_counter() - self._begun
        counts = zip(vars(_spent(seconds, spent)).values(), vars(set_up).values(), strict=True)
        return RunCost(*(max(of_all - (of_set_up or 0), 0) for of_all, of_set_up in counts))

    def count_on(self, before: Client) -> None:
        """Number runs from where those of another session ended, which this one goes on for."""
        self.first_run = self._runs = before._runs

    def next_logits(self, ids: Sequence[int]) -> tuple[np.ndarray, Span]:
        """Logits float64 [V] of the token after `ids` (1 up to the context), computed privately; minus infinity where
        they are not revealed. Where `ids` continue what was read before, only what is new is computed; keys and values
        stay, see `forget`. DeclinedError where the server does not compute them."""
        read = [int(i) for i in ids]
        check_length(len(read), 1, self.offer.context)
        found, _ = self._run({0: self._reading(0, read, 0)})
        logits, step = found[0]
        return logits[0], step

    def outputs(self, texts: Sequence[Sequence[int]]) -> Iterator[tuple[int, np.ndarray, PrivateRun]]:
        """What an encoder makes of each text (1 up to the context of ids): its place, float64 [offer.outputs], minus
        infinity where it is not revealed, and the run, which other texts may share; in as few runs as the server
        computes. ValueError for a text that does not fit, DeclinedError where the server does not compute them."""
        for ids in texts:
            check_length(len(ids), 1, self.offer.context)
        waiting = list(enumerate(texts))
        while waiting:
            count = next(
                (n for n in range(1, len(waiting)) if not self._fit([ids for _, ids in waiting[: n + 1]])), len(waiting)
            )
            several, waiting = waiting[:count], waiting[count:]
            readings = {
                slot: _Reading(Span(0, len(ids)), list(ids), list(ids), len(ids), len(ids))
                for slot, (_, ids) in enumerate(several)
            }
            found, run = self._run(readings)
            self.forget(readings)
            for (place, _), (rows, _) in zip(several, found.values(), strict=True):
                yield place, rows[0], run

    def _fit(self, texts: Sequence[Sequence[int]]) -> bool:
        """Whether the server reads so many at once."""
        return len(texts) <= self.offer.max_prompts and sum(map(len, texts)) <= self.offer.context

    def continuation(
        self,
        ids: Sequence[int],
        max_new_tokens: int,
        *,
        sampling: Sampling = GREEDY,
        stop: Sequence[str] = (),
        given: Sequence[int] = (),
    ) -> Continuation:
        self.offer.task.need("generate")
        check_length(len(ids), len(given) + max_new_tokens, self.offer.context)
        check_sampling(sampling, self.offer)
        text = TextStream(self.tokenizer.decode, stop)
        return Continuation(list(ids), Sampler(sampling), text, max_new_tokens, list(given))

    def advance(self, prompts: Mapping[int, Continuation]) -> Iterator[tuple[int, PrivateToken]]:
        """One token for each of the prompts, which stand at these places of the session, in as few runs as possible; or
        several, where guesses hold.

        A prompt continues what was read at its place, where it begins with it; what was read stays there, see `forget`.
        DeclinedError when the server does not compute a step; what was chosen before it stays chosen.
        """
        for several in self._fitting(prompts):
            found, run = self._run(several)
            if run.work == "next-token":
                self._pace.took(sum(step.outputs for step in run.steps), run.cost.seconds)
            chosen: list[tuple[int, int, str, np.ndarray, bool]] = []
            guessed = all_held = 0
            for place, (rows, step) in found.items():
                prompt, reading = prompts[place], several[place]
                prompt.padding = step.context - len(reading.text)
                prompt.told = reading.settled if self._steady else None
                held = 0
                for at, row in enumerate(rows, len(reading.text) - step.outputs + 1):
                    if at < len(prompt.ids):
                        continue  # what was chosen before, and read again
                    token, piece = self._chosen(prompt, row)
                    chosen.append((place, token, piece, row, prompt.ended))
                    if prompt.ended or reading.text[at : at + 1] != [token]:
                        break
                    held += reading.sure <= at < reading.sure + reading.guesses
                if reading.guesses:
                    self._pace.guessed(reading.guesses, held, reading.source)
                guessed, all_held = guessed + reading.guesses, all_held + held
            run = replace(run, guessed=guessed, held=all_held)
            for place, token, piece, row, last in chosen:
                yield place, PrivateToken(token, piece, row, several[place].step, run, last)

    def go_on(self, prompts: Mapping[int, Continuation], *, keep: bool) -> Iterator[tuple[int, PrivateToken]]:
        while growing := {place: prompt for place, prompt in prompts.items() if not prompt.ended}:
            try:
                for place, token in self.advance(growing):
                    if not keep:
                        with suppress(WireError):  # which the next use raises again; a token that is chosen is not lost
                            self.forget(at for at, prompt in growing.items() if prompt.ended)
                    yield place, token
            except DeclinedError:
                if not keep:
                    self.forget(prompts)
                raise

    def forget(self, prompts: Iterable[int]) -> None:
        """Have both parties drop what they hold of the prompts at these places, where they hold something."""
        ended = [prompt for prompt in prompts if prompt in self._read]
        if ended:
            self._channel.send_control({"say": "end", "prompts": ended})
        for prompt in ended:
            del self._read[prompt]
            self._engine.forget(prompt)

    def _chosen(self, prompt: Continuation, logits: np.ndarray) -> tuple[int, str]:
        """The next token and the text that it adds."""
        usable = logits[: self.tokenizer.vocab_size]
        if not np.isfinite(usable).any() or np.isnan(usable).any():
            raise ProtocolError("the server's output reveals no token")
        if prompt.given:
            token = prompt.given.pop(0)
            prompt.ids = [*prompt.ids, token]
            prompt.ended = not prompt.given and prompt.left == 0
            return token, ""
        token = prompt.sampler.choose(usable)
        prompt.ids = [*prompt.ids, token]
        prompt.left -= 1
        prompt.ended = token in self.offer.end_tokens
        piece = "" if prompt.ended else prompt.text.push(token)
        prompt.ended = prompt.ended or prompt.text.stopped or prompt.left == 0
        return token, piece + (prompt.text.finish() if prompt.ended else "")

    def _fitting(self, prompts: Mapping[int, Continuation]) -> Iterator[dict[int, _Reading]]:
        """What is read of the prompts, in as few runs as the server computes, in order."""
        several: dict[int, _Reading] = {}
        total, spare = 0, MAX_OUTPUTS - len(prompts)
        for prompt, wanted in prompts.items():
            check_length(len(wanted.ids), 1, self.offer.context)
            if wanted.told is not None and self._read.get(prompt, _Read()).ids == wanted.ids[: wanted.told]:
                reading = self._steady_reading(prompt, wanted, MAX_OUTPUTS // len(prompts))
            else:
                reading = self._reading(prompt, wanted.ids[: wanted.told], wanted.ahead, wanted.padding)
                if not self._steady:
                    room = min(spare, self.offer.context - (total + reading.step.length if several else 0))
                    reading = reading.guessing(*self._guessed(wanted, reading, room, len(prompts)))
                    spare -= reading.guesses
            length = reading.step.length
            if several and total + length > self.offer.context:
                yield several
                several, total = {}, 0
            several[prompt] = reading
            total += length
        if several:
            yield several

    def _guessed(self, prompt: Continuation, reading: _Reading, room: int, rows: int) -> tuple[list[int], str]:
        """What may follow a prompt, as far as there is room, and use, for it; of the source whose guesses held more."""
        most = min(self._pace.most, prompt.left - 1, room, self.offer.context - reading.step.context)
        if most < 1 or prompt.given or not reading.step.past:
            return [], PHRASE
        phrase = continued_phrase(prompt.ids, most)
        source = self._source(phrase)
        most = self._pace.length(most if source == MODEL else len(phrase), rows, source)
        found = phrase if self._draft is None or source == PHRASE else self._draft(prompt.ids, most)
        return self._usable(found)[:most], source

    def _source(self, phrase: list[int]) -> str:
        held = self._pace.held
        return MODEL if self._draft is not None and (not phrase or held(MODEL) > held(PHRASE)) else PHRASE

    def _usable(self, guesses: list[int]) -> list[int]:
        """What is no token ends them: the server's own tables have rows for more."""
        return guesses[: next((n for n, i in enumerate(guesses) if i >= self.tokenizer.vocab_size), len(guesses))]

    def _steady_reading(self, place: int, prompt: Continuation, most: int) -> _Reading:
        """As many tokens as in every step, after what is settled: those that are chosen, then guesses, then whatever.
        What is asked of the draft model is always as much, so that it takes as long."""
        read = self._read[place]
        past = read.padding + len(read.ids)
        rows = min(self._pace.most + 1, most, self.offer.context - past)
        ids = [*prompt.ids, *prompt.given]
        phrase = continued_phrase(ids, self._pace.most)
        drafted = [] if self._draft is None else self._draft(ids, self._pace.most)
        source = self._source(phrase)
        guesses = self._usable(drafted if source == MODEL else phrase)
        text = [*ids, *guesses, *[ids[-1]] * rows][: len(read.ids) + rows]
        sure, settled = min(len(ids), len(text)), len(read.ids) + 1
        count = min(len(guesses), len(text) - sure)
        return _Reading(Span(past, rows, rows), text, text[settled - 1 :], settled, sure, count, source)

    def _reading(self, prompt: int, ids: list[int], ahead: int, padded: int | None = None) -> _Reading:
        """What has to be computed of a prompt. ahead: tokens for which there is to be room afterwards. padded: by how
        much it was padded when it was read before."""
        read = self._read.get(prompt, _Read())
        room = self.offer.context - ahead
        known = next((n for n, (a, b) in enumerate(zip(read.ids, ids, strict=False)) if a != b), len(read.ids))
        past = read.padding + known  # only guesses are taken back, which are not padded
        if known < read.sure or known >= len(ids) or past + len(ids) - known > room:  # padding may have taken it
            known = past = 0
        new = ids[known:]
        if self._pad_to is not None and not (past and len(new) == 1):  # single tokens after others are the answer's
            total, first = past + len(new), 0
            if not past and ids[: len(self.tokenizer.before)] == list(self.tokenizer.before):
                first = len(self.tokenizer.before)
            wanted = -(-total // self._pad_to) * self._pad_to if padded is None else len(ids) + padded
            padding = max(min(wanted, room) - total, 0)
            new = [*new[:first], *[self._padding] * padding, *new[first:]]
        return _Reading(Span(past, len(new)), ids, new, len(ids), len(ids))

    def _run(self, prompts: Mapping[int, _Reading]) -> tuple[dict[int, tuple[np.ndarray, Span]], PrivateRun]:
        """The logits after each prompt's ids, and after each guess behind them, all computed at once."""
        begun, engine_before = time.perf_counter() - self._opening, self._engine.set_up_cost
        self._begun = begun
        self._opening = 0.0
        steps = {prompt: reading.step for prompt, reading in prompts.items()}
        digests = {step: graph.digest for step, graph in self._graphs.items()}
        asked = [Asked(prompt, step, digests.get(step, "")) for prompt, step in steps.items()]
        for prompt, step in steps.items():
            read = self._read.get(prompt, _Read())
            if 0 < step.past < read.held:
                self._engine.cut(prompt, step.past)
                self._read[prompt] = _Read(read.ids[: step.past - read.padding], step.past, read.padding, read.sure)
        self._channel.send_control({"say": "step", "prompts": [request.message() for request in asked]})
        self._receive_graphs([step for step in dict.fromkeys(steps.values()) if step not in self._graphs])
        batch = [
            PromptRun(self._graphs[reading.step], np.array(reading.tokens, dtype=np.int64), prompt)
            for prompt, reading in prompts.items()
        ]
        greeted, ready = self._channel.traffic - self._counted, time.perf_counter() - begun
        found: dict[int, tuple[np.ndarray, Span]] = {}
        for (prompt, step), logits in zip(steps.items(), self._engine.run_batch(batch), strict=True):
            assert logits is not None
            found[prompt] = logits, step
        for prompt, reading in prompts.items():
            ids, held = reading.text[: reading.settled], reading.step.context
            self._read[prompt] = _Read(ids, held, held - len(reading.text), min(reading.sure, len(ids)))
        self._counted, self._counted_set_up, self._begun = self._channel.traffic, self._engine.set_up_cost, None
        set_up = _spent(ready, greeted) + _since(engine_before, self._engine.set_up_cost)
        run = PrivateRun(self._runs, tuple(steps.values()), self._engine.cost, self._engine.report, set_up)
        self._runs += 1
        return found, run

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

    def _receive_graphs(self, missing: Sequence[Span]) -> None:
        """DeclinedError where the server does not go on."""
        message = self._channel.recv_control()
        if expect(message, "go", "declined") == "declined":
            raise DeclinedError.read(message)
        sizes = field_of(message, "graphs", list)
        if len(sizes) != len(missing) or any(type(n) is not int or not 0 < n <= MAX_GRAPH_BYTES for n in sizes):
            raise ProtocolError(f"the server announces no usable sizes of the {len(missing)} graphs that are missing")
        for step, size in zip(missing, sizes, strict=True):
            self._graphs[step] = self._receive_graph(step, size)

    def _receive_graph(self, step: Span, size: int) -> Graph:
        graph = read_json(self._channel.recv(size, np.uint8).tobytes(), "the server's graph", graph_from_json)
        names = (*graph.shapes, *graph.weight_shapes, *graph.state_out)
        if any(name != one_line(name) for name in names):
            raise ProtocolError("a name in the server's graph is too long, or not printable")
        tables = {graph.weight_shapes[node.weights[0]][0] for node in graph.nodes if node.op == "embedding"}
        rows_read = {shape[0] for shape in graph.state_in.values()}
        if (
            graph.length != step.length
            or graph.shapes[graph.output] != (step.outputs, self.offer.outputs)
            or rows_read - {step.past}
            or tables - {self.offer.vocab_size}  # with fewer rows, whether the client fails would depend on its ids
        ):
            raise ProtocolError("the server's graph does not compute what was asked for")
        return graph


def _spent(seconds: float, traffic: Traffic) -> RunCost:
    return RunCost(seconds, traffic.bytes_sent, traffic.bytes_received, traffic.rounds, traffic.messages)


def _since(early: RunCost, late: RunCost) -> RunCost:
    """What was spent between the two; what an engine does not count is left out."""
    return RunCost(*((a or 0) - (b or 0) for a, b in zip(vars(late).values(), vars(early).values(), strict=True)))


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


def check_prompts(count: int, offer: Offer) -> None:
    """ValueError when a server does not compute so many prompts together."""
    if not 1 <= count <= offer.max_prompts:
        raise ValueError(f"this server computes 1 to {offer.max_prompts} prompts at once, not {count}")


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
