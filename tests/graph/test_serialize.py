"""Programs on disk: weights that are read from the file's own pages."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from aero.graph import Node, Program
from aero.graph.serialize import WEIGHTS_FILE, give_pages_back, load, save


def program_of(weights: dict[str, np.ndarray]) -> Program:
    node = Node("n", "linear", ("x",), ("w",))
    return Program.of(1, [node], weights, "n", state_in={"x": (1, len(weights["w"]))})


def resident(file: Path) -> int:
    """Bytes of a file that this process has in memory, by its mappings."""
    found, mine = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.partition(" ")[0]:
            mine = line.endswith(str(file))
        elif mine and line.startswith("Rss:"):
            found += 1024 * int(line.split()[1])
    return found


def test_weights_whose_pages_went_back_are_read_again(tmp_path):
    w = np.random.default_rng(0).normal(size=(512, 1030))
    save(program_of({"w": w}), tmp_path)
    read = load(tmp_path).weights["w"]
    for some in (read, read[3:400], np.zeros(5), w):
        total = float(some.sum())
        give_pages_back(some)
        assert float(some.sum()) == total
    assert np.array_equal(read, w) and not read.flags.writeable


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux counts pages of files so")
def test_pages_that_went_back_take_no_memory(tmp_path):
    save(program_of({"w": np.ones((1024, 1024))}), tmp_path)
    w = load(tmp_path).weights["w"]
    assert float(w.sum()) == w.size
    assert resident(tmp_path / WEIGHTS_FILE) >= w.nbytes
    give_pages_back(w)
    assert resident(tmp_path / WEIGHTS_FILE) <= 2 * mmap.PAGESIZE
