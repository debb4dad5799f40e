"""The server's side of a session: it holds the weights, and never sees a prompt, a logit or a token."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import aero
from aero.data.chat_template import ChatTemplate
from aero.data.tokenizer import Tokenizer
from aero.engines.engine import Engine, PromptRun, RunCost, StepReport
from aero.engines.memory import give_back
from aero.engines.reveal import LOGITS, Reveal
from aero.graph import Program, Programs
from aero.graph.task import GENERATE, Task
from aero.serve.limits import LimitError
from aero.serve.session import (
    MAX_OUTPUTS,
    MAX_PROMPTS,
    MAX_RETRY,
    PROTOCOL,
    Asked,
    Offer,
    Span,
    expect,
    field_of,
    read_asked,
    work_of,
)
from aero.wire import Channel, ProtocolError, StoppingError, TimeUpError, UntrustedPeerError

log = logging.getLogger(__name__)

DEFAULT_MAX_PROMPTS = 8
IDLE_SECONDS = 600.0
"""How long a client may be silent between two steps, where a person may think."""
_PAUSE = 3.0  # seconds between two steps after which they are not those of one answer


class Stop(StrEnum):
    """When a session is to end: after the answers at hand, so that none is lost; after the step at hand; the same,
    because it has lasted as long as one may."""

    AFTER_ANSWER = "after answer"
    AFTER_STEP = "after step"
    TIME_UP = "time up"


@dataclass(frozen=True)
class Computed:
    """One computation, as the server knows it: how many tokens of which prompts, and what it cost in all.

    report: by operation. set_up_seconds, tallies: of the engine, since the computation before."""

    steps: tuple[Span, ...]
    cost: RunCost
    report: tuple[StepReport, ...] = ()
    set_up_seconds: float = 0.0
    tallies: Mapping[str, int] = field(default_factory=dict)

    @property
    def work(self) -> str:
        return work_of(self.steps)

    @property
    def context(self) -> int:
        """The most tokens read so far of a prompt."""
        return max(step.context for step in self.steps)


class Server:
    """Serves one model.

    programs: the compiled model. tokenizer: the bytes of the tokenizer file, which every client gets.
    engine_for: connects an engine over a session's channel.
    reveal: what a client learns of each output. max_prompts: how many prompts a session may have at the same time.
    end_tokens: ids after which the model's text has ended, and clients ask for no more.
    chat_template: how conversations are written for the model, for clients that have some. task: what outputs are for;
    embedding_size: numbers of one, where they are embeddings.
    draft: a model by which clients guess tokens, for those that want it (`aero.compiler.draft`); it is public then.
    idle: seconds that a client may take between two steps; within one, the channel's own timeout holds.
    Raises ValueError for a tokenizer that is not usable, or end tokens that it has not.
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
        max_prompts: int = DEFAULT_MAX_PROMPTS,
        end_tokens: Sequence[int] = (),
        chat_template: ChatTemplate | None = None,
        draft: bytes = b"",
        task: Task = GENERATE,
        embedding_size: int = 0,
        idle: float = IDLE_SECONDS,
    ) -> None:
        if not 1 <= max_prompts <= MAX_PROMPTS:
            raise ValueError(f"a session has 1 to {MAX_PROMPTS} prompts at the same time, not {max_prompts}")
        self._chat_template = b"" if chat_template is None else chat_template.to_bytes()
        sizes = context, vocab_size, engine, str(reveal), max_prompts, len(tokenizer)
        self._draft = draft
        self._offer = Offer(
            PROTOCOL, aero.__version__, notation, *sizes, tuple(end_tokens), len(self._chat_template), len(draft),
            hashlib.sha256(draft).hexdigest() if draft else "", task, embedding_size,
        )  # fmt: skip
        self._tokenizer = tokenizer
        tokens = Tokenizer.from_bytes(tokenizer)
        self._tokens = tokens.vocab_size
        if task.kind == "generate" and not tokens.lossless:
            raise ValueError("the tokenizer does not give texts back; use a byte-level BPE such as GPT-2's")
        if self._tokens > vocab_size:
            raise ValueError(
                f"the tokenizer has {self._tokens} tokens, and the model {vocab_size}; use the model's own"
            )
        if any(token >= self._tokens for token in end_tokens):
            raise ValueError(f"an end token is none of the tokenizer's {self._tokens}; use the model's own tokenizer")
        self._programs = programs
        self._engine_for = engine_for
        self._idle = idle
        self._stop: Stop | None = None
        self._answering = self._between_steps = False
        self._silent_since = 0.0

    def stop(self, when: Stop) -> None:
        """End the session at hand: `handle` raises StoppingError, and the client is told. For a signal handler of the
        thread that handles, to be called again until the session has ended: that an answer has is known by silence."""
        self._stop = when
        if self._between_steps:
            self._raise_if_due()

    def _raise_if_due(self) -> None:
        if self._stop is None:
            return
        if self._stop is Stop.AFTER_ANSWER and self._answering and time.monotonic() < self._silent_since + _PAUSE:
            return
        self._between_steps = False
        if self._stop is Stop.TIME_UP:
            raise TimeUpError("it has lasted as long as a session may")
        raise StoppingError("this server is being stopped")

    def handle(
        self,
        channel: Channel,
        on_step: Callable[[Computed], None] = lambda _: None,
        on_declined: Callable[[str], None] = lambda _: None,
        admit: Callable[[int, int], None] = lambda tokens, outputs: None,
    ) -> None:
        """Serve one client until it finishes. Raises a WireError when the session breaks off, StoppingError by `stop`.

        on_declined: called with the reason for which a step was not computed; the session goes on. admit: called before
        each step with its tokens and outputs; raises LimitError for a step that is declined, and UntrustedPeerError
        where the client may not go on.
        """
        hello = channel.recv_control()
        expect(hello, "hello")
        if field_of(hello, "protocol", int) != PROTOCOL:
            channel.send_control({"say": "refusal", "reason": f"this server speaks session protocol {PROTOCOL}"})
            raise ProtocolError(f"the client speaks session protocol {hello['protocol']}, this server {PROTOCOL}")
        channel.send_control(self._offer.message())
        channel.send(self._tokenizer)
        if self._chat_template:
            channel.send(self._chat_template)
        with self._engine_for(channel) as engine:
            columns = self._tokens if self._offer.task.kind == "generate" else self._offer.outputs
            engine.reveal_only(self._offer.revealed, columns)
            read: dict[int, int] = {}  # by prompt, how many tokens' keys and values the engine holds
            loaded: set[tuple[Span, ...]] = set()  # what the engine has found that it can compute
            set_up, tallies = 0.0, dict(engine.tallies)
            draft = self._draft
            while True:
                self._answering = bool(read)
                message = self._next_message(channel)
                said = expect(message, "step", "end", "draft", "finish")
                if said == "finish":
                    return
                if said == "draft":
                    if not draft:
                        raise _refused(channel, "a draft model that is not there, or twice")
                    channel.send(draft)
                    draft = b""
                    continue
                if said == "end":
                    for prompt in self._ended(channel, message, read):
                        del read[prompt]
                        engine.forget(prompt)
                    continue
                asked = self._checked(channel, message, read, engine.cuts)
                try:
                    steps = tuple(request.step for request in asked)
                    admit(sum(step.length for step in steps), sum(step.outputs for step in steps))
                except LimitError as error:
                    _decline(channel, str(error), error.limit, error.retry)
                    on_declined(error.detail or str(error))
                    continue
                except UntrustedPeerError as error:
                    channel.send_control({"say": "refusal", "reason": str(error)})
                    raise
                for request in asked:
                    if 0 < request.step.past < read.get(request.prompt, 0):
                        engine.cut(request.prompt, request.step.past)
                        read[request.prompt] = request.step.past
                programs = [self._program(request.step) for request in asked]
                pairs = zip(asked, programs, strict=True)
                batch = [PromptRun(p.graph, prompt=request.prompt, weights=p.weights) for request, p in pairs]
                if steps not in loaded:
                    try:
                        engine.load(batch)
                    except (ValueError, OverflowError) as error:
                        log.warning("declined %s: %s", steps, error)
                        _decline(channel, _no_room(asked))
                        on_declined(str(error))
                        continue
                    loaded.add(steps)
                _send_graphs(channel, asked, programs)
                engine.run_batch(batch)
                read |= {request.prompt: request.step.context for request in asked}
                new = {name: count - tallies.get(name, 0) for name, count in engine.tallies.items()}
                done = Computed(steps, engine.cost, engine.report, engine.set_up_cost.seconds - set_up, new)
                set_up, tallies = engine.set_up_cost.seconds, dict(engine.tallies)
                log.info("%s: %s in %.2f s", done.work, done.steps, engine.cost.seconds)
                on_step(done)
                give_back()

    def _next_message(self, channel: Channel) -> Mapping[str, object]:
        try:
            self._silent_since = time.monotonic()
            self._between_steps = True
            self._raise_if_due()
            return channel.recv_control(patience=self._idle)
        except StoppingError as error:
            channel.__exit__(StoppingError, error, None)  # before the engine takes a polite leave
            raise
        finally:
            self._between_steps = False

    def _checked(
        self, channel: Channel, message: Mapping[str, object], read: Mapping[int, int], cuts: bool
    ) -> list[Asked]:
        """What the client asks for; anything that cannot be computed ends the session."""
        asked = read_asked(message)
        reason = self._refusal(asked, read, cuts)
        if reason:
            raise _refused(channel, reason)
        return asked

    def _ended(self, channel: Channel, message: Mapping[str, object], read: Mapping[int, int]) -> list[int]:
        """The prompts that end; a prompt that was not begun ends the session."""
        prompts: list[int] = field_of(message, "prompts", list)
        unknown = [prompt for prompt in prompts if type(prompt) is not int or prompt not in read]
        if unknown or len(set(prompts)) != len(prompts):
            raise _refused(channel, "the end of prompts that have not begun, or of one twice")
        return prompts

    def _refusal(self, asked: Sequence[Asked], read: Mapping[int, int], cuts: bool) -> str:
        """Why a step is not computed, or nothing. cuts: whether tokens can be taken back."""
        context, most = self._offer.context, self._offer.max_prompts
        if not 1 <= len(asked) <= most:
            return f"{len(asked)} prompts at once, where this server computes 1 to {most}"
        if len({request.prompt for request in asked}) != len(asked):
            return "the same prompt twice in one step"
        for request in asked:
            step, known = request.step, read.get(request.prompt, 0)
            if not 0 <= request.prompt < most:
                return f"the prompt number {request.prompt}, where this server knows 0 to {most - 1}"
            if step.length < 1 or step.context > context:
                return f"{step.length} tokens after {step.past} do not fit the context of {context}"
            if step.past and self._offer.task.kind != "generate":
                return f"tokens after {step.past} others, where this model reads whole texts"
            if step.past not in (range(known + 1) if cuts else (0, known)):
                return f"tokens after {step.past} others, where {known} were read"
            if not 1 <= step.outputs <= (step.length if step.past else 1):
                return f"{step.outputs} outputs of {step.length} tokens after {step.past}"
        outputs = sum(request.step.outputs for request in asked)
        if outputs > MAX_OUTPUTS:
            return f"{outputs} outputs at once, where this server computes up to {MAX_OUTPUTS}"
        total = sum(request.step.length for request in asked)
        return f"{total} tokens at once, more than the context of {context}" if total > context else ""

    def _program(self, step: Span) -> Program:
        if step.past:
            return self._programs.decode(step.past, step.length, step.outputs)
        return self._programs.prefill(step.length, leave_state=True)


