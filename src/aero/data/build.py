"""From documents to a data folder: read, clean, split, train a tokenizer, encode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from aero.data import corpus, tokenizer
from aero.data.corpus import Document
from aero.data.folder import FILE, TRAIN_FILE, VALID_FILE, DataFolder, SplitInfo, write_info
from aero.data.packing import ShardWriter
from aero.data.settings import BATCH, DataSettings, Progress
from aero.data.streaming import build_streamed
from aero.data.text_files import Skipped
from aero.files.atomic import new_folder


def build(
    out: Path,
    settings: DataSettings | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
    skipped: Skipped | None = None,
) -> DataFolder:
    """Build a data folder at `out`, which appears when it is complete. The same text and settings give the same bytes.

    A data set of Hugging Face is streamed; stopped on the way, the same call goes on where it was. skipped: gets the
    files of folders that are left out. ValueError where `out` exists (unless it is a data folder and `force`), or where
    the sources hold too little text; ConnectionError where the Hub is needed and cannot be reached.
    """
    settings = settings or DataSettings()
    report = on_progress or (lambda stage, done, total: None)
    streamed = settings.hub_data()
    if streamed is not None:
        return build_streamed(out, streamed, settings, force, report)
    with new_folder(out, FILE, force) as folder:
        train, valid = _documents(settings, report, skipped)
        if settings.tokenizer is None:
            sample = corpus.limit(train, int(settings.tokenizer_megabytes * 1e6))
            report("training the tokenizer", 0, 0)
            tokens = tokenizer.train((d.text for d in sample), settings.vocab_size)
        else:
            tokens = tokenizer.find(settings.tokenizer)
        tokens.save(folder / tokenizer.FILE)
        total = sum(d.bytes for d in chain(train, valid))
        write_info(
            folder,
            settings,
            tokens,
            valid=_encode(folder / VALID_FILE, valid, tokens, report, 0, total),
            train=_encode(folder / TRAIN_FILE, train, tokens, report, sum(d.bytes for d in valid), total),
        )
    return DataFolder(out)


def _documents(
    settings: DataSettings, report: Progress, skipped: Skipped | None
) -> tuple[list[Document], list[Document]]:
    def read() -> Iterator[Document]:
        done = 0
        for source in settings.sources:
            for document in corpus.read(source, settings.field, skipped):
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
