"""Bit packing: equal to its NumPy definition at every level and width, and strict about what it unpacks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.kernels import bitpack, native
from aero.kernels.reference import bitpack as reference

LEVELS = native.available_levels()
levels = pytest.mark.parametrize("level", LEVELS)


@levels
@pytest.mark.parametrize("width", range(1, 65))
def test_packing_equals_its_definition(level, width):
    rng = np.random.default_rng(width)
    top = 2**width - 1
    for count in [0, 1, 2, 7, 8, 9, 16, 17, 64, 65, 200]:
        for values in (
            rng.integers(0, top, count, np.uint64, endpoint=True),
            np.full(count, top, np.uint64),
            np.zeros(count, np.uint64),
        ):
            with native.use_level(level):
                packed = bitpack.pack(values, width)
                unpacked = bitpack.unpack(packed, count, width)
            np.testing.assert_array_equal(packed, reference.pack(values, width))
            np.testing.assert_array_equal(unpacked, values)
            np.testing.assert_array_equal(reference.unpack(packed, count, width), values)


@given(data=st.data(), width=st.integers(1, 64), level=st.sampled_from(LEVELS))
def test_any_well_formed_bytes_unpack_and_pack_again(data, width, level):
    count = data.draw(st.integers(0, 100))
    size = bitpack.packed_size(count, width)
    packed = np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), np.uint8).copy()
    if used := count * width % 8:
        packed[-1] &= 2**used - 1
    with native.use_level(level):
        np.testing.assert_array_equal(bitpack.pack(bitpack.unpack(packed, count, width), width), packed)


def test_nothing_beyond_the_ends_is_read_or_written():
    for level in LEVELS:
        for width in range(1, 65):
            count = 24
            size = bitpack.packed_size(count, width)
            surrounded = np.full(size + 128, 0xA5, np.uint8)
            values = np.arange(count, dtype=np.uint64) & np.uint64(2**width - 1)
            with native.use_level(level):
                native._native.bit_pack(values, width, surrounded[64 : 64 + size])
            assert (surrounded[:64] == 0xA5).all() and (surrounded[64 + size :] == 0xA5).all()


@levels
def test_a_value_too_wide_is_refused(level):
    for place in (0, 5, 8, 20):
        values = np.zeros(21, np.uint64)
        values[place] = 2**25
        with native.use_level(level), pytest.raises(ValueError, match="25 bits"):
            bitpack.pack(values, 25)


@levels
def test_a_bit_after_the_last_value_is_refused(level):
    packed = bitpack.pack(np.zeros(11, np.uint64), 25)  # 275 bits: three used in the last byte
    for bit in range(3, 8):
        damaged = packed.copy()
        damaged[-1] = 1 << bit
        with native.use_level(level), pytest.raises(ValueError, match="not zero"):
            bitpack.unpack(damaged, 11, 25)


@pytest.mark.parametrize(
    "call",
    [
        lambda: bitpack.pack(np.zeros(3, np.int64), 8),
        lambda: bitpack.pack([1, 2], 8),
        lambda: bitpack.pack(np.zeros(3, np.uint64), 0),
        lambda: bitpack.pack(np.zeros(3, np.uint64), 65),
        lambda: bitpack.unpack(bytes(3), 4, 8),
        lambda: bitpack.unpack(bytes(5), 4, 8),
        lambda: bitpack.unpack(bytes(4), -1, 8),
        lambda: bitpack.unpack(np.zeros(4, np.uint16), 4, 8),
        lambda: bitpack.unpack(np.zeros((2, 2), np.uint8), 4, 8),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(ValueError):
        call()


def test_any_shape_packs_row_by_row():
    values = np.arange(12, dtype=np.uint64).reshape(3, 4)
    np.testing.assert_array_equal(bitpack.pack(values.T, 5), reference.pack(values.T.reshape(-1).copy(), 5))
    np.testing.assert_array_equal(bitpack.unpack(bitpack.pack(values, 5).tobytes(), 12, 5), values.reshape(-1))
