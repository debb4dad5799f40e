"""Costs add up, unknown stays unknown, and formulas are affine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.cost.algebra import COMPONENTS, NOTHING, Declaration, Formula, Price, total
from aero.mpc.cost import message
from aero.mpc.party import Role

numbers = st.integers(0, 1 << 22)  # products and sums stay exact in float64
maybe = st.none() | numbers
costs = st.builds(Price, *[maybe] * len(COMPONENTS))
terms = st.dictionaries(st.sampled_from(["calls", "inputs", "outputs", "rows"]), numbers)
counts = st.fixed_dictionaries(dict.fromkeys(["calls", "inputs", "outputs", "rows"], numbers))


@given(costs, costs, costs)
def test_sums_do_not_depend_on_order_or_grouping(a, b, c):
    assert a + b == b + a
    assert (a + b) + c == a + (b + c) == total([a, b, c])
    assert a + NOTHING == a


@given(costs, costs)
def test_unknown_stays_unknown(a, b):
    for name in COMPONENTS:
        unknown = getattr(a, name) is None or getattr(b, name) is None
        assert (getattr(a + b, name) is None) == unknown


@given(costs, costs)
def test_at_the_same_time_only_rounds_overlap(a, b):
    both, after = a | b, a + b
    for name in COMPONENTS:
        if name != "rounds":
            assert getattr(both, name) == getattr(after, name)
    if after.rounds is not None:
        assert both.rounds == max(a.rounds, b.rounds)


@given(terms, terms, counts, st.integers(1, 1000))
def test_formulas_are_linear(a, b, at, factor):
    f, g = Formula(a), Formula(b)
    assert (f + g).at(at) == f.at(at) + g.at(at)
    assert (f * factor).at(at) == pytest.approx(factor * f.at(at), rel=1e-12)


@given(st.dictionaries(st.sampled_from(COMPONENTS), terms))
def test_declarations_survive_json(data):
    declaration = Declaration.from_json(data)
    assert Declaration.from_json(declaration.to_json()) == declaration


def test_both_ways_is_the_sum_of_the_directions():
    assert Price(3, 4).bytes_both_ways == 7
    assert Price(bytes_both_ways=7).bytes_client_to_server is None


def test_a_formula_reads_as_one():
    assert str(Formula({"calls": 12_000, "outputs": 90.5})) == "1.2e+04 + 90.5 outputs"
    assert str(Formula({"rows": 0})) == "0"


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="positive"):
        Formula({"outputs": -1.0})
    with pytest.raises(ValueError, match="positive"):
        Formula({"outputs": float("nan")})
    with pytest.raises(ValueError, match="not negative"):
        Price(rounds=-1)
    with pytest.raises(ValueError, match="no cost components"):
        Declaration({"bits": Formula({})})
    with pytest.raises(ValueError, match="needs \\['live'\\]"):
        Formula({"live": 1.0}).at({"calls": 1})


def test_what_our_protocols_declare_adds_up_alike():
    upload, answer = message(Role.CLIENT, 100), message(Role.SERVER, 20)
    for combined, cost in (
        (upload + answer, Price.of_protocol(upload) + Price.of_protocol(answer)),
        (upload | answer, Price.of_protocol(upload) | Price.of_protocol(answer)),
    ):
        assert Price.of_protocol(combined) == cost
