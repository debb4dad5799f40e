"""An installed wheel's kernels, at every level of this processor, against their NumPy definitions: some seconds.

python tools/check_kernels.py
"""

import numpy as np

from aero.kernels import bitpack, native, ring
from aero.kernels.native import _native
from aero.kernels.prg import derive_key
from aero.kernels.reference import bitpack as bitpack_reference
from aero.kernels.reference import prg as prg_reference
from aero.kernels.reference import ring as ring_reference

# Beyond the widest vectors' batches, with a rest.
COUNT = 4099


def check() -> None:
    random = np.random.default_rng(0)
    values = random.integers(0, 2**64, COUNT, dtype=np.uint64)
    left, right = (random.integers(0, 2**64, shape, dtype=np.uint64) for shape in ((5, 67), (67, 19)))
    key = derive_key(bytes(32), "check")
    stream, _ = prg_reference.sample_bytes(key, 0, COUNT)
    binomial, _ = prg_reference.sample_binomial(key, 0, COUNT, 21)
    for level in native.available_levels():
        with native.use_level(level):
            found_stream, found_binomial = np.empty(COUNT, np.uint8), np.empty(COUNT, np.int8)
            _native.sample_bytes(key, 0, found_stream)
            _native.sample_binomial(key, 0, 21, found_binomial)
            np.testing.assert_array_equal(found_stream, stream)
            np.testing.assert_array_equal(found_binomial, binomial)
            np.testing.assert_array_equal(ring.matmul(left, right), ring_reference.matmul(left, right))
            packed = bitpack.pack(values & np.uint64(2**37 - 1), 37)
            np.testing.assert_array_equal(packed, bitpack_reference.pack(values & np.uint64(2**37 - 1), 37))
        print(f"{level}: as defined")


if __name__ == "__main__":
    check()
