"""Products of bits and words, many at once: right whatever their directions, kinds and sizes, at the declared cost."""

import numpy as np
import pytest

from aero.kernels import bitpack
from aero.mpc.fixed_point import reduce_ring
from aero.mpc.ot import transfer
from aero.mpc.ot.transfer import BitProduct, ProductShape, multiply_bits, products_cost
from aero.mpc.party import Party, Role
from mpc.ots import run_with_ots

PRODUCTS = [
    (Role.CLIENT, 12, 17, False),
    (Role.SERVER, 12, 64, False),
    (Role.CLIENT, 5, 17, False),
    (Role.CLIENT, 301, 1, False),
    (Role.SERVER, 7, 8, True),
    (Role.SERVER, 301, 2, True),
    (Role.SERVER, 0, 3, True),
    (Role.CLIENT, 40, 33, False),
    (Role.CLIENT, 40, 1, True),
]
"""Chooser, count, bits and whether shares are XORed."""


@pytest.mark.parametrize("at_once", [1, 50, 1 << 16], ids=lambda at_once: f"{at_once} at once")
def test_many_products(at_once, monkeypatch):
    monkeypatch.setattr(transfer, "AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    known = []
    for _, count, bits, xor in PRODUCTS:
        words = rng.integers(0, 2**bits - 1, count, np.uint64, endpoint=True)
        known.append((rng.integers(0, 2, count, np.uint8), words.astype(np.uint8) if xor else words))

    def program(party: Party) -> list[np.ndarray]:
        return multiply_bits(
            party,
            [
                BitProduct(chooser, bits, b if chooser is party.role else words, xor)
                for (chooser, _, bits, xor), (b, words) in zip(PRODUCTS, known, strict=True)
            ],
        )

    outcome = run_with_ots(program)
    for (_, _, bits, xor), (b, words), first, second in zip(PRODUCTS, known, *outcome.results, strict=True):
        found = first ^ second if xor else reduce_ring(first + second, bits)
        assert first.dtype == second.dtype == words.dtype
        np.testing.assert_array_equal(found, b * words)
    assert outcome.cost == products_cost([ProductShape(*product[:3]) for product in PRODUCTS])


def test_which_products_are_refused():
    ones = np.ones(3, np.uint8)
    for bits, xor in ((0, False), (65, False), (9, True)):
        with pytest.raises(ValueError, match=f"product of {bits} bits"):
            BitProduct(Role.CLIENT, bits, ones, xor)


@pytest.mark.parametrize("width", [1, 3])
def test_small_values_on_the_wire(width):
    values = np.random.default_rng(width).integers(0, 2**width, 13, np.uint8)
    packed = transfer.pack_small(values, width)
    np.testing.assert_array_equal(packed, bitpack.pack(values.astype(np.uint64), width))
    np.testing.assert_array_equal(transfer.unpack_small(packed, 13, width), values)
    packed[-1] |= 0x80
    with pytest.raises(ValueError, match="not zero"):
        transfer.unpack_small(packed, 13, width)