def _refused(channel: Channel, reason: str) -> ProtocolError:
    """Tell the client, and what to raise then."""
    channel.send_control({"say": "refusal", "reason": reason})
    return ProtocolError(f"the client asks for {reason}")


def _send_graphs(channel: Channel, asked: Sequence[Asked], programs: Sequence[Program]) -> None:
    """Those that the client lacks; the first prompt of a past and length speaks for the others."""
    done: set[Span] = set()
    structures: list[bytes] = []
    for request, program in zip(asked, programs, strict=True):
        if request.step not in done and request.digest != program.graph.digest:
            structures.append(program.graph.dumps().encode())
        done.add(request.step)
    channel.send_control({"say": "go", "graphs": [len(structure) for structure in structures]})
    for structure in structures:
        channel.send(structure)


def _decline(channel: Channel, reason: str, limit: str = "", retry: float | None = None) -> None:
    seconds = 0 if retry is None else min(math.ceil(retry), MAX_RETRY)
    channel.send_control({"say": "declined", "reason": reason, "limit": limit, "retry": seconds})


def _no_room(asked: Sequence[Asked]) -> str:
    """The error itself would tell the client how large the weights are."""
    rows = sum(request.step.length for request in asked)
    prompts = "one prompt" if len(asked) == 1 else f"{len(asked)} prompts"
    return (
        f"it cannot compute {rows} tokens of {prompts} at once; ask for more or fewer at once, or have the model "
        "compiled again"
    )
