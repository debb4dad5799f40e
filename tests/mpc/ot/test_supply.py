"""The supply between two parties: random OTs are right, cost what is declared, and are never used twice."""

import copy
import os
import pickle

import numpy as np
import pytest

from aero.kernels import ot as kernels
from aero.mpc.cost import ProtocolCost
from aero.mpc.ot import ferret, softspoken
from aero.mpc.ot.supply import SupplyModel, set_up_cost, set_up_ots
from aero.mpc.party import Party, Role
from aero.mpc.protocols.compare import less_than
from aero.mpc.protocols.multiply import look_up
from aero.mpc.share import Share
from aero.wire import ProtocolError, Traffic, WireError
from aero.wire.memory import channel_pair
from mpc.parties import Run, run_both

EXTENSIONS = ("ferret", "softspoken")
extensions = pytest.mark.parametrize("extension", EXTENSIONS)


def draw(party: Party, from_client: int, from_server: int):
    """(sent, received) of this party."""
    if party.is_client:
        return party.ots.send(from_client), party.ots.receive(from_server)
    received = party.ots.receive(from_client)
    return party.ots.send(from_server), received


def matched(run: Run, pick=lambda result: result):
    """For each direction: the sender's blocks, the receiver's bits, the receiver's blocks."""
    client, server = (pick(result) for result in run.results)
    return [(client[0], *server[1]), (server[0], *client[1])]


def assert_random_ots(sent: np.ndarray, bits: np.ndarray, received: np.ndarray) -> None:
    every = np.arange(len(bits))
    np.testing.assert_array_equal(sent[every, bits], received)
    assert not np.any(np.all(sent[every, 1 - bits] == received, axis=1))
    assert set(np.unique(bits)) <= {0, 1}


def assert_cost(traffic: Traffic, role: Role, cost: ProtocolCost) -> None:
    counted = (traffic.bytes_sent, traffic.bytes_received, traffic.messages, traffic.rounds)
    assert counted == (cost.bytes_sent(role), cost.bytes_sent(role.other), cost.messages, cost.rounds)
    assert (cost.ots_from_client, cost.ots_from_server) == (0, 0)


@extensions
def test_random_ots_and_their_cost(extension):
    unit = {"ferret": ferret.UNIT, "softspoken": softspoken.UNIT}[extension]
    reserved = [(1000, 0), (1000, 50), (unit, 2 * unit), (unit + 5, 3), (1, 1)]
    used = [(1000, 0), (10, 50), (40, 60), (0, 0), (1, 1)]

    def program(party: Party):
        set_up_ots(party, extension)
        drawn, traffics = [], [party.channel.traffic]
        for (a, b), counts in zip(reserved, used, strict=True):
            party.ots.reserve(*(a, b) if party.is_client else (b, a))
            traffics.append(party.channel.traffic)
            while party.is_client and party.ots.work_ahead():  # as a party that waits does
                pass
            drawn.append(draw(party, *counts))
            assert party.channel.traffic == traffics[-1]  # what is reserved takes no message
        return drawn, traffics

    run = run_both(program)
    for i in range(len(used)):
        for sent, bits, received in matched(run, lambda result, i=i: result[0][i]):
            assert_random_ots(sent, bits, received)
    model = SupplyModel(extension)
    for role in Role:
        traffics = run.results[role][1]
        assert_cost(traffics[0], role, set_up_cost(extension))
        assert list(traffics[0].by_op) == ["ots"]
    for i, (counts, taken) in enumerate(zip(reserved, used, strict=True)):
        cost = model.reserve(*counts)
        model.use(*taken)
        for role in Role:
            traffics = run.results[role][1]
            assert_cost(traffics[i + 1] - traffics[i], role, cost)
        assert cost.rounds <= {"ferret": 3, "softspoken": 1}[extension]  # both directions at once


