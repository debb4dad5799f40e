"""Private budgets: what they say, what they allow, and that models are priced as sessions are."""

from __future__ import annotations

import pytest

from aero.compiler.architecture import outline
from aero.cost.budget import Budget, Cost, Deployment, PrivateCost
from aero.cost.estimate import seconds_on
from aero.cost.machine import Computer, load_machine
from aero.cost.session import estimate_session
from aero.models.notation import parse
from aero.models.presets import Size
from aero.wire.network import WAN

ON = Computer(load_machine("portable"))


@pytest.mark.parametrize(
    ("text", "budget", "named"),
    [
        ("3MB", Budget(3e6, "bytes", "token"), "3 MB a token"),
        ("2s", Budget(2, "seconds", "token"), "2 s a token"),
        ("1.5 GB/prompt", Budget(1.5e9, "bytes", "prompt"), "1500 MB a prompt"),
        ("250ms/token", Budget(0.25, "seconds", "token"), "0.25 s a token"),
        ("500kb", Budget(5e5, "bytes", "token"), "0.5 MB a token"),
    ],
)
def test_a_budget_says_what_it_is(text: str, budget: Budget, named: str) -> None:
    assert Budget.parse(text) == budget
    assert str(budget) == named


@pytest.mark.parametrize("text", ["3", "MB", "3mbit", "-3MB", "3MB/answer", "3MB/", "nan s", ""])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unknown budget .* give bytes or seconds of a token or a prompt"):
        Budget.parse(text)


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="give more than nothing"):
        Budget.parse("0MB")


def test_a_budget_bounds_its_own_work_and_unit() -> None:
    cost = PrivateCost(token=Cost(2e6, 90, 4.0), prompt=Cost(5e6, 100, 6.0))
    allowed = {"2MB": True, "1.9MB": False, "4s": True, "3s": False, "5MB/prompt": True, "4MB/prompt": False}
    assert {text: Budget.parse(text).allows(cost) for text in allowed} == allowed


def test_the_cost_is_that_of_a_session_that_fills_the_context() -> None:
    size = Size(300, context=16, num_layers=2, num_heads=2, hidden_size=16)
    found = outline(parse("SM+FLN+R"), size)
    cost = Deployment(WAN, ON).cost(found.programs, found.plan)
    session = estimate_session(found.programs, 1, 9, 8, found.plan, on=ON)
    _, prefill, following = session.works
    assert following.tokens == 7
    for work, price in ((cost.token, following.cost * (1 / 7)), (cost.prompt, prefill.cost)):
        assert work.bytes == pytest.approx(price.bytes_both_ways, rel=1e-12)
        assert work.rounds == pytest.approx(price.rounds, rel=1e-12)
        assert work.seconds == pytest.approx(seconds_on(WAN, price).total, rel=1e-12)
    short = outline(parse("SM"), Size(300, context=1, num_layers=1, num_heads=1, hidden_size=4))
    with pytest.raises(ValueError, match="choose a longer context"):
        Deployment(WAN, ON).cost(short.programs, short.plan)
