"""What prompts that are continued together in one session cost, by our own engine: as a run of each batch declares it.

    set-up        keys, base OTs, and that both parties run the same
    prefill       the prompts, as many at once as the context has room for; each gets its first token
    next-token    the tokens after it, one of each prompt in a run

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
from aero.cost.two_party import run_cost, set_up_price, typical_plan
from aero.engines.planning.declared import DeclaredRun, DeclaredSession
from aero.engines.reveal import LOGITS, Reveal
from aero.graph import Graph, Programs
from aero.graph.ring_plan import RingPlan
from aero.wire.network import Network


@dataclass(frozen=True)
class SessionPart:
    """Runs of one kind, all of the session's. tokens: that they give, of all prompts; cost: of all of them."""

    name: str
    runs: int
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
    """prompts: N; length: tokens of each; new_tokens: that each gets. works: set-up, prefill, next-token, in order."""

    prompts: int
    length: int
    new_tokens: int
    works: tuple[SessionPart, ...]

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
    plan: RingPlan | None = None,
    reveal: Reveal = LOGITS,
    on: Computer | None = None,
) -> SessionEstimate:
    """`prompts` prompts of `length` tokens that get `new_tokens` each. plan: by default `typical_plan` of each program.
    on: what computing takes; not known without.

    ValueError for what does not fit the context, and for an operation without a protocol.
    """
    if min(prompts, length, new_tokens) < 1:
        raise ValueError(f"{prompts} prompts of {length} tokens that get {new_tokens}: give at least one of each")
    if length + new_tokens - 1 > programs.context:
        raise ValueError(
            f"a prompt of {length} tokens and {new_tokens} new ones do not fit the model's context of "
            f"{programs.context}; give fewer with --context or --max-new-tokens"
        )
    first = programs.prefill(length, leave_state=True).graph
    following = [programs.decode(past).graph for past in range(length, length + new_tokens - 1)]
    session = DeclaredSession(typical_plan_of([first, *following]) if plan is None else plan, reveal)
    at_once = max(1, programs.context // length)
    prefills = [session.run([first] * min(at_once, prompts - start)) for start in range(0, prompts, at_once)]
    nexts = [session.run([graph] * prompts) for graph in following]
    set_up = total(set_up_price(run, on) for run in (*prefills, *nexts))
    works = [SessionPart("set-up", 0, prompts, 0, set_up), _work("prefill", prefills, prompts, prompts, on)]
    if nexts:
        works.append(_work("next-token", nexts, prompts, prompts * len(nexts), on))
    return SessionEstimate(prompts, length, new_tokens, tuple(works))


def _work(name: str, runs: Sequence[DeclaredRun], prompts: int, tokens: int, on: Computer | None) -> SessionPart:
    return SessionPart(name, len(runs), prompts, tokens, total(run_cost(run, on) for run in runs))


def typical_plan_of(graphs: Sequence[Graph]) -> RingPlan:
    """`typical_plan` of programs of one model."""
    plans = [typical_plan(graph) for graph in graphs]
    values = {name: fmt for plan in plans for name, fmt in plan.values.items()}
    return RingPlan(values, {name: fmt for plan in plans for name, fmt in plan.weights.items()}, {})
