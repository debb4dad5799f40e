"""What a party sees of oblivious transfers: uniform, whatever the other's secrets are, unless a mask is taken away.

As in test_masks.py: randomness is seeded, a mutation takes one mask away, and the check that guards it must then fail.
"""

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest

from aero.kernels import ot as kernels
from aero.kernels.prg import Prg
from aero.mpc.ot import base_ot, ferret, softspoken, supply
from aero.mpc.ot.ferret import FerretReceiver, FerretSender
from aero.mpc.ot.softspoken import SoftSpokenReceiver, SoftSpokenSender

SEED = b"seed of leakage of oblivious tr."
SESSION = bytes(range(16))
CHECK_BYTES = 48  # of a message of SoftSpokenOT


def assert_uniform(data: np.ndarray) -> None:
    """Every byte value as often as any other, and every bit of a block as often one as zero: within six deviations."""
    blocks = np.ascontiguousarray(data).reshape(-1, 16)
    assert len(blocks) >= 1024
    counts = np.bincount(blocks.reshape(-1), minlength=256)
    expected = counts.sum() / 256
    assert abs(((counts - expected) ** 2 / expected).sum() - 255) < 6 * (2 * 255) ** 0.5
    ones = np.unpackbits(blocks, axis=1).mean(axis=0, dtype=float)
    assert np.abs(ones - 0.5).max() < 6 * 0.5 / len(blocks) ** 0.5


def stream(label: str) -> Prg:
    return Prg(SEED, label)


def bytes_of(label: str, *shape: int) -> np.ndarray:
    return np.frombuffer(stream(label).random_bytes(int(np.prod(shape))), np.uint8).reshape(shape).copy()


def difference() -> np.ndarray:
    delta = np.zeros(16, np.uint8)  # as far from random as can be
    delta[0] = 1
    return delta


def base_points(bit: int) -> np.ndarray:
    receiver = base_ot.BaseOtReceiver(stream("points"), "leakage", np.full(600, bit, np.uint8))
    return receiver.points


def soft_spoken() -> tuple[SoftSpokenSender, SoftSpokenReceiver]:
    both = bytes_of("base keys", 128, 2, 16)
    receiver = SoftSpokenReceiver(both, stream("roots"))
    chosen = both[np.arange(128), softspoken.base_choices(difference())]
    return SoftSpokenSender(difference(), chosen, receiver.opening), receiver


def silent() -> tuple[FerretSender, FerretReceiver]:
    k = bytes_of("k", ferret.SEEDS, 16)
    k[:, 0] &= 0xFE
    bits = stream("c").bits(ferret.SEEDS)
    return (
        FerretSender(SESSION, 0, difference(), k, stream("roots")),
        FerretReceiver(SESSION, 0, k ^ difference() * bits[:, None]),
    )


# Checks


def check_points_do_not_tell_the_bit() -> None:
    """Both points of a base OT are uniform, for either bit: 128 bits of their encodings."""
    for bit in (0, 1):
        points = base_points(bit)
        assert_uniform(np.ascontiguousarray(points[:, :, :16]))
        assert len(np.unique(points.reshape(-1, 32), axis=0)) == 2 * len(points)


def check_opening() -> None:
    """The sums of the trees under base OT keys, at the places that the sender of the OTs has no key for, over runs."""
    masked = []
    for run in range(20):
        both = bytes_of(f"base keys {run}", 128, 2, 16)
        receiver = SoftSpokenReceiver(both, Zeros())  # the trees are the same in every run
        masked.append(receiver.opening[:4096].copy())
    assert_uniform(np.array(masked))


def check_corrections() -> None:
    """d_g of SoftSpokenOT less all that its receiver knows of it: the leaves but one of two trees. What is left are the
    two leaves that it does not have."""
    sender, receiver = soft_spoken()
    message, _ = receiver.extend(1 << 14)
    known = known_sums(sender, 1 << 14)
    assert_uniform(message[:-CHECK_BYTES].reshape(softspoken.GROUPS - 1, -1) ^ known[1:] ^ known[0])


def check_hash_of_bits() -> None:
    """What the check of SoftSpokenOT tells of the bits, less what the bits that are used make of it."""
    _, receiver = soft_spoken()
    masks = []
    for block in range(0, 2 * 1200, 2):
        message, m = receiver.extend(128)
        hashing = softspoken._hashing(receiver._opening, block, message[:-CHECK_BYTES])
        bits = np.packbits(m[:, 0] & 1, bitorder="little")
        masks.append(message[-CHECK_BYTES:-32] ^ softspoken._hash(hashing[:1], bits))
    assert_uniform(np.array(masks))


def check_challenge() -> None:
    """What the receiver of Ferret tells of the leaves that it lacks, less just that: bits of OTs used for it alone."""
    _, receiver = silent()
    lacking = bytes_of("lacking", 16)
    with patched(FerretReceiver, "_hash", lambda self: (lacking, lacking)):
        masks = []
        for ots in bytes_of("check", 1200, 128, 16):
            receiver._made_by(0, np.zeros(0, np.uint8), ots)
            masks.append(receiver.challenge() ^ lacking)
    assert_uniform(np.array(masks))


