"""Choosing the instruction set, and what the native module itself refuses."""

import os
import subprocess
import sys

import numpy as np
import pytest

from aero.kernels import native
from aero.kernels.native import _native


def level_of_a_fresh_process(setting: str) -> subprocess.CompletedProcess[str]:
    return fresh_process("AERO_KERNELS", setting, "level")


def fresh_process(variable: str, setting: str, ask: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"from aero.kernels import native; print(native.{ask}())"],
        env={**os.environ, variable: setting},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_best_level_is_the_default():
    assert native.available_levels()[0] == "portable"
    assert level_of_a_fresh_process("").stdout.strip() == native.available_levels()[-1]


def test_the_environment_chooses_a_level():
    assert level_of_a_fresh_process("portable").stdout.strip() == "portable"
    refused = level_of_a_fresh_process("mmx")
    assert refused.returncode != 0 and "'mmx' is not available here: use one of portable" in refused.stderr


def test_the_environment_chooses_threads():
    assert fresh_process("AERO_THREADS", "", "threads").stdout.strip() == "1"
    assert fresh_process("AERO_THREADS", "3", "threads").stdout.strip() == "3"
    for wrong in ("0", "many", "-2"):
        refused = fresh_process("AERO_THREADS", wrong, "threads")
        assert refused.returncode != 0 and "threads" in refused.stderr


def test_use_threads_puts_the_number_back():
    before = native.threads()
    with pytest.raises(ZeroDivisionError), native.use_threads(5):
        assert native.threads() == 5
        raise ZeroDivisionError
    assert native.threads() == before
    for wrong in (0, -1, 1025):
        with pytest.raises(ValueError, match="1 to 1024 threads"):
            native.set_threads(wrong)
    with pytest.raises(ValueError, match="at least one"):
        _native.set_threads(0)


def test_use_level_puts_the_level_back():
    before = native.level()
    with pytest.raises(ZeroDivisionError), native.use_level("portable"):
        assert native.level() == "portable"
        raise ZeroDivisionError
    assert native.level() == before


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="not available"):
        native.set_level("mmx")
    with pytest.raises(ValueError, match="unknown"):
        _native.set_level("mmx")


@pytest.mark.parametrize(
    "call",
    [
        lambda: _native.sample_bytes(bytes(15), 0, np.empty(4, np.uint8)),
        lambda: _native.sample_bytes(bytes(16), 2**60, np.empty(4, np.uint8)),
        lambda: _native.sample_ring(bytes(16), 0, 0, np.empty(4, np.uint64)),
        lambda: _native.sample_ring(bytes(16), 0, 65, np.empty(4, np.uint64)),
        lambda: _native.sample_below(bytes(16), 0, 0, np.empty(4, np.uint64)),
        lambda: _native.sample_below(bytes(16), 0, 2**62 + 1, np.empty(4, np.uint64)),
        lambda: _native.sample_binomial(bytes(16), 0, 33, np.empty(4, np.int8)),
        lambda: _native.sample_table(bytes(16), 0, np.zeros(128, np.uint64), np.empty(4, np.int8)),
        lambda: _native.sample_table(bytes(16), 0, np.array([2**63], np.uint64), np.empty(4, np.int8)),
        lambda: _native.bit_pack(np.zeros(4, np.uint64), 65, np.empty(33, np.uint8)),
        lambda: _native.bit_pack(np.zeros(4, np.uint64), 8, np.empty(3, np.uint8)),
        lambda: _native.bit_unpack(np.zeros(4, np.uint8), 8, np.empty(5, np.uint64)),
        lambda: _native.ring_matmul(*(np.zeros(s, np.uint64) for s in [(1, 2, 3), (1, 4, 2), (1, 2, 2)])),
        lambda: _native.ring_matmul(*(np.zeros(s, np.uint64) for s in [(2, 2, 3), (3, 3, 2), (2, 2, 2)])),
        lambda: _native.aes_hash(
            bytes(16), np.zeros((2, 16), np.uint8), np.zeros(3, np.uint64), np.empty((2, 16), np.uint8)
        ),
        lambda: _native.transpose_128(np.zeros((128, 2), np.uint8), np.empty((15, 16), np.uint8)),
    ],
)
def test_the_module_checks_sizes_and_ranges_itself(call):
    with pytest.raises(ValueError):
        call()


def test_the_module_converts_nothing_silently():
    # A conversion would leave the results in a copy that nobody sees.
    for out in (np.empty(4, np.int32), np.empty(8, np.uint8)[::2]):
        with pytest.raises(TypeError):
            _native.sample_bytes(bytes(16), 0, out)
    read_only = np.zeros(4, np.uint8)
    read_only.flags.writeable = False
    with pytest.raises(TypeError):
        _native.sample_bytes(bytes(16), 0, read_only)
