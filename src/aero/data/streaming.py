"""A data folder from a stream of texts, larger than memory: one pass, written as it comes, and taken up again.

While it is being built it lies beside its place, as .NAME.partial, with position.json: how far the shards are good and
where in the stream the next text stands. Nothing is reordered: training reads the blocks of a shard in shuffled order.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from aero.data import tokenizer
from aero.data.folder import FILE, TRAIN_FILE, VALID_FILE, DataFolder, SplitInfo, write_info
from aero.data.hub import HubData, HubTexts, open_streams
from aero.data.packing import ShardWriter
from aero.data.settings import BATCH, DataSettings, Progress
from aero.files.atomic import check_replaceable, replace_folder, write_text
from aero.files.lock import LOCK_FILE, locked

POSITION_FILE = "position.json"
SAVE_EVERY = 64 * BATCH  # documents from one saved position to the next
_EMPTY = SplitInfo(0, 0, 0)


@dataclass(frozen=True)
class _Position:
    """How far a build is. seen: texts taken from the stream `reading` ("valid", "train"); state: of that stream."""

    reading: str = "valid"
    seen: int = 0
    state: dict[str, Any] | None = None
    train: SplitInfo = _EMPTY
    valid: SplitInfo = _EMPTY


def build_streamed(out: Path, data: HubData, settings: DataSettings, force: bool, report: Progress) -> DataFolder:
    """See `aero.data.build.build`; `data` is what `settings.sources` names."""
    out = Path(os.path.realpath(out))
    check_replaceable(out, FILE, force)
    partial = out.with_name(f".{out.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    with locked(partial):
        _fill(partial, data, settings, report)
        (partial / POSITION_FILE).unlink()
        (partial / LOCK_FILE).unlink(missing_ok=True)
        replace_folder(partial, out)
    return DataFolder(out)


def _fill(partial: Path, data: HubData, settings: DataSettings, report: Progress) -> None:
    """All but the last step, in the folder `partial`."""
    position = _open(partial, settings)
    train, valid = open_streams(data)
    tokens = _tokenizer(partial, settings, train, report)
    writers = {
        name: ShardWriter(partial / name, tokens.vocab_size, tokens.end_of_text, after=split.tokens)
        for name, split in ((TRAIN_FILE, position.train), (VALID_FILE, position.valid))
    }
    with writers[TRAIN_FILE] as train_writer, writers[VALID_FILE] as valid_writer:
        build = _Build(partial, settings, tokens, train_writer, valid_writer, report, position)
        if position.reading == "valid":
            if valid is not None:
                build.read_valid(valid)
            build.position = replace(build.position, reading="train", seen=0, state=None)
            build.save()
        build.read_train(train, own_valid=valid is not None)
        build.save()
    done = build.position
    for name, split in (("training", done.train), ("validation", done.valid)):
        if split.tokens == 0:
            raise ValueError(f"{settings.sources[0]} gave no {name} text; use another, or more of it")
    write_info(partial, settings, tokens, train=done.train, valid=done.valid)


def _open(partial: Path, settings: DataSettings) -> _Position:
    """The position of an unfinished build with these settings, or of a new one."""
    try:
        found = json.loads((partial / POSITION_FILE).read_text(encoding="utf-8"))
        if found["settings"] == json.loads(json.dumps(asdict(settings))):
            train, valid = (SplitInfo(**found["position"].pop(name)) for name in ("train", "valid"))
            return _Position(**found["position"], train=train, valid=valid)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none, or one that cannot be used
    for path in partial.iterdir():
        if path.name != LOCK_FILE:
            path.unlink()
    return _Position()


def _tokenizer(partial: Path, settings: DataSettings, train: HubTexts, report: Progress) -> tokenizer.Tokenizer:
    if (partial / tokenizer.FILE).exists():
        return tokenizer.load(partial)
    if settings.tokenizer is not None:
        tokens = tokenizer.find(settings.tokenizer)
    else:
        report("training the tokenizer", 0, 0)
        tokens = tokenizer.train(_beginning(train, int(settings.tokenizer_megabytes * 1e6)), settings.vocab_size)
    tokens.save(partial / tokenizer.FILE)
    return tokens


def _beginning(texts: HubTexts, max_bytes: int) -> Iterator[str]:
    left = max_bytes
    for text in texts:
        yield text
        left -= len(text.encode("utf-8"))
        if left <= 0:
            return


@dataclass
class _Build:
    folder: Path
    settings: DataSettings
    tokens: tokenizer.Tokenizer
    train: ShardWriter
    valid: ShardWriter
    report: Progress
    position: _Position

    def read_valid(self, stream: HubTexts) -> None:
        limit = None if self._limit is None else int(self._limit * self.settings.valid_fraction)
        self._read(stream, lambda: limit is not None and self.position.valid.bytes >= limit)

    def read_train(self, stream: HubTexts, own_valid: bool) -> None:
        limit = self._limit
        self._read(stream, lambda: limit is not None and self.position.train.bytes >= limit, split=not own_valid)

    def save(self) -> None:
        self.train.flush()
        self.valid.flush()
        state = {"settings": asdict(self.settings), "position": asdict(self.position)}
        write_text(self.folder / POSITION_FILE, json.dumps(state) + "\n")

    @property
    def _limit(self) -> int | None:
        return None if self.settings.max_megabytes is None else int(self.settings.max_megabytes * 1e6)

    def _read(self, stream: HubTexts, full: Callable[[], bool], split: bool = False) -> None:
        """Encode and write the texts of a stream, a batch at a time, until it ends or `full`.

        split: set some aside for validation.
        """
        if self.position.state is not None:
            stream.go_to(self.position.state)
        source = iter(stream)
        while not full() and (texts := list(islice(source, BATCH))):
            here = self.position
            found = {"train": here.train, "valid": here.valid}
            for index, (text, ids) in enumerate(zip(texts, self.tokens.encode_batch(texts), strict=True)):
                if not text:
                    continue
                aside = self._is_valid(here.seen + index) if split else here.reading == "valid"
                name, writer = ("valid", self.valid) if aside else ("train", self.train)
                writer.write(ids)
                old = found[name]
                found[name] = SplitInfo(old.documents + 1, old.bytes + len(text.encode("utf-8")), writer.tokens)
            self.position = replace(here, seen=here.seen + len(texts), state=stream.state())
            self.position = replace(self.position, train=found["train"], valid=found["valid"])
            self.report(f"encoding ({here.reading})", self.position.train.bytes, self._limit or 0)
            if self.position.seen % SAVE_EVERY < BATCH:
                self.save()

    def _is_valid(self, index: int) -> bool:
        """Whether a document is set aside, by its number alone."""
        digest = hashlib.sha256(f"{self.settings.seed}:{index}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.settings.valid_fraction * 2**64
