"""What a process and its machine hold."""

import subprocess
import sys

import numpy as np

from aero.engines import memory

CHILD = "from aero.engines.memory import peak; x = bytearray(64 << 20); y = x[::4096]; del x; print(peak())"


def test_a_peak_is_of_this_program_alone():
    """Of what is freed again, too; and not of the process that started it."""
    held = np.ones(64 << 20, np.uint8)
    mine = memory.peak()
    assert held.nbytes < mine < memory.of_machine()
    found = int(subprocess.run([sys.executable, "-c", CHILD], capture_output=True, check=True, text=True).stdout)
    large = np.ones(400 << 20, np.uint8)
    assert memory.peak() >= large.nbytes
    again = int(subprocess.run([sys.executable, "-c", CHILD], capture_output=True, check=True, text=True).stdout)
    assert 64 << 20 < found < 300 << 20
    assert abs(again - found) < 20 << 20
