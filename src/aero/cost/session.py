"""What prompts that are continued together in one session cost, by our own engine: as a run of each batch declares it.

    set-up        keys, base OTs, and that both parties run the same
    prefill       the prompts, as many at once as the context has room for; each gets its first token
    next-token    the tokens after it, one of each prompt in a run, or with guesses several (`Guessing`)

OTs that one run leaves serve the next, and what makes them is counted where it is sent. Requests and the structure of
each graph, some kilobytes, are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aero.cost.algebra import Price, total
from aero.cost.estimate import cost_json
from aero.cost.machine import Computer
from aero.cost.two_party import run_cost, set_up_price
from aero.engines.planning.declared import DeclaredRun, DeclaredSession
from aero.engines.reveal import LOGITS, Reveal
from aero.graph import Programs
from aero.graph.ring_plan import RingPlan
from aero.wire.network import Network


@dataclass(frozen=True)
class Guessing:
    """Each run reads up to `guesses` guessed tokens beyond those that are known, of which each holds with the
    probability `acceptance` where those before it do (the model of Leviathan et al. 2023, section 3.1).
    steady: each run reads exactly `guesses` tokens beyond the first, and settles one (`aero.serve.client`): those that
    held are read again by the runs after it.
    ValueError for less than one, and for no probability."""

    guesses: int
    acceptance: float
    steady: bool = False

    def __post_init__(self) -> None:
        if self.guesses < 1 or not 0 <= self.acceptance <= 1:
            raise ValueError(
                f"{self.guesses} guesses of which a part of {self.acceptance:g} holds; give at least one, and a part "
                "of 0 to 1"
            )

    @property
    def tokens_a_run(self) -> float:
        """On average, the one that follows any guess included. Of steady runs, in a long answer, the settled one."""
        return 1.0 if self.steady else sum(self.acceptance**held for held in range(self.guesses + 1))

    def steps(self, new_tokens: int) -> list[tuple[int, int, float]]:
        """How an answer goes on after its first token: how many tokens there are before a run (of steady ones, as the
        server knows), how many are read in it beyond the next one (no more than can be used, unless steady), and how
        many such runs there are on average; those that there may be."""
        if self.steady:
            return self._steady_steps(new_tokens)
        often = [0.0, 1.0, *[0.0] * (new_tokens - 1)]
        found = []
        for known in range(1, new_tokens):
            guesses = min(self.guesses, new_tokens - known - 1)
            if often[known]:
                found.append((known, guesses, often[known]))
            for held in range(guesses + 1):
                ends = 1.0 if held == guesses else 1 - self.acceptance
                often[known + held + 1] += often[known] * self.acceptance**held * ends
        return found

    def _steady_steps(self, new_tokens: int) -> list[tuple[int, int, float]]:
        """Of the tokens that are read again, none is guessed: run k guesses k + `guesses` less those that are known."""
        known, found = {1: 1.0}, []
        for settled in range(1, new_tokens):
            found.append((settled, self.guesses, sum(known.values())))
            after: dict[int, float] = {}
            for before, often in known.items():
                guesses = settled + self.guesses - before
                for held in range(guesses + 1):
                    ends = 1.0 if held == guesses else 1 - self.acceptance
                    after[before + held + 1] = after.get(before + held + 1, 0.0) + often * self.acceptance**held * ends
            known = {count: often for count, often in after.items() if count < new_tokens and often}
            if not known:
                break
        return found


@dataclass(frozen=True)
class SessionPart:
    """Runs of one kind, all of the session's. tokens: that they give, of all prompts; cost: of all of them.
    With guesses runs and costs are means."""

    name: str
    runs: float
    prompts: int
    tokens: int
    cost: Price

    @property
    def per_prompt(self) -> Price:
        return self.cost * (1 / self.prompts)

    @property
    def per_token(self) -> Price | None:
        return self.cost * (1 / self.tokens) if self.tokens else None


@dataclass(frozen=True)
class SessionEstimate:
    """prompts: N; length: tokens of each; new_tokens: that each gets. works: set-up, prefill, next-token, in order.
    guessing: what is guessed of them."""

    prompts: int
    length: int
    new_tokens: int
    works: tuple[SessionPart, ...]
    guessing: Guessing | None = None

    @property
    def whole(self) -> SessionPart:
        runs, tokens = sum(work.runs for work in self.works), self.prompts * self.new_tokens
        return SessionPart("session", runs, self.prompts, tokens, total(work.cost for work in self.works))

    def to_json(self, networks: Iterable[Network] = ()) -> dict[str, Any]:
        """Plain data: for each work, its runs and tokens, and `together`, `per_prompt` and `per_token` as costs."""
        networks = list(networks)
        return {
            "prompts": self.prompts,
            "length": self.length,
            "new_tokens": self.new_tokens,
            **({} if self.guessing is None else vars(self.guessing) | {"tokens_a_run": self.guessing.tokens_a_run}),
            "works": [
                {
                    "work": work.name,
                    "runs": work.runs,
                    "tokens": work.tokens,
                    "together": cost_json(work.cost, networks),
                    "per_prompt": cost_json(work.per_prompt, networks),
                    "per_token": None if work.per_token is None else cost_json(work.per_token, networks),
                }
                for work in (*self.works, self.whole)
            ],
        }


def estimate_session(
    programs: Programs,
    prompts: int,
    length: int,
    new_tokens: int,
    plan: RingPlan,
    reveal: Reveal = LOGITS,
    on: Computer | None = None,
    guessing: Guessing | None = None,
) -> SessionEstimate:
    """`prompts` prompts of `length` tokens that get `new_tokens` each. on: what computing takes; not known without.
    guessing: of one prompt; costs are then means.

    ValueError for what does not fit the context, for guesses of several prompts, and for an operation without a
    protocol.
    """
    if guessing is not None and prompts != 1:
        raise ValueError(f"guesses are priced for one prompt, not {prompts}")
    if min(prompts, length, new_tokens) < 1:
        raise ValueError(f"{prompts} prompts of {length} tokens that get {new_tokens}: give at least one of each")
    if length + new_tokens - 1 > programs.context:
        raise ValueError(
            f"a prompt of {length} tokens and {new_tokens} new ones do not fit the model's context of "
            f"{programs.context}; give fewer with --context or --max-new-tokens"
        )
    first = programs.prefill(length, leave_state=True).graph
    steps = [(known, 0, 1.0) for known in range(1, new_tokens)] if guessing is None else guessing.steps(new_tokens)
    following = []
    for known, more, _ in steps:
        past = length + known - 1
        rows = min(1 + more, programs.context - past)  # steady runs end with the context
        following.append(programs.decode(past, rows, rows).graph)
    often = [times for _, _, times in steps]
    session = DeclaredSession(plan, reveal)
    at_once = max(1, programs.context // length)
    prefills = [session.run([first] * min(at_once, prompts - start)) for start in range(0, prompts, at_once)]
    nexts = [session.run([graph] * prompts) for graph in following]
    always = [1.0] * len(prefills)
    set_up = _mean([set_up_price(run, on) for run in (*prefills, *nexts)], [*always, *often])
    works = [SessionPart("set-up", 0, prompts, 0, set_up), _work("prefill", prefills, always, prompts, prompts, on)]
    if nexts:
        works.append(_work("next-token", nexts, often, prompts, prompts * (new_tokens - 1), on))
    return SessionEstimate(prompts, length, new_tokens, tuple(works), guessing)


def _work(
    name: str, runs: Sequence[DeclaredRun], often: Sequence[float], prompts: int, tokens: int, on: Computer | None
) -> SessionPart:
    cost = _mean([run_cost(run, on) for run in runs], often)
    return SessionPart(name, sum(often), prompts, tokens, cost)


def _mean(costs: Sequence[Price], often: Sequence[float]) -> Price:
    """Of all, each so many times."""
    return total(cost if times == 1 else cost * times for cost, times in zip(costs, often, strict=True))
