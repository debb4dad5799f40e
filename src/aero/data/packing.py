"""Token ids on disk: one long row of small integers, memory-mapped, read in blocks of the context length."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from aero.files.reading import unreadable


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest of uint16 and uint32 (little-endian) that holds every id of a vocabulary."""
    if not 0 < vocab_size <= 1 << 32:
        raise ValueError(f"a vocabulary of {vocab_size} does not fit in 32 bits")
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


class ShardWriter:
    """Writes documents one after another, END_OF_TEXT after each; the file takes its name when the block ends well.

    after: None for a new file; else the file is there in part, is good up to so many tokens, and is continued in place.
    ValueError where it holds fewer.
    """

    def __init__(self, path: Path, vocab_size: int, end_of_text: int, after: int | None = None) -> None:
        self.tokens = after or 0
        self._path = path
        self._vocab_size = vocab_size
        self._dtype = token_dtype(vocab_size)
        self._end = end_of_text
        self._in_place = after is not None
        self._temporary = path if self._in_place else path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def __enter__(self) -> ShardWriter:
        self._file = self._temporary.open("ab" if self._in_place else "wb")
        good = self.tokens * self._dtype.itemsize
        if self._file.tell() < good:
            self._file.close()
            raise ValueError(f"{self._path} is shorter than the {self.tokens} tokens it is said to hold; delete it")
        self._file.truncate(good)
        return self

    def write(self, ids: Iterable[int]) -> None:
        """Add one document."""
        row = np.asarray([*ids, self._end], dtype=np.int64)
        if row.min() < 0 or row.max() >= self._vocab_size:
            raise ValueError(f"a token id lies outside the vocabulary of {self._vocab_size}")
        self._file.write(row.astype(self._dtype).tobytes())
        self.tokens += len(row)

    def flush(self) -> None:
        """Bring what was written to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._in_place:
            return
        if kind is None:
            os.replace(self._temporary, self._path)
        else:
            self._temporary.unlink(missing_ok=True)


class Shard:
    """A written row of token ids, read without loading it. `tokens`: how many there are."""

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        try:
            size = path.stat().st_size if path.is_file() else 0
        except OSError as error:
            raise unreadable(path, error) from None
        if size == 0 or size % dtype.itemsize:
            raise ValueError(f"{path} holds {size} bytes, which is not a row of {dtype.itemsize}-byte token ids")
        self.path = path
        self._ids = np.memmap(path, dtype=dtype, mode="r")

    @property
    def tokens(self) -> int:
        return len(self._ids)

    def read(self, start: int, length: int) -> NDArray[np.int64]:
        """`length` ids from position `start`: [length]."""
        if not 0 <= start <= self.tokens - length:
            raise IndexError(f"{length} tokens from {start} exceed the {self.tokens} of {self.path}")
        return self._ids[start : start + length].astype(np.int64)

    def blocks(self, length: int) -> int:
        """How many blocks of `length` fit side by side."""
        return self.tokens // length

    def block(self, index: int, length: int) -> NDArray[np.int64]:
        """Block `index` of those: [length]."""
        return self.read(index * length, length)
