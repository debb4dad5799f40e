"""The order of training blocks: shuffled, complete, the same for everyone, and resumable anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aero.data.loader import TrainingBlocks, collate
from aero.data.packing import Shard

LENGTH = 8


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    np.arange(1000, dtype="<u2").tofile(tmp_path / "x.bin")
    return Shard(tmp_path / "x.bin", np.dtype("<u2"))


def test_an_epoch_reads_every_block_once_and_epochs_differ(shard: Shard) -> None:
    per_epoch = (1000 - LENGTH + 1) // LENGTH
    blocks = TrainingBlocks(shard, LENGTH, samples=3 * per_epoch, seed=0)
    starts = [blocks.start(i) for i in range(len(blocks))]
    epochs = [starts[e * per_epoch : (e + 1) * per_epoch] for e in range(3)]
    for epoch in epochs:
        assert np.diff(sorted(epoch)).tolist() == [LENGTH] * (per_epoch - 1)
        assert epoch != sorted(epoch)
        assert 0 <= min(epoch) < LENGTH
        assert max(epoch) + LENGTH <= 1000
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert len({min(epoch) for epoch in epochs}) > 1, "each epoch cuts the text elsewhere"


def test_a_sample_depends_on_seed_and_position_alone(shard: Shard) -> None:
    first = TrainingBlocks(shard, LENGTH, samples=400, seed=3)
    again = TrainingBlocks(shard, LENGTH, samples=400, seed=3)
    other = TrainingBlocks(shard, LENGTH, samples=400, seed=4)
    order = list(range(400))
    assert [first.start(i) for i in order] == [again.start(i) for i in reversed(order)][::-1]
    assert [first.start(i) for i in order] != [other.start(i) for i in order]


def test_batches_hold_the_shard_s_tokens(shard: Shard) -> None:
    blocks = TrainingBlocks(shard, LENGTH, samples=4, seed=0)
    batch = collate([blocks[i] for i in range(4)])
    assert batch["input_ids"].shape == (4, LENGTH)
    expected = [list(range(blocks.start(i), blocks.start(i) + LENGTH)) for i in range(4)]
    assert batch["input_ids"].tolist() == expected
    assert batch["labels"].tolist() == expected
    with pytest.raises(IndexError):
        blocks[4]


def test_too_little_text_is_refused(shard: Shard) -> None:
    with pytest.raises(ValueError, match="need at least 1999"):
        TrainingBlocks(shard, 1000, samples=1, seed=0)
    assert len(TrainingBlocks(shard, 500, samples=7, seed=0)) == 7