@extensions
def test_drawing_refills_when_short(extension):
    def program(party: Party):
        set_up_ots(party, extension)
        return draw(party, 300, 5)

    for sent, bits, received in matched(run_both(program)):
        assert_random_ots(sent, bits, received)
        assert len(bits) < 50 or 0.3 < bits.mean() < 0.7


@extensions
def test_several_draws_at_once_are_the_draws_in_turn(extension):
    """The one party draws for each count, the other for all."""
    counts = [3, 0, 2500, 1]

    def program(party: Party):
        set_up_ots(party, extension)
        if party.is_client:
            received = [party.ots.receive(count) for count in counts]
            return party.ots.send_several(counts), tuple(map(np.concatenate, zip(*received, strict=True)))
        sent = np.concatenate([party.ots.send(count) for count in counts])
        return sent, party.ots.receive_several(counts)

    for sent, bits, received in matched(run_both(program)):
        assert_random_ots(sent, bits, received)


def test_nothing_comes_twice():
    def program(party: Party):
        set_up_ots(party)
        return [draw(party, 500, 500) for _ in range(3)]

    run = run_both(program)
    blocks = np.concatenate([part[0].reshape(-1, 16) for result in run.results for part in result])
    assert len(np.unique(blocks, axis=0)) == len(blocks) == 2 * 3 * 1000


def test_numbers_of_ots_count_up_and_never_repeat(monkeypatch):
    """(session, domain, number) of every hash: the tweak and its key."""
    seen: list[tuple[bytes, int, int]] = []
    original = kernels.sender_pads

    def recording(session, domain, first, delta, k, out):
        seen.extend((session, domain, first + i) for i in range(len(k)))
        return original(session, domain, first, delta, k, out)

    monkeypatch.setattr("aero.mpc.ot.supply.sender_pads", recording)

    def program(party: Party):
        for _ in range(2):
            set_up_ots(party, "softspoken")
            for count in (3, 0, 70_000, 1):  # the third is hashed in pieces
                draw(party, count, count + 1)

    run_both(program)
    assert len(set(seen)) == len(seen) == 2 * (70_004 + 70_008)
    for session in {entry[0] for entry in seen}:
        for role, count in ((Role.CLIENT, 70_004), (Role.SERVER, 70_008)):
            assert [n for s, domain, n in seen if s == session and domain == role] == list(range(count))


def test_every_supply_has_two_fresh_differences():
    def program(party: Party):
        deltas = []
        for _ in range(2):
            set_up_ots(party, "softspoken")
            deltas.append(party.ots._delta.tobytes())
        return deltas

    deltas = [delta for result in run_both(program).results for delta in result]
    assert len(set(deltas)) == 4
    assert all(delta[0] & 1 for delta in deltas)


# Every way to use an OT again


def with_supply(check, extension="softspoken"):
    """Run check(party) on the client, after both have set up and the client has drawn once."""

    def program(party: Party):
        set_up_ots(party, extension)
        draw(party, 10, 10)
        return check(party) if party.is_client else None

    return run_both(program).results[0]


def test_a_supply_cannot_be_copied_or_pickled():
    def check(party: Party):
        for copy_of in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="used twice"):
                copy_of(party.ots)

    with_supply(check)


