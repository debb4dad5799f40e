"""Correlated OTs: K ^ M = c Delta on every one, with K's lowest bit zero, for both extensions and at every level."""

import numpy as np
import pytest

from aero.kernels import native
from aero.kernels.prg import Prg
from aero.mpc.ot import ferret, softspoken
from aero.mpc.ot.correlated import CorrelatedOts, Queue
from aero.mpc.ot.ferret import FerretReceiver, FerretSender
from aero.mpc.ot.softspoken import SoftSpokenReceiver, SoftSpokenSender

levels = pytest.mark.parametrize("level", native.available_levels())
SESSION = bytes(range(16))


def stream(label: str) -> Prg:
    return Prg(bytes(16), label)


def difference(last: int = 0x80) -> np.ndarray:
    delta = np.frombuffer(stream("delta").random_bytes(16), np.uint8).copy()
    delta[0] |= 1
    delta[15] = last
    return delta


def dealt(delta: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """K and M, as a trusted party would deal them."""
    k = np.frombuffer(stream("k").random_bytes(16 * count), np.uint8).reshape(count, 16).copy()
    k[:, 0] &= 0xFE
    return k, k ^ delta * stream("c").bits(count)[:, None]


def soft_spoken(delta: np.ndarray) -> tuple[SoftSpokenSender, SoftSpokenReceiver]:
    both = np.frombuffer(stream("base").random_bytes(4096), np.uint8).reshape(128, 2, 16)
    receiver = SoftSpokenReceiver(both, stream("roots"))
    chosen = both[np.arange(128), softspoken.base_choices(delta)]
    return SoftSpokenSender(delta, chosen, receiver.opening), receiver


def silent(delta: np.ndarray) -> tuple[FerretSender, FerretReceiver]:
    k, m = dealt(delta, ferret.SEEDS)
    return FerretSender(SESSION, 1, delta, k, stream("roots")), FerretReceiver(SESSION, 1, m)


def assert_correlated(delta: np.ndarray, k: np.ndarray, m: np.ndarray) -> None:
    bits = m[:, 0] & 1
    assert not np.any(k[:, 0] & 1)
    np.testing.assert_array_equal(k ^ m, delta * bits[:, None])
    assert abs(bits.mean(dtype=float) - 0.5) < 3 / len(bits) ** 0.5


@levels
@pytest.mark.parametrize("last", [0, 0x80, 0xFF])
def test_softspoken(level, last):
    delta = difference(last)
    with native.use_level(level):
        sender, receiver = soft_spoken(delta)
        for count in (1280, 128, 4096):
            message, m = receiver.extend(count)
            assert_correlated(delta, sender.extend(count, message), m)


def test_softspoken_in_units():
    delta = difference()
    sender, receiver = soft_spoken(delta)
    message = receiver.speak(2)
    assert message.size == 2 * softspoken.message_bytes(softspoken.UNIT)
    sender.hear(2, message)
    for count in (7, softspoken.UNIT, softspoken.UNIT - 7):
        assert_correlated(delta, sender.take(count), receiver.take(count))


def test_ferret_over_several_iterations():
    delta = difference()
    sender, receiver = silent(delta)
    seen = []
    for units in (1, 2):
        message = sender.speak(units)
        assert message.size == units * ferret.UNIT_BYTES
        receiver.hear(units, message)
        for count in (1, 5000, 140_000, units * ferret.UNIT - 145_001):
            k = sender.take(count)
            assert len(k) == count
            assert_correlated(delta, k, receiver.take(count))
            seen.append(k[: 1 << 12])
    every = np.concatenate(seen)
    assert len(np.unique(every, axis=0)) == len(every)


def test_ferret_that_works_ahead_gives_the_same():
    delta, most = difference(), 2 * ferret.UNIT
    (sender, receiver), (idle, _) = silent(delta), silent(delta)
    receiver.hear(2, sender.speak(2))
    idle.speak(2)
    assert not sender.work_ahead(0)
    for count in (1, 5000, 400_000, ferret.UNIT, ferret.UNIT - 405_001):
        assert sender.work_ahead(min(most, 300_000)) and receiver.work_ahead(most)
        while receiver.work_ahead(min(most, 700_000)):
            pass
        k = sender.take(count)
        np.testing.assert_array_equal(k, idle.take(count))
        assert_correlated(delta, k, receiver.take(count))
        most -= count
    assert not sender.work_ahead(most)


def test_ferret_far_ahead_keeps_few_tables_and_gives_what_it_gives_step_by_step():
    """The sender is spoken to for all iterations at once, the receiver for each when the last is used up."""
    delta, units = difference(), ferret._TABLES_AHEAD + 3
    (sender, receiver), (again, _) = silent(delta), silent(delta)
    message = sender.speak(units)
    assert sum(iteration.code is not None for iteration in sender._waiting) == ferret._TABLES_AHEAD
    for part in message.reshape(units, -1):
        np.testing.assert_array_equal(again.speak(1), part)
        receiver.hear(1, part)
        k, m = sender.take(ferret.UNIT), receiver.take(ferret.UNIT)
        assert_correlated(delta, k, m)
        np.testing.assert_array_equal(again.take(ferret.UNIT), k)


def test_ferret_gives_the_same_at_every_level():
    delta, taken = difference(), []
    for level in native.available_levels():
        with native.use_level(level):
            sender, receiver = silent(delta)
            receiver.hear(1, sender.speak(1))
            taken.append((sender.take(3000), receiver.take(3000)))
    for k, m in taken:
        assert_correlated(delta, k, m)
        np.testing.assert_array_equal(k, taken[0][0])


def test_ferret_iterations_leave_what_the_next_one_needs():
    assert ferret.KEPT_TREES << ferret.DEPTH >= ferret.SEEDS
    assert ferret.UNIT == (ferret.TREES - ferret.KEPT_TREES) * 2**ferret.DEPTH
    assert 8 * ferret.UNIT_BYTES / ferret.UNIT < 0.78  # bits an OT


@pytest.mark.parametrize("make", [soft_spoken, silent])
def test_an_end_speaks_or_hears_and_cannot_be_copied(make):
    import copy
    import pickle

    ends: tuple[CorrelatedOts, ...] = make(difference())
    assert sorted(end.speaks for end in ends) == [False, True]
    for end in ends:
        with pytest.raises(NotImplementedError):
            end.hear(1, np.zeros(0, np.uint8)) if end.speaks else end.speak(1)
        for copy_of in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="copied"):
                copy_of(end)


def test_a_queue_gives_everything_once_and_in_order():
    queue, blocks = Queue(), np.arange(160, dtype=np.uint8).reshape(10, 16)
    queue.put(blocks[:3])
    queue.put(blocks[3:])
    taken = [queue.take(count) for count in (0, 2, 5, 3)]
    assert [len(part) for part in taken] == [0, 2, 5, 3]
    np.testing.assert_array_equal(np.concatenate(taken), blocks)
    with pytest.raises(AssertionError, match="never made"):
        queue.take(1)
