"""Parties that deviate: what the checks of both extensions catch, and with what probability what they cannot.

A party that changes a message and does nothing else is caught always. One that also guesses a part of the other's
secret, and makes what follows fit, passes if the guess is right: every guess is tried here, and one passes.
"""

import numpy as np
import pytest

from aero.kernels.gf128 import dot
from aero.mpc.ot import ferret, softspoken
from aero.mpc.ot.consistency import coefficients, digest
from aero.mpc.ot.ferret import DEPTH, TREES, FerretReceiver, FerretSender
from aero.mpc.ot.softspoken import FIELD_BITS, GROUPS, LEAVES, SoftSpokenReceiver, SoftSpokenSender
from aero.mpc.ot.supply import set_up_ots
from aero.mpc.party import Party, Role
from aero.wire import ProtocolError
from mpc.ot.test_extensions import difference, silent, soft_spoken, stream
from mpc.parties import Run

REFUSED = "failed their check"
COUNT = 256
CORRECTIONS = (GROUPS - 1) * (COUNT + 128) // 8


def flipped(data: np.ndarray, byte: int, bit: int = 3) -> np.ndarray:
    changed = data.copy()
    changed[byte] ^= 1 << bit
    return changed


def base_keys() -> np.ndarray:
    return np.frombuffer(stream("base").random_bytes(4096), np.uint8).reshape(128, 2, 16)


# SoftSpokenOT: its receiver deviates


def hears(opening: np.ndarray, delta: np.ndarray) -> SoftSpokenSender:
    choices = softspoken.base_choices(delta)
    return SoftSpokenSender(delta, base_keys()[np.arange(128), choices], opening)


