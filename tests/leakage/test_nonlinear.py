"""Protocols from OT: what a party receives is uniform, given all that it holds, for secrets that are the same in every
run; and each check fails without the mask that it guards.

The tests know the random OTs. From a message they take off what its receiver can compute, before they look at it.
"""

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest

from aero.kernels import bitpack, leaf_ot
from aero.mpc.dealer import InsecureDealtOts
from aero.mpc.ot import transfer
from aero.mpc.ot.transfer import BitProduct, multiply_bits, together
from aero.mpc.party import Party, Role
from aero.mpc.protocols import multiply as multiply_module
from aero.mpc.protocols.compare import less_than
from aero.mpc.protocols.extend import extend, from_field
from aero.mpc.protocols.multiply import look_up, multiply
from aero.mpc.protocols.select import and_bits, arithmetic, multiplex
from aero.mpc.share import Share
from leakage.test_masks import assert_uniform, draws, seeds
from mpc.ots import SEED, Outcome, run_with_ots

N = 4800
P50 = 1256132134125569


def assert_bits_uniform(bits: np.ndarray) -> None:
    """Six at a time."""
    groups = bits.reshape(-1)[: bits.size // 6 * 6].reshape(-1, 6).astype(int) @ (1 << np.arange(6))
    counts = np.bincount(groups, minlength=64)
    expected = counts.sum() / 64
    assert expected >= 12
    assert ((counts - expected) ** 2 / expected).sum() < 63 + 6 * 126**0.5


def dealt(role: Role) -> InsecureDealtOts:
    """The OTs of `role` in the runs of this file, from the first on."""
    return InsecureDealtOts(role, SEED)


def run(program) -> Outcome:
    return run_with_ots(program, seeds=seeds(0))


def message(outcome: Outcome, sender: Role, index: int, size: int) -> np.ndarray:
    """The last `size` bytes of a message; the first that `sender` sends is not the protocol's."""
    return np.frombuffer(outcome.sent[sender][1 + index][-size:], np.uint8)


# Products of bits and words: the client knows bits, all 1, the server words, all the same.


def product(bits: int, xor: bool) -> Outcome:
    def program(party: Party) -> np.ndarray:
        words = np.full(N, 2, np.uint8 if xor else np.uint64)
        mine = np.ones(N, np.uint8) if party.is_client else words
        return multiply_bits(party, [BitProduct(Role.CLIENT, bits, mine, xor=xor)])[0]

    return run(program)


def check_offered_words() -> None:
    """e, less the block that the chooser has, and both shares."""
    outcome, bits = product(20, False), 20
    e = bitpack.unpack(message(outcome, Role.SERVER, 0, bitpack.packed_size(N, bits)), N, bits)
    c, blocks = dealt(Role.CLIENT).receive(N)
    own = blocks.view(np.uint64)[:, 0]
    mask = np.uint64(2**bits - 1)
    assert_uniform(np.where(c == 0, e - own, e + own) & mask, bits)
    for role in Role:
        assert_uniform(outcome.results[role], bits)


def check_offered_small_words() -> None:
    outcome = product(2, True)
    e = bitpack.unpack(message(outcome, Role.SERVER, 0, N // 4), N, 2).astype(np.uint8)
    _, blocks = dealt(Role.CLIENT).receive(N)
    hidden = (e ^ blocks[:, 0]) & 3
    for bits in (hidden, *outcome.results):
        assert_bits_uniform(bits & 1)
        assert_bits_uniform(bits >> 1)


def check_choices() -> None:
    """d, which the sender of the OTs sees."""
    for outcome in (product(20, False), product(2, True)):
        assert_bits_uniform(np.unpackbits(message(outcome, Role.CLIENT, 0, N // 8)))


# Comparisons of two digits


def compared() -> Outcome:
    numbers = {Role.CLIENT: 0x5A, Role.SERVER: 0x5B}
    return run(lambda party: less_than(party, np.full(N, numbers[party.role], np.uint64), 8))


def check_corrections() -> None:
    """What the client sends of its digits."""
    packed = message(compared(), Role.CLIENT, 0, N)
    assert_bits_uniform(np.unpackbits(packed))


def check_tables() -> None:
    """All entries, less all that the client's blocks say of them: the one that it opens, which is its fresh share, and
    others against that one, by the bits in which their numbers differ."""
    outcome, ots = compared(), dealt(Role.CLIENT)
    data = message(outcome, Role.SERVER, 0, 6 * N)
    for size, packed in ((1, data[: 2 * N]), (2, data[2 * N :])):
        bits, blocks = ots.receive(4 * N)
        c = bits.reshape(N, 4).astype(int) @ (1 << np.arange(4))
        blocks = blocks.view(np.uint32).reshape(N, 4, 4)[:, :, 0].astype(np.int64)
        table = bitpack.unpack(packed, N, 16 * size).astype(np.int64)
        hidden = np.empty((N, 16), np.int64)
        for j in range(16):
            agrees = (j >> np.arange(4) & 1) == (c[:, None] >> np.arange(4) & 1)
            known = np.bitwise_xor.reduce(np.where(agrees, blocks, 0), axis=1)
            hidden[:, j] = (table ^ known) >> size * j & (1 << size) - 1
        opened = hidden[np.arange(N), c]
        for bit in range(size):
            assert_bits_uniform(opened >> bit & 1)
            for differing in (1, 2, 4, 8, 15):
                assert_bits_uniform((hidden[np.arange(N), c ^ differing] ^ opened) >> bit & 1)


def check_shares_of_comparisons() -> None:
    for result in compared().results:
        assert_bits_uniform(result)


# Tables


def looked_up() -> Outcome:
    table = np.arange(8, dtype=np.uint64)[:, None] + np.uint64(1 << 15)

    def program(party: Party) -> Share:
        index = Share(np.full(N, 3 + party.role, np.uint64), 3)
        return look_up(party, index, table, (16,))[0]

    return run(program)


def check_entries() -> None:
    outcome, k, bits = looked_up(), 3, 16
    choices, blocks = dealt(Role.CLIENT).receive(N * k)
    c = choices.reshape(N, k).astype(int) @ (1 << np.arange(k))
    entries = bitpack.unpack(message(outcome, Role.SERVER, 0, 16 * N), 8 * N, bits).reshape(N, 8)
    pads = multiply_module._pads(blocks.reshape(N, k, 1, 16), c[:, None].astype(np.uint64), 1)[:, 0, 0]
    opened, mask = entries[np.arange(N), c] - pads, np.uint64(2**bits - 1)
    assert_uniform(opened & mask, bits)
    for differing in range(1, 8):
        assert_uniform((entries[np.arange(N), c ^ differing] - opened) & mask, bits)
    for result in outcome.results:
        assert_uniform(result.values, bits)


def check_asked_index() -> None:
    assert_bits_uniform(np.unpackbits(message(looked_up(), Role.CLIENT, 0, 3 * N // 8)))


# Shares that come out, for shares that went in


def check_shares() -> None:
    """Uniform; where low bits are a party's own input, as in numbers from bits and extensions, all the others are."""

    def program(party: Party) -> list[np.ndarray]:
        ones, x = np.ones(N, np.uint8), Share(np.full(N, 77 + party.role, np.uint64), 20)
        z = np.full(N, 9 + (P50 - 3) * party.role, np.uint64)
        return [
            multiplex(party, ones, x).values,
            multiply(party, x, x, 20).values,
            from_field(party, z % np.uint64(P50), P50, bits=20).values,
            together(party, arithmetic(party, ones, 21))[0].values >> np.uint64(1),
            extend(party, x, 40).values >> np.uint64(20),
            and_bits(party, ones, ones * np.uint8(party.role)),
        ]

    for *words, bits in run(program).results:
        for values in words:
            assert_uniform(values, 20)
        assert_bits_uniform(bits)


CHECKS = [
    check_offered_words,
    check_offered_small_words,
    check_choices,
    check_corrections,
    check_tables,
    check_shares_of_comparisons,
    check_entries,
    check_asked_index,
    check_shares,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_views_are_independent_of_secrets(check) -> None:
    check()


# Mutations


@contextlib.contextmanager
def patched(owner, name: str, make) -> Iterator[None]:
    original = getattr(owner, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, make(original))
        yield


def no_pads():
    return patched(transfer, "_pads", lambda pads: lambda *args: np.zeros_like(pads(*args)))


def only_first_pads():
    """The blocks for a choice of 1 are zero: what is for who chose 0 is hidden by nothing."""

    def make(send):
        def changed(self, count):
            blocks = send(self, count).copy()
            blocks[:, 1] = 0
            return blocks

        return changed

    return patched(InsecureDealtOts, "send", make)


def no_choices():
    """Every OT is for a choice of 0, so that corrections are the choices themselves."""

    def make(receive):
        def changed(self, count):
            pairs, bits = self._deal(self._role.other, count)
            return np.zeros_like(bits), pairs[:, 0]

        return changed

    return patched(InsecureDealtOts, "receive", make)


def no_leaf_masks():
    return draws("random_bytes", "/masks", lambda drawn: bytes(len(drawn)))


@contextlib.contextmanager
def no_masks_of_comparisons() -> Iterator[None]:
    """Any of the three would do alone."""
    with no_leaf_masks(), no_pads(), no_choices():
        yield


def no_table_masks():
    return draws("uniform", "/masks", np.zeros_like)


def a_pad_of_three_ots():
    """Entries whose number has the last bit set are hidden by the other three alone."""

    def make(tables):
        def changed(blocks, *args):
            blocks = blocks.copy()
            blocks[:, 3, 1] = 0
            return tables(blocks, *args)

        return changed

    return patched(leaf_ot, "tables", make)


def no_entry_pads():
    return patched(multiply_module, "_pads", lambda pads: lambda *args: np.zeros_like(pads(*args)))


MUTATIONS = [
    (no_pads, check_offered_words),
    (no_pads, check_offered_small_words),
    (no_pads, check_shares),
    (only_first_pads, check_offered_words),
    (only_first_pads, check_offered_small_words),
    (no_choices, check_choices),
    (no_choices, check_corrections),
    (no_choices, check_asked_index),
    (no_leaf_masks, check_tables),
    (a_pad_of_three_ots, check_tables),
    (no_masks_of_comparisons, check_shares_of_comparisons),
    (no_table_masks, check_entries),
    (no_entry_pads, check_entries),
]


@pytest.mark.parametrize("mutation, check", MUTATIONS, ids=lambda f: f.__name__.removeprefix("check_"))
def test_a_missing_mask_is_noticed(mutation, check) -> None:
    with mutation(), pytest.raises(AssertionError):
        check()
