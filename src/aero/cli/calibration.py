"""Text to choose number formats by: the validation text of the data that a run was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from aero.compiler.compiled import Compiled

BLOCKS = 8


def blocks_of_run(run: Path, compiled: Compiled, count: int = BLOCKS) -> tuple[list[np.ndarray], bool]:
    """Token ids to calibrate on, for a run that is served without having been compiled before, and whether they are of
    its own validation text; where that is not there, they are random."""
    try:
        return calibration_blocks(run, compiled, None, count, 0, None)[0], True
    except (OSError, ValueError):
        graph = compiled.program.graph
        vocab_size = graph.shapes[graph.output][1]
        return list(np.random.default_rng(0).integers(vocab_size, size=(count, compiled.context))), False


def calibration_blocks(
    run: Path, compiled: Compiled, data: Path | None, calibration: int, test: int, outside: Path | None
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Token ids to calibrate on, to test on, and unlike both; blocks of the context's length."""
    from aero.data.folder import DataFolder
    from aero.data.text_files import read_text
    from aero.files.reading import present
    from aero.train.run_folder import RunInfo

    path = RunInfo.read(run).data_path(data)
    if not present(path):
        raise FileNotFoundError(f"no data folder at {path}; give one with --data, or --no-ring-plan")
    folder, length = DataFolder(path), compiled.context
    graph = compiled.program.graph
    vocab_size = graph.shapes[graph.output][1]
    if folder.info.vocab_size > vocab_size:
        raise ValueError(f"{path} has a vocabulary of {folder.info.vocab_size}, the model one of {vocab_size}")
    available = folder.valid.blocks(length)
    if available < calibration + test:
        raise ValueError(
            f"{path} has {available} blocks of {length} tokens for validation; ask for fewer with --calibration, --test"
        )
    blocks = [folder.valid.block(i, length).astype(np.int64) for i in range(calibration + test)]
    if outside is None:
        strange = list(np.random.default_rng(0).integers(vocab_size, size=(calibration, length)))
    else:
        ids = np.array(folder.tokenizer().encode(read_text(outside)), dtype=np.int64)
        strange = [ids[i : i + length] for i in range(0, len(ids) - length + 1, length)][:calibration]
        if not strange:
            raise ValueError(f"{outside} has {len(ids)} tokens, less than one block of {length}; give a longer text")
    return blocks[:calibration], blocks[calibration:], strange