def test_a_supply_is_refused_in_a_forked_process():
    def check(party: Party):
        tries = (lambda: party.ots.send(1), lambda: party.ots.receive(1), lambda: party.ots.reserve(1, 1))
        child = os.fork()
        if child == 0:
            refused = 0
            for attempt in tries:
                try:
                    attempt()
                except RuntimeError as error:
                    refused += "fork" in str(error)
            os._exit(0 if refused == len(tries) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        party.ots.send(1)  # the parent goes on

    with_supply(check)


def test_a_supply_is_refused_after_its_channel_ended():
    def check(party: Party):
        party.channel.close()
        for attempt in (lambda: party.ots.send(1), lambda: party.ots.receive(1), lambda: party.ots.reserve(1, 1)):
            with pytest.raises(RuntimeError, match="channel"):
                attempt()

    with_supply(check)


def test_a_supply_belongs_to_one_channel():
    def check(party: Party):
        with pytest.raises(ValueError, match="another channel"):
            Party(Role.CLIENT, channel_pair()[0]).ots = party.ots

    with_supply(check)


def test_a_supply_is_refused_after_a_failed_refill(monkeypatch):
    def check(party: Party):
        ots = party.ots
        with monkeypatch.context() as patch:
            patch.setattr(ots._ends[Role.SERVER], "speak", lambda units: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                ots.receive(10**6)
        for attempt in (lambda: ots.send(1), lambda: ots.receive(1), lambda: ots.reserve(0, 0)):
            with pytest.raises(RuntimeError, match="failed"):
                attempt()

    with_supply(check)


def test_a_supply_is_refused_after_an_interrupted_draw(monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    def check(party: Party):
        with monkeypatch.context() as patch:
            patch.setattr("aero.mpc.ot.supply.sender_pads", interrupted)
            with pytest.raises(KeyboardInterrupt):
                party.ots.send(1)
        with pytest.raises(RuntimeError, match="failed"):
            party.ots.send(1)

    with_supply(check)


# The other party's mistakes


def failures(program) -> list[BaseException]:
    run = Run(program)
    return [failure for failure in run.failures if failure is not None]


@extensions
def test_parties_that_used_different_numbers_find_out(extension):
    def program(party: Party):
        set_up_ots(party, extension)
        party.ots.reserve(100, 100)
        party.ots.send(10)
        party.ots.receive(10 if party.is_client else 11)
        party.ots.reserve(10**7 // 2, 10**7 // 2)

    found = failures(program)
    assert any(isinstance(error, ProtocolError) for error in found)
    assert all(isinstance(error, WireError) for error in found)


@extensions
def test_parties_that_reserve_different_numbers_find_out(extension):
    def program(party: Party):
        set_up_ots(party, extension)
        count = 10**7 if party.is_client else 10**6
        party.ots.reserve(count, count)

    found = failures(program)
    assert any(isinstance(error, ProtocolError) for error in found)


def test_parties_with_different_extensions_find_out():
    found = failures(lambda party: set_up_ots(party, EXTENSIONS[party.role]))
    assert any(isinstance(error, ProtocolError) for error in found)


def test_bad_points_are_refused_in_the_set_up():
    def program(party: Party):
        if party.is_client:
            return set_up_ots(party)
        sizes = ((32, np.uint8), (128 * 2 * 32, np.uint8))
        party.channel.send(*(np.full(size, 2, np.uint8) for size, _ in sizes))
        return party.channel.recv_many(*sizes)

    assert any(isinstance(error, ProtocolError) for error in failures(program))


def test_wrong_numbers_and_names_are_refused():
    def check(party: Party):
        for attempt in (lambda: party.ots.send(-1), lambda: party.ots.receive(-1), lambda: party.ots.reserve(-1, 3)):
            with pytest.raises(ValueError, match="not negative"):
                attempt()
        with pytest.raises(ValueError, match="softspoken"):
            set_up_ots(party, "iknp")
        return len(party.ots.send(1))

    assert with_supply(check) == 1
    with pytest.raises(ValueError, match="reserve"):
        SupplyModel().use(1, 0)


def test_protocols_make_the_ots_that_nobody_reserved():
    """Also those in which one party sends before the other draws: neither may wait for the other for ever."""
    table = np.arange(4, dtype=np.uint64)[:, None]

    def program(party: Party):
        set_up_ots(party, "softspoken")
        numbers = np.arange(9, dtype=np.uint64) if party.is_client else np.full(9, 4, np.uint64)
        less = less_than(party, numbers, 6)
        [found] = look_up(party, Share(np.full(3, party.role, np.uint64), 2), table, (5,))
        return less, found.values

    (less, found), (other_less, other_found) = run_both(program).results
    np.testing.assert_array_equal(less ^ other_less, np.arange(9) < 4)
    np.testing.assert_array_equal((found + other_found) % 32, [1, 1, 1])
