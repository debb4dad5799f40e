"""Sessions of several prompts: every byte and round as the engine counts them, and what a prompt's part of it is."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from aero.compiler.compiled import Compiled
from aero.compiler.quantize import quantize
from aero.cost.session import Guessing, estimate_session
from aero.engines.engine import PromptRun, RunCost
from aero.engines.planning import session_keys
from aero.engines.reveal import LOGITS, TOKEN, Reveal
from aero.engines.two_party.engine import TwoPartyEngine
from aero.graph import Program
from aero.graph.ring_plan import RingPlan
from aero.mpc.party import Role
from aero.wire.memory import channel_pair
from programs import RUNGS, random_ids, random_program

CONTEXT, LENGTH, NEW = 8, 3, 3
COUNTED = ("bytes_client_to_server", "bytes_server_to_client", "messages", "rounds")


def planned(length: int) -> tuple[Compiled, RingPlan]:
    full = random_program(length=length, layers=1, every_position=True)
    return Compiled(full), quantize(full, [random_ids(full, 1)]).plan


def sum_of(costs: list[RunCost], name: str) -> int:
    return sum(getattr(cost, name) for cost in costs)


def model(rung: str) -> tuple[Program, RingPlan, Compiled]:
    full = random_program(length=CONTEXT, layers=1, every_position=True, **RUNGS[rung])
    return full, quantize(full, [random_ids(full, seed) for seed in range(8)]).plan, Compiled(full)


def parties(
    full: Program, plan: RingPlan, programs: Compiled, reveal: Reveal = LOGITS
) -> tuple[list[TwoPartyEngine], Callable[[list[int], int, int], RunCost]]:
    """Engines, and what makes both read tokens of prompts after others, with an output for each that follows others."""
    engines = [TwoPartyEngine(p, c, plan) for p, c in zip(Role, channel_pair(timeout=240), strict=True)]
    for engine in engines:
        engine.reveal_only(reveal, full.graph.shapes[full.graph.output][1])

    def run(numbers: list[int], past: int, length: int) -> RunCost:
        program = programs.decode(past, length, length) if past else programs.prefill(length, leave_state=True)
        ids = [random_ids(full, number)[past : past + length] for number in numbers]
        blind = [PromptRun(program.graph, prompt=number) for number in numbers]
        asked = [PromptRun(program.graph, mine, number) for number, mine in zip(numbers, ids, strict=True)]
        held = [PromptRun(program.graph, None, number, program.weights) for number in numbers]
        for jobs in (
            (lambda e: e.prepare_batch(blind), lambda e: e.prepare_batch(held)),
            (lambda e: e.run_batch(asked), lambda e: e.run_batch(held)),
        ):
            with ThreadPoolExecutor(2) as pool:
                for future in [pool.submit(job, engine) for job, engine in zip(jobs, engines, strict=True)]:
                    future.result(240)
        return engines[0].cost

    return engines, run


@pytest.mark.parametrize(
    ("rung", "prompts", "reveal", "whole_key"),
    [
        ("softmax-only", 1, LOGITS, 1.0),
        ("layer norm, relu, scaled", 3, LOGITS, 1.0),
        ("softmax-only", 2, TOKEN, 1.0),
        ("softmax-only", 2, LOGITS, 4e-7),  # which two runs wear out
    ],
)
def test_a_session_sends_what_was_predicted(rung, prompts, reveal, whole_key, monkeypatch):
    monkeypatch.setattr(session_keys, "WHOLE_KEY", whole_key)
    full, plan, programs = model(rung)
    engines, run = parties(full, plan, programs, reveal)
    everyone = list(range(prompts))
    prefills = [run(everyone[start : start + 2], 0, LENGTH) for start in range(0, prompts, 2)]  # 8 tokens have room
    nexts = [run(everyone, past, 1) for past in range(LENGTH, LENGTH + NEW - 1)]

    found = estimate_session(programs, prompts, LENGTH, NEW, plan, reveal)
    set_up, prefill, following = found.works
    assert (prefill.runs, following.runs, following.tokens) == (len(prefills), NEW - 1, prompts * (NEW - 1))
    for work, measured in ((set_up, [engines[0].set_up_cost]), (prefill, prefills), (following, nexts)):
        for name in COUNTED:
            assert getattr(work.cost, name) == sum_of(measured, name), (work.name, name)
    whole = found.whole
    assert whole.tokens == prompts * NEW and whole.runs == len(prefills) + len(nexts)
    assert whole.per_prompt.bytes_both_ways == pytest.approx(whole.cost.bytes_both_ways / prompts)
    assert whole.per_token.rounds == pytest.approx(whole.cost.rounds / (prompts * NEW))


@pytest.mark.parametrize(
    ("acceptance", "steady", "runs"),
    [
        (1.0, False, [(3, 3), (6, 2)]),
        (0.0, False, [(3, 3), (4, 3), (5, 3), (6, 2), (7, 1)]),
        (1.0, True, [(3, 3), (4, 3), (5, 3)]),
        (0.0, True, [(3, 3), (4, 3), (5, 3), (6, 2), (7, 1)]),
    ],
)
def test_a_session_with_guesses_sends_what_was_predicted(acceptance, steady, runs):
    """Where all hold, each run reads where the last one ended; where none does, one token later, and the rest is taken
    back; none is guessed that could not be used. Steady runs settle one token each, and end where all are known."""
    full, plan, programs = model("softmax-only")
    engines, run = parties(full, plan, programs)
    costs = [run([0], 0, LENGTH)]
    for past, length in runs:
        for engine in engines:
            engine.cut(0, past)
        costs.append(run([0], past, length))
    found = estimate_session(programs, 1, LENGTH, 6, plan, guessing=Guessing(2, acceptance, steady))
    _, prefill, following = found.works
    assert (following.runs, following.tokens) == (len(runs), 5)
    for name in COUNTED:
        assert getattr(prefill.cost, name) == getattr(costs[0], name)
        assert getattr(following.cost, name) == sum_of(costs[1:], name), name
    data = found.to_json()
    assert (data["guesses"], data["acceptance"], data["tokens_a_run"]) == (
        2,
        acceptance,
        1 if steady else 1 + 2 * acceptance,
    )


def test_as_many_tokens_come_of_a_run_as_were_drawn():
    """Against runs that are drawn, of an answer of 30 tokens, each guess held with probability 0.7."""
    random, guessing, drawn = np.random.default_rng(3), Guessing(4, 0.7), []
    for _ in range(4000):
        known, runs = 1, 0
        while known < 30:
            guesses = min(4, 30 - known - 1)
            misses = np.flatnonzero(random.random(guesses) >= 0.7)
            known += 1 + int(misses[0] if len(misses) else guesses)
            runs += 1
        drawn.append(runs)
    steps = guessing.steps(30)
    expected = sum(often for _, _, often in steps)
    assert abs(np.mean(drawn) - expected) < 4 * np.std(drawn) / len(drawn) ** 0.5
    assert guessing.tokens_a_run == pytest.approx((1 - 0.7**5) / 0.3) and 29 / expected < guessing.tokens_a_run
    assert all(guesses == min(4, 29 - known) for known, guesses, _ in steps)


def test_steady_runs_end_as_drawn_ones_do():
    """Each reads four tokens beyond the settled ones; those that are known by then are no guesses."""
    random, guessing, drawn = np.random.default_rng(4), Guessing(4, 0.6, steady=True), []
    for _ in range(4000):
        known, runs = 1, 0
        while known < 12:
            runs += 1
            misses = np.flatnonzero(random.random(4 + runs - known) >= 0.6)
            known += 1 + int(misses[0] if len(misses) else 4 + runs - known)
        drawn.append(runs)
    steps = guessing.steps(12)
    expected = sum(often for _, _, often in steps)
    assert abs(np.mean(drawn) - expected) < 4 * np.std(drawn) / len(drawn) ** 0.5
    assert min(drawn) >= 11 - 4 and [settled for settled, _, _ in steps] == list(range(1, 12))
    assert all(more == 4 for _, more, _ in steps)


def test_guesses_are_a_number_and_a_part():
    for guesses, acceptance in ((0, 0.5), (2, 1.5), (2, -0.1), (2, float("nan"))):
        with pytest.raises(ValueError, match="at least one, and a part"):
            Guessing(guesses, acceptance)
    programs, plan = planned(8)
    with pytest.raises(ValueError, match="for one prompt, not 2"):
        estimate_session(programs, 2, 2, 3, plan, guessing=Guessing(2, 0.5))


def test_prompts_together_take_fewer_bytes_and_rounds_each():
    programs, plan = planned(64)
    one, four = (estimate_session(programs, n, 8, 4, plan) for n in (1, 4))
    assert four.whole.per_token.bytes_both_ways < one.whole.per_token.bytes_both_ways
    assert four.whole.per_token.rounds < 0.3 * one.whole.per_token.rounds
    data = four.to_json()
    assert [work["work"] for work in data["works"]] == ["set-up", "prefill", "next-token", "session"]
    assert data["works"][0]["per_token"] is None
    total = sum(work["together"]["bytes_both_ways"] for work in data["works"][:3])
    assert data["works"][3]["together"]["bytes_both_ways"] == total


def test_a_single_token_needs_no_second_run():
    programs, plan = planned(8)
    found = estimate_session(programs, 2, 8, 1, plan)
    assert [work.name for work in found.works] == ["set-up", "prefill"] and found.works[1].runs == 2


@pytest.mark.parametrize(("prompts", "length", "new"), [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 8, 2)])
def test_what_does_not_fit_is_refused(prompts, length, new):
    programs, plan = planned(8)
    with pytest.raises(ValueError, match=r"give at least one|context of 8"):
        estimate_session(programs, prompts, length, new, plan)
