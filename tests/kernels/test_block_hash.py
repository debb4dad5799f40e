"""The tweaked hash and the bit transposition: equal to their definitions at every level."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.kernels import block_hash, native
from aero.kernels.reference import block_hash as reference

LEVELS = native.available_levels()
levels = pytest.mark.parametrize("level", LEVELS)


@levels
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 7, 8, 9, 31, 32, 33, 47, 48, 100, 127, 128, 129, 176, 1000])
def test_the_hash_equals_its_definition(level, n):
    rng = np.random.default_rng(n)
    blocks = rng.integers(0, 256, (n, 16), np.uint8)
    tweaks = rng.integers(0, 2**64 - 1, n, np.uint64, endpoint=True)
    with native.use_level(level):
        hashed = block_hash.hash_blocks(blocks, tweaks)
    np.testing.assert_array_equal(hashed, reference.hash_blocks(block_hash.FIXED_KEY, blocks, tweaks))


@given(first=st.integers(0, 2**64 - 50), n=st.integers(0, 50), level=st.sampled_from(LEVELS))
def test_an_integer_tweak_counts_up(first, n, level):
    blocks = np.random.default_rng(n).integers(0, 256, (n, 16), np.uint8)
    tweaks = np.array([first + i for i in range(n)], np.uint64)
    with native.use_level(level):
        np.testing.assert_array_equal(
            block_hash.hash_blocks(blocks, first), reference.hash_blocks(block_hash.FIXED_KEY, blocks, tweaks)
        )


def test_equal_blocks_under_different_tweaks_differ():
    hashed = block_hash.hash_blocks(np.zeros((64, 16), np.uint8), 0)
    assert len({row.tobytes() for row in hashed}) == 64


@levels
@pytest.mark.parametrize("row_bytes", [0, 1, 2, 7, 8, 9, 15, 16, 17, 64, 130])
def test_the_transposition_equals_its_definition(level, row_bytes):
    rows = np.random.default_rng(row_bytes).integers(0, 256, (128, row_bytes), np.uint8)
    with native.use_level(level):
        np.testing.assert_array_equal(block_hash.transpose_128(rows), reference.transpose_128(rows))


@levels
def test_a_single_bit_goes_to_its_place(level):
    for row, column in [(0, 0), (1, 9), (7, 63), (8, 64), (127, 71), (100, 5)]:
        rows = np.zeros((128, 9), np.uint8)
        rows[row, column // 8] = 1 << column % 8
        with native.use_level(level):
            blocks = block_hash.transpose_128(rows)
        assert blocks[column, row // 8] == 1 << row % 8
        assert np.count_nonzero(blocks) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: block_hash.hash_blocks(np.zeros((2, 15), np.uint8), 0),
        lambda: block_hash.hash_blocks(np.zeros((2, 16), np.int8), 0),
        lambda: block_hash.hash_blocks(np.zeros((2, 16), np.uint8), -1),
        lambda: block_hash.hash_blocks(np.zeros((2, 16), np.uint8), 2**64 - 1),
        lambda: block_hash.hash_blocks(np.zeros((2, 16), np.uint8), np.zeros(3, np.uint64)),
        lambda: block_hash.hash_blocks(np.zeros((2, 16), np.uint8), np.zeros(2, np.int64)),
        lambda: block_hash.transpose_128(np.zeros((127, 4), np.uint8)),
        lambda: block_hash.transpose_128(np.zeros((128, 4), np.uint16)),
        lambda: block_hash.transpose_128(np.zeros(128, np.uint8)),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(ValueError):
        call()
