"""Unsigned integers packed to any width: what goes over the wire of values in small rings.

Value i takes the bits i width to (i + 1) width - 1 of the output, bit b of which is bit b mod 8 of byte b div 8. The
last byte is filled up with zero bits, and unpacking insists on them, so that every array has one encoding.
"""

import numpy as np

from aero.kernels.native import _native

# Keeps n width below 2^64 in the kernels.
MAX_COUNT = 2**48


def packed_size(count: int, width: int) -> int:
    """The bytes that `count` values of `width` bits take: ceil(count width / 8). ValueError outside 1 to 64 bits."""
    if not 1 <= width <= 64:
        raise ValueError(f"a width is 1 to 64 bits, not {width}")
    if not 0 <= count <= MAX_COUNT:
        raise ValueError(f"a count is 0 to 2^48, not {count}")
    return (count * width + 7) // 8


def pack(values: np.ndarray, width: int) -> np.ndarray:
    """Pack a uint64 array of any shape, row by row, into uint8 [packed_size(values.size, width)].

    ValueError for another dtype, a width outside 1 to 64, or a value of 2^width or more.
    """
    if not isinstance(values, np.ndarray) or values.dtype != np.uint64:
        raise ValueError("bit packing takes a uint64 array: convert it with .astype(np.uint64)")
    out = np.empty(packed_size(values.size, width), np.uint8)
    if not _native.bit_pack(np.ascontiguousarray(values).reshape(-1), width, out):
        raise ValueError(f"a value does not fit into {width} bits: reduce the values modulo 2^{width} first")
    return out


def unpack(data: np.ndarray | bytes | memoryview, count: int, width: int) -> np.ndarray:
    """Unpack `count` values of `width` bits from exactly `packed_size(count, width)` bytes: uint64 [count].

    ValueError for another length, a width outside 1 to 64, or a bit set after the last value.
    """
    size = packed_size(count, width)
    if isinstance(data, np.ndarray):
        if data.dtype != np.uint8 or data.ndim != 1:
            raise ValueError(f"packed bytes are a one-dimensional uint8 array, not {data.dtype} {data.shape}")
        packed = np.ascontiguousarray(data)
    else:
        packed = np.frombuffer(data, np.uint8)
    if packed.size != size:
        raise ValueError(f"{count} values of {width} bits take {size} bytes, not {packed.size}")
    out = np.empty(count, np.uint64)
    if not _native.bit_unpack(packed, width, out):
        raise ValueError("the bits after the last value are not zero: the data is damaged")
    return out