def test_a_changed_sum_of_a_tree_is_caught_where_it_is_read():
    """The receiver has to guess a bit of Delta to change one that is not: it is caught in half the cases."""
    delta = difference()
    choices = softspoken.base_choices(delta)
    opening = SoftSpokenReceiver(base_keys(), stream("roots")).opening
    for place in range(0, 256, 5):
        changed = flipped(opening, 16 * place)
        if choices[place // 2] == place % 2:
            with pytest.raises(ProtocolError, match=REFUSED):
                hears(changed, delta)
        else:
            hears(changed, delta)


def test_a_changed_digest_of_leaves_is_caught():
    delta, opening = difference(), SoftSpokenReceiver(base_keys(), stream("roots")).opening
    for byte in range(4096, len(opening), 37):
        with pytest.raises(ProtocolError, match=REFUSED):
            hears(flipped(opening, byte), delta)


@pytest.mark.parametrize("byte", [0, CORRECTIONS // 2, CORRECTIONS - 1, CORRECTIONS, CORRECTIONS + 16, -1])
def test_a_changed_message_of_softspoken_is_caught(byte):
    """A correction, also in the columns that mask, the hash of the bits, the digest."""
    sender, receiver = soft_spoken(difference())
    message, _ = receiver.extend(COUNT)
    with pytest.raises(ProtocolError, match=REFUSED):
        sender.extend(COUNT, flipped(message, byte))


def test_other_bits_for_one_tree_pass_with_its_digit_alone():
    """u + e for one group of rows, and a digest that fits if the digit of Delta is what was guessed: one of 16."""
    group, delta = 5, difference()
    digit = int(np.packbits(np.unpackbits(delta, bitorder="little")[4 * group : 4 * group + 4], bitorder="little")[0])
    passed = []
    for guess in range(LEAVES):
        sender, receiver = soft_spoken(delta)
        sums, rows = softspoken.leaf_sums(receiver._leaves, 0, (COUNT + 128) // 8)
        message, _ = receiver.extend(COUNT)
        error = np.zeros((GROUPS - 1, (COUNT + 128) // 8), np.uint8)
        error[group - 1, 7] = 0x20
        message[:CORRECTIONS] ^= error.reshape(-1)
        hashing = softspoken._hashing(receiver._opening, 0, message[:CORRECTIONS])
        hashes = softspoken._hash(hashing, rows)
        for i in range(FIELD_BITS):
            if guess >> i & 1:
                hashes[FIELD_BITS * group + i] ^= softspoken._hash(hashing, error[group - 1])
        message[CORRECTIONS:-32] = softspoken._hash(hashing, sums[0])
        message[-32:] = digest("rows", hashes)
        try:
            sender.extend(COUNT, message)
            passed.append(guess)
        except ProtocolError:
            pass
    assert passed == [digit]


# Ferret: its sender deviates, and what its receiver can do


def changed_sender(byte: int, bit: int) -> tuple[FerretSender, FerretReceiver]:
    """After a message with one bit flipped, from which the sender goes on."""
    sender, receiver = silent(difference())
    message = flipped(sender.speak(1), byte, bit)
    sender._made_by(1, message, sender._unchecked[2])
    receiver.hear(1, message)
    return sender, receiver


@pytest.mark.parametrize("tree, level", [(0, 0), (0, DEPTH - 1), (77, 4), (TREES - 1, DEPTH - 1)])
def test_a_changed_sum_of_ferret_is_caught(tree, level):
    sender, receiver = changed_sender(16 * (DEPTH * tree + level), 1)
    with pytest.raises(ProtocolError, match=REFUSED):
        receiver.check(sender.answer(receiver.challenge()))


@pytest.mark.parametrize("byte", [0, 15])
def test_a_changed_challenge_or_answer_is_caught(byte):
    sender, receiver = silent(difference())
    receiver.hear(1, sender.speak(1))
    challenge = receiver.challenge()
    receiver.check(sender.answer(challenge))
    for answer in (sender.answer(flipped(challenge, byte)), flipped(sender.answer(challenge), byte)):
        with pytest.raises(ProtocolError, match=REFUSED):
            receiver.check(answer)


def test_several_iterations_are_checked_at_once_and_one_after_another():
    sender, receiver = silent(difference())
    for units in (2, 1):
        receiver.hear(units, sender.speak(units))
        receiver.check(sender.answer(receiver.challenge()))
    message = sender.speak(2)
    wrong = flipped(message, 5 * 16, 1)  # in the first of two
    sender._made_by(2, wrong, sender._unchecked[2])
    receiver.hear(2, wrong)
    with pytest.raises(ProtocolError, match=REFUSED):
        receiver.check(sender.answer(receiver.challenge()))


def test_a_changed_last_level_passes_with_its_place_alone():
    """The error hits the two leaves below the last node on the path to the leaf that is lacking, so a sender who
    guesses that node, one of 1024, and adds what the error makes of the sum passes."""
    tree, error = 77, np.zeros(16, np.uint8)
    error[0] = 2
    byte = 16 * (DEPTH * tree + DEPTH - 1)
    sender, receiver = changed_sender(byte, 1)
    challenge, expected = receiver.challenge(), receiver._expected
    every = coefficients(sender._unchecked[1], (1 << DEPTH) + TREES)
    of_place, of_tree = every[: 1 << DEPTH].reshape(-1, 2, 16), every[(1 << DEPTH) + tree]
    honest = sender._hash()[0] ^ ferret._packed(sender._delta * np.unpackbits(challenge, bitorder="little")[:, None])
    moved = dot(error[None], (of_place[:, 0] ^ of_place[:, 1])[:, None])[0]
    moved = dot(of_tree[None], moved[:, None])[0]
    passed = [p for p in range(1 << DEPTH - 1) if np.array_equal(digest("sum", honest ^ moved[p]), expected)]
    bits = receiver._waiting[0].seeds[0][tree]
    assert passed == [int("".join(str(1 - b) for b in bits[:-1]), 2)]


# Between two parties


@pytest.mark.parametrize(
    "extension, method", [("ferret", "speak"), ("ferret", "challenge"), ("ferret", "answer"), ("softspoken", "speak")]
)
def test_a_refill_that_fails_ends_the_supply(extension, method, monkeypatch):
    """The client changes what it sends; the party that checks says so, and its supply is not usable any more. Who
    changes its own challenge cannot use the answer."""

    def program(party: Party):
        set_up_ots(party, extension)
        if party.is_client:
            end = next(end for end in party.ots._ends.values() if end.speaks == (method != "challenge"))
            original = getattr(end, method)
            monkeypatch.setattr(end, method, lambda *arguments: flipped(original(*arguments), 4))
        try:
            party.ots.reserve(10, 10)
        except ProtocolError as error:
            with pytest.raises(RuntimeError, match="failed"):
                party.ots.send(1)
            return str(error)

    results = Run(program).results
    caught_by = Role.CLIENT if method == "challenge" else Role.SERVER
    assert REFUSED in results[caught_by]
    assert results[caught_by.other] is None


@pytest.mark.parametrize("extension", ["ferret", "softspoken"])
def test_a_set_up_that_fails_says_so(extension, monkeypatch):
    original = SoftSpokenReceiver.__init__

    def changed(self, keys, stream):
        original(self, keys, stream)
        self.opening = flipped(self.opening, 4096)

    monkeypatch.setattr(SoftSpokenReceiver, "__init__", changed)
    errors = Run(lambda party: set_up_ots(party, extension)).failures
    assert any(isinstance(error, ProtocolError) and REFUSED in str(error) for error in errors)
