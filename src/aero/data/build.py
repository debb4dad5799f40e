"""From documents to a data folder: read, clean, split, train a tokenizer, encode."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import aero
from aero.data import corpus, tokenizer
from aero.data.atomic import new_folder, write_text
from aero.data.corpus import Document
from aero.data.folder import FILE, TRAIN_FILE, VALID_FILE, DataFolder, DataInfo, SplitInfo, file_sha256
from aero.data.packing import ShardWriter, token_dtype

BATCH = 64  # documents encoded at a time
Progress = Callable[[str, int, int], None]  # stage, bytes done, bytes in all (0: not known)


@dataclass(frozen=True)
class DataSettings:
    """How to build a data folder."""

    sources: tuple[str, ...] = (corpus.STDLIB,)
    """ "stdlib", files, folders."""
    vocab_size: int = 4096
    """Number of token ids to aim at."""
    valid_fraction: float = 0.05
    """Share of the bytes kept for validation, in whole files."""
    max_megabytes: float | None = None
    """Limit on the text used, in 10^6 bytes; None: all of it."""
    seed: int = 0
    """Decides the order of the documents, and so which are used and which are for validation."""
    tokenizer_megabytes: float = 8.0
    """How much of the training text the tokenizer is trained on, in 10^6 bytes."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("name at least one source")
        if self.vocab_size < tokenizer.MIN_VOCAB:
            raise ValueError(f"a vocabulary of {self.vocab_size} is too small; it needs at least {tokenizer.MIN_VOCAB}")
        if not 0 < self.valid_fraction < 1:
            raise ValueError(f"the fraction for validation is {self.valid_fraction}; it must lie between 0 and 1")
        for name in ("max_megabytes", "tokenizer_megabytes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0")


def build(
    out: Path, settings: DataSettings | None = None, force: bool = False, on_progress: Progress | None = None
) -> DataFolder:
    """Build a data folder at `out`, which appears when it is complete. The same text and settings give the same bytes.

    ValueError where `out` exists (unless it is a data folder and `force`), or where the sources hold too little text.
    """
    settings = settings or DataSettings()
    report = on_progress or (lambda stage, done, total: None)
    with new_folder(out, FILE, force) as folder:
        train, valid = _documents(settings, report)
        sample = corpus.limit(train, int(settings.tokenizer_megabytes * 1e6))
        report("training the tokenizer", 0, 0)
        tokens = tokenizer.train((d.text for d in sample), settings.vocab_size)
        tokens.save(folder / tokenizer.FILE)
        total = sum(d.bytes for d in chain(train, valid))
        info = DataInfo(
            vocab_size=tokens.vocab_size,
            end_of_text=tokens.end_of_text,
            dtype=token_dtype(tokens.vocab_size).name,
            sources=settings.sources,
            seed=settings.seed,
            valid_fraction=settings.valid_fraction,
            max_megabytes=settings.max_megabytes,
            valid=_encode(folder / VALID_FILE, valid, tokens, report, 0, total),
            train=_encode(folder / TRAIN_FILE, train, tokens, report, sum(d.bytes for d in valid), total),
            tokenizer_sha256=file_sha256(folder / tokenizer.FILE),
            python_version=platform.python_version(),
            aero_version=aero.__version__,
        )
        write_text(folder / FILE, json.dumps(info.to_json(), indent=2) + "\n")
    return DataFolder(out)


def _documents(settings: DataSettings, report: Progress) -> tuple[list[Document], list[Document]]:
    def read() -> Iterator[Document]:
        done = 0
        for source in settings.sources:
            for document in corpus.read(source):
                done += document.bytes
                report("reading", done, 0)
                yield document

    documents = corpus.shuffle(corpus.clean(read()), settings.seed)
    max_bytes = None if settings.max_megabytes is None else int(settings.max_megabytes * 1e6)
    return corpus.split(corpus.limit(documents, max_bytes), settings.valid_fraction)


def _encode(
    path: Path, documents: Sequence[Document], tokens: tokenizer.Tokenizer, report: Progress, before: int, total: int
) -> SplitInfo:
    done = 0
    with ShardWriter(path, tokens.vocab_size, tokens.end_of_text) as writer:
        for start in range(0, len(documents), BATCH):
            batch = documents[start : start + BATCH]
            for ids in tokens.encode_batch([d.text for d in batch]):
                writer.write(ids)
            done += sum(d.bytes for d in batch)
            report("encoding", before + done, total)
    return SplitInfo(len(documents), done, writer.tokens)
