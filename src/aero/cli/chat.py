"""`aero chat`: a conversation with a server that never sees it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from aero.bench.record import Record, write_records
from aero.bench.session import Answer, Session, write_report
from aero.cli import streams
from aero.cli.live_text import LiveText
from aero.cli.options import Keys, NoTls, Records, SamplingSeed, SessionReport, Stop, Temperature, Threads, TopK, TopP
from aero.cli.private import Failure, answer_with, cost_line, parse_address, private_session, special_note
from aero.cli.security import security_of
from aero.engines.engine import Party
from aero.kernels import native
from aero.serve.client import Client, check_length, check_sampling
from aero.serve.sampling import Sampling
from aero.serve.session import DeclinedError

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
        str,
        typer.Option(
            help="What the model reads for each line that you type, {} being the line. Special tokens are meant in the "
            "template, and text in the line."
        ),
    ] = PLACE,
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
    if PLACE not in template:
        raise ValueError(f"the template {template!r} has no {PLACE} for what is typed; put one in")
    sampling = Sampling(temperature, top_k, top_p, seed)
    security = security_of(keys, Party.CLIENT, insecure_plaintext)
    if threads is not None:
        native.set_threads(threads)
    console, progress = Console(highlight=False), Progress()
    answers: list[Answer] = []
    with private_session(server, security, progress) as client:
        check_sampling(sampling, client.offer)
        offer, tokenizer = client.offer, client.tokenizer
        console.print(
            f"{offer.notation} by {offer.engine}, {offer.context} tokens of context; you will learn "
            f"{offer.revealed.described} of each output; {HELP}",
            style="dim",
            soft_wrap=True,
        )
        if note := special_note(tokenizer, [template], special=True):
            console.print(f"of the template, {note}", style="dim", soft_wrap=True, markup=False)
        history: list[list[int]] = []
        failure: Failure | None = None
        declined = False
        while (line := _read_line(console)) is not None:
            if line == "/new":
                history = []
                client.forget([0])
                continue
            text = template.replace(PLACE, line)
            try:
                turn = tokenizer.encode_template(template, PLACE, line)
                turns, forgotten = fitting([*history, turn], max_new_tokens, offer.context - len(tokenizer.before))
            except ValueError as error:
                console.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
                continue
            if note := special_note(tokenizer, [line], special=False):
                console.print(note, style="dim", soft_wrap=True, markup=False)
            if forgotten:
                console.print(f"the oldest {forgotten} tokens are forgotten", style="dim")
            ids = [*tokenizer.before, *(token for one in turns for token in one)]
            with LiveText() as live:
                progress.live = live
                answer, failure = answer_with(client, live, "", ids, max_new_tokens, sampling, stop or (), keep=True)
            if answer.tokens:  # of a failure, what there was before it
                history = [*turns, [token.id for token in answer.tokens]]
                answers.append(Answer(text, answer.prompt_ids, answer.tokens))
                console.print(_answer_line(client, answer), style="dim", soft_wrap=True)
            if isinstance(failure, DeclinedError):  # the session goes on
                console.print(f"[red]error:[/red] {escape(str(failure))}", soft_wrap=True)
                declined = True
            elif failure is not None:
                break
        session = Session(offer, client.engine.set_up_cost, tuple(answers))
        if report is not None:
            write_report(session, report)
        if json is not None:
            write_records(json, session.records())
        if failure is not None and not isinstance(failure, DeclinedError):
            raise failure
    if declined:
        raise typer.Exit(1)


class Progress:
    """Passes what the engine does on to the text that is growing now."""

    live: LiveText | None = None

    def __call__(self, label: str, share: float) -> None:
        if self.live is not None:
            self.live.progress(label, share)


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


def _answer_line(client: Client, answer: Answer) -> str:
    """The cost of an answer, in one line."""
    record = Record.of_cost(answer.cost, "answer", client.offer.engine, client.offer.notation, None)
    new = answer.tokens[0].step.length
    return f"{cost_line(record)}  ({new} tokens read, {len(answer.tokens)} new)"
