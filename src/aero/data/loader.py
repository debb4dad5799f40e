"""The order in which training reads blocks: a function of seed and position alone, so a run can go on anywhere."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from aero.data.packing import Shard

Batch = dict[str, torch.Tensor]


class TrainingBlocks(Dataset):
    """`samples` blocks of `length` tokens from a shard, shuffled, for as many epochs as it takes.

    Sample i is always the same block: epoch e reads the shard in blocks that begin at an offset drawn from (seed, e),
    in an order drawn from (seed, e). Read it from first to last; to resume, skip what was read.
    """

    def __init__(self, shard: Shard, length: int, samples: int, seed: int) -> None:
        # One block less than fits, so that the epoch's offset has room.
        self._blocks_per_epoch = (shard.tokens - length + 1) // length
        if self._blocks_per_epoch < 1:
            raise ValueError(
                f"{shard.path} holds {shard.tokens} tokens; blocks of {length} need at least {2 * length - 1}"
            )
        self._shard = shard
        self._length = length
        self._samples = samples
        self._seed = seed
        self._epoch = -1
        self._starts: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return self._samples

    def start(self, index: int) -> int:
        """Where in the shard sample `index` begins."""
        if not 0 <= index < self._samples:
            raise IndexError(f"sample {index} of {self._samples}")
        epoch, within = divmod(index, self._blocks_per_epoch)
        if epoch != self._epoch:
            random = np.random.default_rng([self._seed, epoch])
            offset = random.integers(self._length)
            self._starts = offset + self._length * random.permutation(self._blocks_per_epoch)
            self._epoch = epoch
        return int(self._starts[within])

    def __getitem__(self, index: int) -> Batch:
        """{"input_ids": [T], "labels": [T]}; a model shifts the labels by one itself, as in Hugging Face's."""
        ids = torch.from_numpy(self._shard.read(self.start(index), self._length))
        return {"input_ids": ids, "labels": ids}


def collate(samples: list[Batch]) -> Batch:
    """{"input_ids": [B, T], "labels": [B, T]}."""
    ids = torch.stack([sample["input_ids"] for sample in samples])
    return {"input_ids": ids, "labels": ids}
