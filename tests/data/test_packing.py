"""Rows of token ids on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aero.data.packing import Shard, ShardWriter, token_dtype


def test_smallest_type_that_holds_the_vocabulary() -> None:
    assert token_dtype(65536) == np.uint16
    assert token_dtype(65537) == np.uint32
    with pytest.raises(ValueError, match="32 bits"):
        token_dtype(1 << 33)


@pytest.mark.parametrize("vocab", [1000, 100_000])
def test_documents_come_back_with_their_ends(tmp_path: Path, vocab: int) -> None:
    path = tmp_path / "x.bin"
    with ShardWriter(path, vocab, end_of_text=0) as writer:
        writer.write([5, vocab - 1])
        writer.write([])
        writer.write(range(1, 6))
        assert not path.exists()
    assert writer.tokens == 10
    shard = Shard(path, token_dtype(vocab))
    assert shard.tokens == 10
    assert shard.read(0, 10).tolist() == [5, vocab - 1, 0, 0, 1, 2, 3, 4, 5, 0]
    assert shard.blocks(4) == 2
    assert shard.block(1, 4).tolist() == [1, 2, 3, 4]
    assert shard.block(1, 4).dtype == np.int64
    for start in (-1, 7):
        with pytest.raises(IndexError, match="exceed"):
            shard.read(start, 4)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="outside the vocabulary"), ShardWriter(tmp_path / "x.bin", 300, 0) as writer:
        writer.write([1, 2])
        writer.write([300])
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"\0\0\0"):
        (tmp_path / "x.bin").write_bytes(content)
        with pytest.raises(ValueError, match="not a row"):
            Shard(tmp_path / "x.bin", np.dtype("uint16"))
