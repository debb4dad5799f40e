"""Tables of small oblivious transfers: equal to their definition, and they compare digits."""

import numpy as np
import pytest

from aero.kernels import leaf_ot, native
from aero.kernels.reference import leaf_ot as reference


def setting(width, size, n=709):
    rng = np.random.default_rng(10 * width + size)
    blocks = rng.integers(0, 256, (n, width, 2, 16), np.uint8)
    bits = rng.integers(0, 2, (n, width), np.uint8)
    chosen = np.take_along_axis(blocks, bits[:, :, None, None].astype(int), axis=2)[:, :, 0]
    a, b = (rng.integers(0, 1 << width, n, np.uint8) for _ in range(2))
    return blocks, bits, chosen, a, b, rng.integers(0, 1 << size, n, np.uint8)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("level", native.available_levels())
def test_tables_equal_their_definition_and_compare(level, width, size):
    with native.use_level(level):
        check(*setting(width, size), size, width)


def check(blocks, bits, chosen, a, b, masks, size, width):
    corrections, pads = leaf_ot.choices(bits, chosen, b, size)
    expected = reference.choices(bits, chosen, b, size)
    np.testing.assert_array_equal(corrections, expected[0])
    np.testing.assert_array_equal(pads, expected[1])
    table = leaf_ot.tables(blocks, a, corrections, masks, size)
    np.testing.assert_array_equal(table, reference.tables(blocks, a, corrections, masks, size))
    assert int(table.max()) >> (size << width) == 0
    opened = leaf_ot.open_entries(table, b, corrections, pads, size)
    np.testing.assert_array_equal(opened, reference.open_entries(table, b, corrections, pads, size))
    np.testing.assert_array_equal((opened ^ masks) & 1, b < a)
    if size == 2:
        np.testing.assert_array_equal((opened ^ masks) >> 1, b == a)


def test_what_does_not_fit_is_refused():
    blocks, _, _, a, b, masks = setting(2, 2)
    with pytest.raises(ValueError, match="digit"):
        leaf_ot.tables(blocks, a + np.uint8(4), b, masks, 2)
    with pytest.raises(ValueError, match="one length"):
        leaf_ot.tables(blocks, a, b[1:], masks, 2)
    with pytest.raises(ValueError, match="1 to 4 bits"):
        leaf_ot.tables(np.zeros((1, 5, 2, 16), np.uint8), a[:1], b[:1], masks[:1], 2)
    with pytest.raises(ValueError, match="blocks"):
        leaf_ot.choices(np.zeros((3, 2), np.uint8), np.zeros((2, 2, 16), np.uint8), a[:3], 2)
