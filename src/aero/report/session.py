"""What a session with a server was, for reports: answers, what each run cost, and what each party saw of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aero.engines.engine import NOTHING, RunCost, StepReport
from aero.report.page import Page
from aero.report.record import Record, write_json
from aero.serve.client import PrivateRun, PrivateToken
from aero.serve.session import Offer

FORMAT_VERSION = 1
SEEN_HEADER = ("of what", "server", "client")
_LARGEST_OPS = 8


def runs_of(tokens: Iterable[PrivateToken]) -> list[PrivateRun]:
    """The runs that gave these tokens, of one session, in order, each once."""
    found = {token.run.index: token.run for token in tokens}
    return [found[index] for index in sorted(found)]


@dataclass(frozen=True)
class Answer:
    """A prompt and what followed it. prompt_ids: all that the model read before the first new token."""

    prompt: str
    prompt_ids: tuple[int, ...]
    tokens: tuple[PrivateToken, ...]

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)

    @property
    def cost(self) -> RunCost:
        """Of the runs for this answer, which other answers may share."""
        return total(run.cost for run in self.runs)

    @property
    def runs(self) -> list[PrivateRun]:
        """In order, each once, for however many of the tokens it was."""
        return runs_of(self.tokens)


@dataclass(frozen=True)
class Session:
    """A whole session, as the client knows it.

    set_up: what connecting cost. again: of each session that went on for one that broke off, the number of its first
    run, and what it cost to begin it, with what the broken one had computed in vain.
    """

    offer: Offer
    set_up: RunCost
    answers: tuple[Answer, ...]
    again: tuple[tuple[int, RunCost], ...] = ()

    @property
    def tokens(self) -> list[PrivateToken]:
        return [token for answer in self.answers for token in answer.tokens]

    @property
    def runs(self) -> list[PrivateRun]:
        """In order, each once, for however many tokens it was."""
        return runs_of(self.tokens)

    @property
    def shared(self) -> bool:
        """Whether several tokens were computed together: of several prompts, or guessed ones."""
        return any(len(run.steps) > 1 or run.steps[0].outputs > 1 for run in self.runs)

    def records(self) -> list[Record]:
        """The set-up, then each run: the first for an answer is its prompt's, and after a further set-up it reads again
        what was read before."""
        runs = [(run.index, 1, record_of_run(run, self.offer.engine, self.offer.notation)) for run in self.runs]
        again = [(first, 0, self._set_up(cost)) for first, cost in self.again]
        return [
            self._set_up(self.set_up),
            *(found[2] for found in sorted([*runs, *again], key=lambda found: found[:2])),
        ]

    def _set_up(self, cost: RunCost) -> Record:
        return Record.of_cost(cost, "set-up", self.offer.engine, self.offer.notation, None)

    def to_json(self) -> dict[str, Any]:
        by_run = {run.index: record_of_run(run, self.offer.engine, self.offer.notation).to_json() for run in self.runs}
        return {
            "format_version": FORMAT_VERSION,
            "engine": self.offer.engine,
            "notation": self.offer.notation,
            "context": self.offer.context,
            "reveal": self.offer.reveal,
            "seen": [dict(zip(("of", "server", "client"), row, strict=True)) for row in seen(self)],
            "set_up": self._set_up(self.set_up).to_json(),
            "set_up_again": [{"first_run": first} | self._set_up(cost).to_json() for first, cost in self.again],
            "answers": [
                {
                    "prompt": answer.prompt,
                    "prompt_ids": list(answer.prompt_ids),
                    "text": answer.text,
                    "tokens": [
                        {
                            "id": token.id,
                            "text": token.text,
                            "logits_learnt": len(token.revealed),
                            "tokens_read": token.step.length,
                            "run": token.run.index,
                            "record": by_run[token.run.index],
                            "operations": [vars(line) for line in by_op(token.run.report)],
                        }
                        for token in answer.tokens
                    ],
                }
                for answer in self.answers
            ],
        }


def record_of_run(run: PrivateRun, engine: str, notation: str) -> Record:
    """prompts: how many shared the run; context: the most tokens that were read of a prompt; of a run that read any,
    guesses and how many of them held."""
    record = Record.of_cost(run.cost, run.work, engine, notation, run.context)
    guesses = {"guesses": run.guessed, "guesses_held": run.held} if run.guessed else {}
    return replace(record, extra={**record.extra, "prompts": len(run.steps), **guesses})


def guesses_line(runs: Sequence[PrivateRun]) -> str:
    """How many guesses of these runs held, as "5 of 8 guesses held"; nothing where none were made."""
    guessed = sum(run.guessed for run in runs)
    return f"{sum(run.held for run in runs)} of {guessed} guesses held" if guessed else ""


def total(costs: Iterable[RunCost]) -> RunCost:
    """The sum, None where one of them is not known."""
    return sum(costs, NOTHING)


def mean_cost(costs: Sequence[RunCost]) -> RunCost:
    """The mean of some costs, in whole bytes, rounds and messages; None where one of them is not known."""
    sums = vars(total(costs))
    return RunCost(
        sums.pop("seconds") / len(costs), *(v if v is None else round(v / len(costs)) for v in sums.values())
    )


def by_op(steps: Sequence[StepReport]) -> list[StepReport]:
    """Steps of the same operation added up, the longest first; a label is then the number of steps."""
    found: dict[str, list[StepReport]] = {}
    for step in steps:
        found.setdefault(step.op, []).append(step)
    lines = [
        StepReport(
            str(len(several)),
            op,
            sum(s.bytes_client_to_server for s in several),
            sum(s.bytes_server_to_client for s in several),
            sum(s.rounds for s in several),
            sum(s.seconds for s in several),
            sum(s.waiting_seconds for s in several),
        )
        for op, several in found.items()
    ]
    return sorted(lines, key=lambda line: -line.seconds)


def write_report(session: Session, path: Path) -> None:
    """Write the session as an HTML page that stands alone, and as JSON beside it (`path` with .json)."""
    write_json(path.with_suffix(".json"), session.to_json())
    offer, page = session.offer, Page("A private session")
    page.text(
        f"{offer.notation} by the engine {offer.engine}. The server held the weights, this client the text. "
        "MB are 10^6 bytes, as counted on the wire; a round is one message delay. This page contains the text: it is "
        "for whoever may read that."
    )
    for number, answer in enumerate(session.answers, 1):
        page.heading(f"Prompt {number} and its answer" if session.shared else "Prompt and answer")
        page.code(answer.prompt + answer.text)
        header = ("token", "work", "run") if session.shared else ("token", "work", *_COST_HEADER)
        page.table(header, [_token_row(token, session.shared) for token in answer.tokens])
    if session.shared:
        _add_runs(page, session)
    page.heading("Cost")
    works = {work: [run for run in session.runs if run.work == work] for work in ("prefill", "next-token")}
    rows = [("set-up", *_cost_cells(session.set_up))]
    rows += [("set-up again, after a break", *_cost_cells(cost)) for _, cost in session.again]
    rows += [
        (f"{work}, {len(runs)} in all, the mean", *_cost_cells(mean_cost([run.cost for run in runs])))
        for work, runs in works.items()
        if runs
    ]
    page.table(("work", *_COST_HEADER), rows)
    for work, runs in works.items():
        _add_operations(page, work, runs)
    page.heading("What each party saw")
    page.table(SEEN_HEADER, seen(session))
    page.heading("Where")
    record = session.records()[0]
    page.text(f"{record.machine}; aero {record.version}.")
    page.write(path)


_COST_HEADER = ("seconds", "MB up", "MB down", "rounds", "messages")


def _token_row(token: PrivateToken, shared: bool) -> tuple[str, ...]:
    work = f"{token.step.work}, {token.step.context} tokens"
    cost = (str(token.run.index + 1),) if shared else _cost_cells(token.run.cost)
    return (repr(token.text) if token.text else f"id {token.id}", work, *cost)


def _add_runs(page: Page, session: Session) -> None:
    """Which tokens each run was for, and what it cost for all of them."""
    page.heading("Runs")
    page.text(
        "A run computes one token of each of its prompts at once, and more where guesses hold. Seconds, bytes, rounds "
        "and messages are of the whole run, not of each token."
    )
    line = guesses_line(session.runs)
    if line:
        page.text(f"{line[:1].upper()}{line[1:]}: {len(session.tokens)} tokens in {len(session.runs)} runs.")
    rows = []
    for run in session.runs:
        prompts = [n for n, answer in enumerate(session.answers, 1) if any(t.run == run for t in answer.tokens)]
        held = (f"{run.held} of {run.guessed}",) if line else ()
        rows.append((str(run.index + 1), run.work, ", ".join(map(str, prompts)), *held, *_cost_cells(run.cost)))
    page.table(("run", "work", "prompts", *(("guesses held",) if line else ()), *_COST_HEADER), rows)


def _cost_cells(cost: RunCost) -> tuple[str, ...]:
    up, down = cost.bytes_client_to_server, cost.bytes_server_to_client
    return (
        f"{cost.seconds:.2f}",
        *("?" if count is None else f"{count / 1e6:.2f}" for count in (up, down)),
        *("?" if count is None else f"{count:.0f}" for count in (cost.rounds, cost.messages)),
    )


def _add_operations(page: Page, work: str, runs: list[PrivateRun]) -> None:
    """The mean of each operation over these runs, as bars and as a table; nothing where the engine cannot tell."""
    lines = by_op([step for run in runs for step in run.report])
    if not lines:
        return
    count = len(runs)
    page.heading(f"Operations of a {work}")
    shown, rest = lines[:_LARGEST_OPS], lines[_LARGEST_OPS:]
    bars = []
    for name, value in (
        ("seconds", lambda line: line.seconds),
        ("MB", lambda line: (line.bytes_client_to_server + line.bytes_server_to_client) / 1e6),
        ("rounds", lambda line: line.rounds),
    ):
        parts = [(line.op, value(line) / count) for line in shown]
        bars.append((name, [*parts, ("others", sum(map(value, rest)) / count)] if rest else parts))
    page.stacked_bars(bars)
    page.table(
        ("operation", "seconds", "of them waiting", "MB up", "MB down", "rounds"),
        [
            (
                line.op,
                f"{line.seconds / count:.3f}",
                f"{line.waiting_seconds / count:.3f}",
                f"{line.bytes_client_to_server / 1e6 / count:.3f}",
                f"{line.bytes_server_to_client / 1e6 / count:.3f}",
                f"{line.rounds / count:.0f}",
            )
            for line in lines
        ],
    )


def seen(session: Session) -> list[tuple[str, str, str]]:
    """What each party saw, by `SEEN_HEADER`. Sizes alone: nobody sees more of the other's secrets (SECURITY.md)."""
    tokens, offer = session.tokens, session.offer
    lengths = ", ".join(str(answer.tokens[0].step.length) for answer in session.answers if answer.tokens)
    runs = session.runs
    spent = total([session.set_up, *(cost for _, cost in session.again), *(run.cost for run in runs)])
    outputs = sum(step.outputs for run in runs for step in run.steps)
    learnt = outputs * max((len(token.revealed) for token in tokens), default=0)
    values = "logits" if offer.revealed.values else "ids, without their logits"
    up, down = spent.bytes_client_to_server, spent.bytes_server_to_client
    at_server, at_client = ("?" if n is None else f"{n / 1e6:.2f} MB, masked or encrypted" for n in (up, down))
    return [
        ("text", f"{len(session.answers)} prompts of {lengths} new tokens", "all of it"),
        (
            "answers",
            f"{outputs} outputs in {len(session.runs)} steps, when, and which together",
            f"{len(tokens)} tokens",
        ),
        ("outputs", "nothing", f"{learnt} {values} in {outputs} outputs"),
        ("model", "all of it", f"{offer.notation}, context {offer.context}, vocabulary {offer.vocab_size}, shapes"),
        ("messages received", at_server, at_client),
    ]