def known_sums(sender: SoftSpokenSender, count: int) -> np.ndarray:
    """Per tree, the sum of the first pieces of the leaves that the sender of the OTs has (its place 0: a zero key), for
    `count` OTs and the columns of the check."""
    row_bytes = (count + 128) // 8
    _, zero_leaf = kernels.leaf_sums(np.zeros((1, 2, 16), np.uint8), 0, row_bytes)
    return kernels.leaf_sums(sender._leaves, 0, row_bytes)[0] ^ zero_leaf


def check_bits_of_the_receiver() -> None:
    """The bits of correlated OTs, of both extensions."""
    sender, receiver = soft_spoken()
    message, m = receiver.extend(1 << 17)
    sender.extend(1 << 17, message)
    assert_uniform(np.packbits(m[:, 0] & 1))
    sender, receiver = silent()
    receiver.hear(1, sender.speak(1))
    assert_uniform(np.packbits(receiver.take(1 << 17)[:, 0] & 1))


def check_message_of_ferret() -> None:
    """What the receiver sees, and what it makes of that with its own M: the sum of one side of each level."""
    sender, receiver = silent()
    message = sender.speak(1).reshape(-1, 16)
    assert_uniform(message)
    assert_uniform(message ^ receiver._seeds[: ferret.LEVELS])


def check_pads() -> None:
    """The pad that the receiver did not choose, XOR the one it has: the hash has broken the correlation by Delta."""
    sender, _ = silent()
    sender.speak(1)
    pads = kernels.sender_pads(SESSION, 0, 0, difference(), sender.take(1 << 14))
    assert_uniform(pads[:, 0] ^ pads[:, 1])
    assert_uniform(pads[:, 1])


def check_pads_of_equal_blocks() -> None:
    """Blocks that are all the same: numbers keep the pads apart."""
    pads = kernels.sender_pads(SESSION, 0, 0, difference(), np.zeros((4096, 16), np.uint8))
    assert_uniform(pads)


CHECKS = [
    check_points_do_not_tell_the_bit,
    check_opening,
    check_corrections,
    check_hash_of_bits,
    check_bits_of_the_receiver,
    check_message_of_ferret,
    check_challenge,
    check_pads,
    check_pads_of_equal_blocks,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_views_are_uniform(check) -> None:
    check()


# Mutations


class Zeros:
    """A stream of nothing."""

    def random_bytes(self, count: int) -> bytes:
        return bytes(count)


@contextlib.contextmanager
def patched(target: object, name: str, value: object) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, value)
        yield


def repeated_scalars():
    scalar = base_ot._scalar(stream("one scalar"))
    return patched(base_ot, "_scalar", lambda stream: scalar)


def no_base_keys():
    original = SoftSpokenReceiver.__init__
    return patched(
        SoftSpokenReceiver, "__init__", lambda self, keys, stream: original(self, np.zeros_like(keys), stream)
    )


def no_missing_leaf():
    """As if the other party had all leaves: corrections that it can compute itself."""
    original = SoftSpokenReceiver.extend

    def changed(self, count):
        known = known_sums(soft_spoken()[0], count)
        message, m = original(self, count)
        message[:-CHECK_BYTES] = (known[1:] ^ known[0]).reshape(-1)
        return message, m

    return patched(SoftSpokenReceiver, "extend", changed)


def no_columns_that_mask():
    original = softspoken._hashing

    def changed(*arguments):
        hashing = original(*arguments)
        hashing[-1] = 0
        return hashing

    return patched(softspoken, "_hashing", changed)


def no_bits_of_the_check():
    return patched(np, "packbits", lambda bits, **how: np.zeros(len(bits) // 8, np.uint8))


def no_code():
    return patched(ferret, "LocalCode", lambda key, table: None)


def no_roots():
    """Trees that all grow from zero: with this Delta the message tells K."""
    original = FerretSender.__init__
    return patched(
        FerretSender,
        "__init__",
        lambda self, session, direction, delta, seeds, stream: original(
            self, session, direction, delta, seeds, Zeros()
        ),
    )


def no_hash():
    return patched(kernels, "sender_pads", lambda session, domain, first, delta, k: np.stack([k, k ^ delta], axis=1))


def no_numbers():
    original = kernels.sender_pads

    def changed(session, domain, first, delta, k):
        return np.concatenate([original(session, domain, 0, delta, k[i : i + 1]) for i in range(len(k))])

    return patched(kernels, "sender_pads", changed)


MUTATIONS = [
    (repeated_scalars, check_points_do_not_tell_the_bit),
    (no_base_keys, check_opening),
    (no_missing_leaf, check_corrections),
    (no_columns_that_mask, check_hash_of_bits),
    (no_bits_of_the_check, check_challenge),
    (no_code, check_bits_of_the_receiver),
    (no_roots, check_message_of_ferret),
    (no_hash, check_pads),
    (no_numbers, check_pads_of_equal_blocks),
]


@pytest.mark.parametrize("mutation, check", MUTATIONS, ids=lambda f: f.__name__.removeprefix("check_"))
def test_a_missing_mask_is_noticed(mutation, check) -> None:
    with mutation(), pytest.raises(AssertionError):
        check()


def test_nothing_here_can_be_seeded() -> None:
    import inspect

    for module in (base_ot, softspoken, ferret, supply):
        source = inspect.getsource(module)
        assert "Prg.from_os" not in source and "Prg(" not in source  # they take a party's streams
        assert "random.default_rng" not in source and "import random" not in source
