"""A data folder: tokenizer.json, train.bin, valid.bin, and data.json, which says what they hold."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import aero
from aero.data import tokenizer
from aero.data.packing import Shard, token_dtype
from aero.data.settings import DataSettings
from aero.files import manifest
from aero.files.reading import interpreting, present, typed

FORMAT_VERSION = 2
FILE = "data.json"
TRAIN_FILE = "train.bin"
VALID_FILE = "valid.bin"
_REMEDY = "build the folder again with `aero data`, or copy it again"


@dataclass(frozen=True)
class SplitInfo:
    """One side of the split: number of documents, of bytes of their text in UTF-8, of tokens (END_OF_TEXT included)."""

    documents: int
    bytes: int
    tokens: int


@dataclass(frozen=True)
class DataInfo:
    """What data.json says; its keys are these fields.

    vocab_size: number of token ids.
    end_of_text: id that ends every document.
    dtype: of the shards, as NumPy spells it: "uint16" or "uint32", little-endian.
    sources: where the documents came from.
    seed, valid_fraction, max_megabytes: how they were ordered, split and limited.
    tokenizer_sha256: of tokenizer.json, so that a model is not measured with another's tokens.
    python_version, aero_version: what built the folder (the standard library differs between versions of Python).
    """

    vocab_size: int
    end_of_text: int
    dtype: str
    sources: tuple[str, ...]
    seed: int
    valid_fraction: float
    max_megabytes: float | None
    train: SplitInfo
    valid: SplitInfo
    tokenizer_sha256: str
    python_version: str
    aero_version: str
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.dtype != token_dtype(self.vocab_size).name:
            raise ValueError(f"dtype {self.dtype!r} does not go with a vocabulary of {self.vocab_size}")
        if not 0 <= self.end_of_text < self.vocab_size:
            raise ValueError(f"end_of_text {self.end_of_text} lies outside the vocabulary of {self.vocab_size}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> DataInfo:
        """What `to_json` gave. ValueError where a field is missing or of another type."""
        with interpreting(FILE, _REMEDY):
            found: DataInfo = typed(cls, data)
        return found


class DataFolder:
    """A data folder, opened and checked: `info`, `train`, `valid`, `tokenizer()`.

    FileNotFoundError where there is none; ValueError where it is of another version or a file is not as it was written:
    of a shard the length is looked at now, and its hash when it is first read (about a second for a gigabyte).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            data, self._files = manifest.read(self.path / FILE, _REMEDY, FORMAT_VERSION)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"no data folder at {self.path} ({FILE} is missing); make one with `aero data {self.path}`"
            ) from None
        self.info = DataInfo.from_json(data)
        manifest.check_nothing_added(self.path, {FILE, *self._files})
        self._check(tokenizer.FILE)
        self._train = self._shard(TRAIN_FILE, self.info.train.tokens)
        self._valid = self._shard(VALID_FILE, self.info.valid.tokens)

    @cached_property
    def train(self) -> Shard:
        self._check(TRAIN_FILE)
        return self._train

    @cached_property
    def valid(self) -> Shard:
        self._check(VALID_FILE)
        return self._valid

    @property
    def train_sha256(self) -> str:
        """What train.bin must hold, in one number."""
        return self._files[TRAIN_FILE]

    def _check(self, name: str) -> None:
        manifest.check(self.path, {name: self._files.get(name, "")}, _REMEDY)

    def tokenizer(self) -> tokenizer.Tokenizer:
        return tokenizer.load(self.path)

    def _shard(self, name: str, tokens: int) -> Shard:
        path = self.path / name
        if name not in self._files:
            raise ValueError(f"{self.path / FILE} does not name {name}; {_REMEDY}")
        if not present(path):
            raise FileNotFoundError(f"{path} is missing; {_REMEDY}")
        shard = Shard(path, np.dtype(self.info.dtype).newbyteorder("<"))
        if shard.tokens != tokens:
            raise ValueError(f"{path} holds {shard.tokens} tokens, {FILE} says {tokens}; {_REMEDY}")
        return shard


def write_info(
    folder: Path, settings: DataSettings, tokens: tokenizer.Tokenizer, *, train: SplitInfo, valid: SplitInfo
) -> None:
    """Write data.json into a folder that holds the rest: tokenizer and shards, made from these settings."""
    info = DataInfo(
        vocab_size=tokens.vocab_size,
        end_of_text=tokens.end_of_text,
        dtype=token_dtype(tokens.vocab_size).name,
        sources=settings.sources,
        seed=settings.seed,
        valid_fraction=settings.valid_fraction,
        max_megabytes=settings.max_megabytes,
        train=train,
        valid=valid,
        tokenizer_sha256=manifest.file_sha256(folder / tokenizer.FILE),
        python_version=platform.python_version(),
        aero_version=aero.__version__,
    )
    about = [tokenizer.CONFIG_FILE] if present(folder / tokenizer.CONFIG_FILE) else []
    manifest.write(folder / FILE, info.to_json(), (tokenizer.FILE, *about, TRAIN_FILE, VALID_FILE))
