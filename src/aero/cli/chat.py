"""`aero chat`: a conversation with a server that never sees it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from aero.cli import streams
from aero.cli.live_text import LiveText
from aero.cli.options import (
    Guess,
    Keys,
    NoTls,
    PadTo,
    Reconnect,
    Records,
    SamplingSeed,
    SessionReport,
    Steady,
    Stop,
    Temperature,
    Threads,
    TopK,
    TopP,
    Wait,
)
from aero.cli.private import Failure, answer_with, cost_line, parse_address, private_session, session_of, special_note
from aero.cli.security import security_of
from aero.kernels import native
from aero.mpc.party import Role
from aero.report.record import Record, write_records
from aero.report.session import Answer, guesses_line, write_report
from aero.serve.chat import Template
from aero.serve.client import check_length, check_sampling
from aero.serve.reconnecting import RECONNECTIONS, Reconnecting
from aero.serve.sampling import Sampling
from aero.serve.session import DeclinedError
from aero.serve.text import Kept

PLACE = "{}"
HELP = "/new begins anew, /quit ends"


def chat(
    server: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Server to talk to.")],
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "-n", help="Tokens of an answer, at most.", min=1)
    ] = 32,
    temperature: Temperature = 0.0,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: SamplingSeed = None,
    stop: Stop = None,
    template: Annotated[
        str | None,
        typer.Option(
            help="What the model reads for each line that you type, {} being the line; by default the model's own chat "
            "template, or the line alone where it has none. Special tokens are meant in the template, and text in the "
            "line."
        ),
    ] = None,
    pad_to: PadTo = None,
    guess: Guess = 0,
    steady: Steady = False,
    wait: Wait = None,
    reconnect: Reconnect = RECONNECTIONS,
    keys: Keys = None,
    insecure_plaintext: NoTls = False,
    threads: Threads = None,
    report: SessionReport = None,
    json: Records = None,
) -> None:
    """Talk to a model privately, line by line. The history stays here; the server sees lengths alone.

    What was read before stays with both parties in shares, so an answer costs what is new. When the conversation
    outgrows the model's context, its oldest turns are forgotten. --json writes records of the set-up and each token.
    The exit code is 1 where an answer ended too early; what there was of it is kept.
    """
    parse_address(server)
    if template is not None and PLACE not in template:
        raise ValueError(f"the template {template!r} has no {PLACE} for what is typed; put one in")
    sampling = Sampling(temperature, top_k, top_p, seed)
    security = security_of(keys, Role.CLIENT, insecure_plaintext)
    if threads is not None:
        native.set_threads(threads)
    console, progress = Console(highlight=False), LiveProgress()
    answers: list[Answer] = []
    with Reconnecting(
        lambda: private_session(server, security, progress, pad_to, wait, guess, steady), reconnect, progress.note
    ) as client:
        check_sampling(sampling, client.offer)
        offer, tokenizer = client.offer, client.tokenizer
        console.print(
            f"{offer.notation} by {offer.engine}, {offer.context} tokens of context; you will learn "
            f"{offer.revealed.described} of each output; {HELP}",
            style="dim",
            soft_wrap=True,
        )
        if template is not None and (note := special_note(tokenizer, [template], special=True)):
            console.print(f"of the template, {note}", style="dim", soft_wrap=True, markup=False)
        own = client.chat_template if template is None else None
        talk = Lines(client, template or PLACE) if own is None else Messages(client, Template(tokenizer, own))
        failure: Failure | None = None
        declined = False
        while (line := _read_line(console)) is not None:
            if line == "/new":
                talk.clear()
                client.forget([0])
                continue
            try:
                ids, forgotten = talk.prompt(line, max_new_tokens)
            except ValueError as error:
                console.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
                continue
            if note := special_note(tokenizer, [line], special=False):
                console.print(note, style="dim", soft_wrap=True, markup=False)
            if forgotten:
                console.print(f"the oldest {forgotten} tokens are forgotten", style="dim")
            with LiveText() as live:
                progress.live = live
                answer, failure = answer_with(client, live, "", ids, max_new_tokens, sampling, stop or (), keep=True)
            if answer.tokens:  # of a failure, what there was before it
                talk.answered(answer)
                answers.append(Answer(talk.shown(line), answer.prompt_ids, answer.tokens))
                console.print(_answer_line(client, answer), style="dim", soft_wrap=True)
            if isinstance(failure, DeclinedError):  # the session goes on
                console.print(f"[red]error:[/red] {escape(str(failure))}", soft_wrap=True)
                declined = True
            elif failure is not None:
                break
        session = session_of(client, answers)
        if report is not None:
            write_report(session, report)
        if json is not None:
            write_records(json, session.records())
        if failure is not None and not isinstance(failure, DeclinedError):
            raise failure
    if declined:
        raise typer.Exit(1)


class Lines:
    """A conversation in which each line is read by a template of its own, after all that was read before."""

    def __init__(self, client: Reconnecting, template: str) -> None:
        self._tokenizer, self._template = client.tokenizer, template
        self._context = client.offer.context - len(client.tokenizer.before)
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._turns: list[list[int]] = []
        self._asked: list[list[int]] = []

    def shown(self, line: str) -> str:
        return self._template.replace(PLACE, line)

    def prompt(self, line: str, max_new_tokens: int) -> tuple[list[int], int]:
        """All that the model reads, and how many tokens of it are forgotten. ValueError where the line does not fit."""
        turn = self._tokenizer.encode_template(self._template, lambda part: part.replace(PLACE, line))
        self._asked, forgotten = fitting([*self._turns, turn], max_new_tokens, self._context)
        return [*self._tokenizer.before, *(token for turn in self._asked for token in turn)], forgotten

    def answered(self, answer: Answer) -> None:
        """What followed the prompt belongs to the conversation."""
        self._turns = [*self._asked, [token.id for token in answer.tokens]]


class Messages:
    """A conversation by the model's own chat template, from which the oldest messages go when it grows too long."""

    def __init__(self, client: Reconnecting, template: Template) -> None:
        self._client, self._template = client, template
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._messages: list[tuple[str, str]] = []
        self._asked: list[tuple[str, str]] = []
        self._kept, self._fresh = Kept(), list[int]()

    def shown(self, line: str) -> str:
        return line

    def prompt(self, line: str, max_new_tokens: int) -> tuple[list[int], int]:
        """All that the model reads, and how many tokens of it are forgotten. ValueError where the line does not fit, or
        the template refuses it."""
        context, first = self._client.offer.context, 0
        messages = [*self._messages, ("user", line)]
        fresh = whole = self._template.ids(messages)
        while len(fresh) + max_new_tokens - 1 > context and first < len(self._messages):
            first += 2  # a line and its answer
            fresh = self._template.ids(messages[first:])
        check_length(len(fresh), max_new_tokens, context)
        self._asked, self._fresh = messages[first:], fresh
        ids = self._kept.continued(fresh, self._client.tokenizer.decode, context - max_new_tokens + 1)
        return (fresh if ids is None else ids), len(whole) - len(fresh)

    def answered(self, answer: Answer) -> None:
        """What followed the prompt belongs to the conversation."""
        ends = self._client.offer.end_tokens
        self._kept = Kept(
            self._fresh, list(answer.prompt_ids), [token.id for token in answer.tokens if token.id not in ends]
        )  # fmt: skip
        self._messages = [*self._asked, ("assistant", "".join(token.text for token in answer.tokens))]


