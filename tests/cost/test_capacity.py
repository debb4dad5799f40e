"""Capacities: bounds worked out by hand, and the exact throughput of the same queueing network, which stays below."""

import pytest

from aero.compiler.compiled import Compiled
from aero.compiler.quantize import quantize
from aero.cost.algebra import Price
from aero.cost.capacity import Processor, capacities, capacity
from aero.cost.session import estimate_session
from aero.wire.network import LOOPBACK, WAN
from programs import random_ids, random_program

COST = Price(1e6, 0.5e6, rounds=100)  # on the wan: 80 ms and 40 ms of the line, 4 s of waiting
TAKEN = Processor(client=0.1, server=0.3)
ALONE = 0.08 + 0.04 + 4 + 0.1 + 0.3


def test_bounds_by_hand():
    few = capacity("next-token", 1, COST, WAN, 10, 2, TAKEN)
    assert few.alone == pytest.approx(ALONE)
    assert few.bounds == pytest.approx(
        {"processors": 2 / 0.3, "client-to-server": 12.5, "server-to-client": 25, "clients": 10 / ALONE}
    )
    assert few.limit == "clients" and few.seconds_per_token == pytest.approx(ALONE)
    assert few.sessions == pytest.approx(2 / 0.3 * ALONE)  # 30.1
    many = capacity("next-token", 1, COST, WAN, 100, 2, TAKEN)
    assert many.limit == "processors" and many.seconds_per_token == pytest.approx(15)
    assert capacity("next-token", 1, COST, WAN, 100, 4, TAKEN).limit == "client-to-server"


def exact(clients, queued, delay):
    """Throughput of a closed network by mean value analysis (Reiser & Lavenberg 1980): one queue for each of `queued`
    seconds, served one at a time, and `delay` seconds that nobody else prolongs."""
    lengths, found = [0.0] * len(queued), 0.0
    for n in range(1, clients + 1):
        times = [seconds * (1 + length) for seconds, length in zip(queued, lengths, strict=True)]
        found = n / (delay + sum(times))
        lengths = [found * time for time in times]
    return found


@pytest.mark.parametrize("clients", [1, 2, 10, 1000])
def test_the_exact_throughput_of_one_core_is_no_higher(clients):
    queued = (TAKEN.server, 0.08, 0.04)
    throughput = exact(clients, queued, ALONE - sum(queued))
    bound = capacity("next-token", 1, COST, WAN, clients, 1, TAKEN).tokens_per_second
    assert 0.6 * bound < throughput <= bound * (1 + 1e-9)
    if clients in (1, 1000):  # nobody to wait for; and a core that is never idle
        assert throughput == pytest.approx(bound)


def test_what_is_not_known_bounds_nothing():
    loopback = capacity("next-token", 1, COST, LOOPBACK, 3)
    assert (loopback.bounds, loopback.limit, loopback.tokens_per_second, loopback.sessions) == ({}, None, None, None)
    assert capacity("next-token", 1, COST, LOOPBACK, 3, 2, TAKEN).bounds == pytest.approx(
        {"processors": 2 / 0.3, "clients": 3 / 0.4}
    )
    unmeasured = capacity("next-token", 1, COST, WAN, 3)
    assert "processors" not in unmeasured.bounds and unmeasured.alone == pytest.approx(4.12)


def test_an_answer_is_a_prompt_and_the_tokens_after_it():
    full = random_program(length=64, layers=1, every_position=True)
    session = estimate_session(Compiled(full), 1, 8, 4, quantize(full, [random_ids(full, 1)]).plan)
    measured = {"prefill": Processor(1.0, 2.0), "next-token": Processor(0.25, 0.5)}
    prefill, following, answer = capacities(session, WAN, 2, 1, measured)
    assert [one.work for one in (prefill, following, answer)] == ["prefill", "next-token", "answer"]
    assert answer.alone == pytest.approx(prefill.alone + 3 * following.alone)
    assert answer.bounds["processors"] == pytest.approx(4 / (2.0 + 3 * 0.5))
    sent = session.whole.cost.bytes_client_to_server - session.works[0].cost.bytes_client_to_server
    assert answer.bounds["client-to-server"] == pytest.approx(4 / (sent * 8 / 100e6))
    assert following.bounds["clients"] == pytest.approx(2 / following.alone)
    with pytest.raises(ValueError, match="of next-token were measured"):
        capacities(session, WAN, 2, 1, {"prefill": Processor(1.0, 2.0)})


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: Processor(0.1, 0.0), "above zero"),
        (lambda: Processor(float("nan"), 1.0), "above zero"),
        (lambda: capacity("answer", 1, COST, WAN, 0), "at least one"),
        (lambda: capacity("answer", 1, COST, WAN, 1, 0, TAKEN), "at least one"),
        (lambda: capacity("answer", 1, COST, WAN, 1, 2), "both or neither"),
        (lambda: capacity("answer", 1, Price(bytes_both_ways=5, rounds=1), WAN, 1), "each direction"),
        (lambda: capacity("answer", 1, Price(5, 5), WAN, 1), "rounds"),
    ],
)
def test_bad_input(work, message):
    with pytest.raises(ValueError, match=message):
        work()