class LiveProgress:
    """Passes what the engine does, and notes, on to the text that is growing now."""

    live: LiveText | None = None

    def __call__(self, label: str, share: float) -> None:
        if self.live is not None:
            self.live.progress(label, share)

    def note(self, text: str) -> None:
        if self.live is not None:
            self.live.note(text)


def fitting(turns: list[list[int]], max_new_tokens: int, context: int) -> tuple[list[list[int]], int]:
    """The latest turns that fit the context with an answer after them, and how many tokens of older ones do not.

    ValueError where the last turn alone does not fit.
    """
    check_length(len(turns[-1]), max_new_tokens, context)
    first = 0
    while sum(map(len, turns[first:])) + max_new_tokens - 1 > context:
        first += 1
    return turns[first:], sum(map(len, turns[:first]))


def _read_line(console: Console) -> str | None:
    """A line that is not empty, or None at the end."""
    while sys.stdin is not None:
        try:
            line = streams.without_mark(console.input("> "))
        except EOFError:
            return None
        if line.strip() == "/quit":
            return None
        if line.strip():
            return line.strip() if line.strip() == "/new" else line
    return None


def _answer_line(client: Reconnecting, answer: Answer) -> str:
    """The cost of an answer, in one line."""
    record = Record.of_cost(answer.cost, "answer", client.offer.engine, client.offer.notation, None)
    new = answer.tokens[0].step.length
    parts = [f"{new} tokens read", f"{len(answer.tokens)} new", guesses_line(answer.runs)]
    return f"{cost_line(record)}  ({', '.join(filter(None, parts))})"
