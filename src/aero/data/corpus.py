"""Documents: the interpreter's own standard library, installed packages, or local files; cleaned, and split by file or
by package.

A corpus that every machine has: Python's standard library is real code, a few million tokens of it, and needs no
network; what is installed beside it is often ten times as much. Duplicates and generated tables are dropped, because a
model is praised for remembering the first and learns nothing from the second.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import stat
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from aero.data.text_files import JSON_LINES, Skipped, read_json_lines, read_text, suffix_of
from aero.files.reading import present, unreadable

STDLIB, INSTALLED = "stdlib", "installed"
SUFFIXES = (".py", ".pyi", ".txt", ".md", ".rst")  # what is read from a folder
JSON_LINES_IN_FOLDER = (".jsonl", ".ndjson")  # .json is there, as a rule, for settings
MAX_BYTES_IN_FOLDER = 512 * 1024  # a larger file in a folder is nearly always generated; one named by the user is read

_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__", "node_modules"}
_BLANKS = re.compile(r"\s+")
_COMMENTS_AND_BLANKS = re.compile(r"#[^\n]*|\s+")
_LITERAL_LINE = re.compile(r"""[bBuUrR]{0,2}['"]|[-+]?\d|\\x""")
_MIN_TABLE_LINES = 40


@dataclass(frozen=True)
class Document:
    """One file's text. `name` says where it came from and orders the corpus; it is unique within a source. Documents of
    one `group`, such as a package, share names and phrases, and stay together when a corpus is split. None: it is
    alone."""

    name: str
    text: str
    group: str | None = None

    @property
    def is_python(self) -> bool:
        return self.name.endswith((".py", ".pyi"))

    @cached_property
    def bytes(self) -> int:
        """Length in UTF-8."""
        return len(self.text.encode("utf-8"))


def read(source: str | Path, field: str | None = None, skipped: Skipped | None = None) -> Iterator[Document]:
    """The documents of a source: "stdlib", "installed" (it, and the packages beside it), a file, or a folder (searched
    for text files), in a fixed order.

    A file of JSON lines (.jsonl, .ndjson, .json; also .gz) has a document in each line, in `field`, see
    `aero.data.text_files`. Of a folder, what is not UTF-8 text, too large, or cannot be read is left out and noted in
    `skipped`; a single file must be text. FileNotFoundError where the path does not exist, ValueError where it cannot
    be read.
    """
    skipped = Skipped() if skipped is None else skipped
    if str(source) == STDLIB:
        yield from _read_folder(Path(sysconfig.get_path("stdlib")), (".py",), STDLIB, field, skipped)
        return
    if str(source) == INSTALLED:
        yield from _read_installed(skipped)
        return
    path = Path(source)
    if not present(path):
        raise FileNotFoundError(f"no file or folder {str(path)!r} (a source is {STDLIB!r}, {INSTALLED!r} or a path)")
    if path.is_dir():
        suffixes = (*SUFFIXES, *JSON_LINES_IN_FOLDER)
        yield from _read_folder(path, suffixes, path.name or path.resolve().name, field, skipped)
    else:
        yield from _read_file(path, path.name, field)


def _read_file(path: Path, name: str, field: str | None) -> Iterator[Document]:
    if suffix_of(path) not in JSON_LINES:
        yield Document(name, read_text(path))
        return
    for number, text in read_json_lines(path, field):
        yield Document(f"{name}:{number}", text)


def _read_installed(skipped: Skipped) -> Iterator[Document]:
    """Python sources, grouped by module or package of the standard library, and by distribution."""
    for document in read(STDLIB, skipped=skipped):
        yield replace(document, group="/".join(document.name.split("/")[:2]))
    seen: set[str] = set()  # of two with one name, the first is what is imported
    for found in sorted(importlib.metadata.distributions(), key=lambda d: d.metadata["Name"].lower()):
        package = found.metadata["Name"]
        if package in seen:
            continue
        seen.add(package)
        for file in sorted(found.files or (), key=str):
            if file.suffix == ".py" and ".." not in file.parts:  # scripts lie elsewhere
                path, name = Path(str(found.locate_file(file))), f"{package}/{file.as_posix()}"
                for document in _read_one(path, name, None, skipped):
                    yield replace(document, group=package)


def _read_folder(
    root: Path, suffixes: tuple[str, ...], prefix: str, field: str | None, skipped: Skipped
) -> Iterator[Document]:
    for path in sorted(_files(root, skipped)):
        name = "/".join((prefix, *path.relative_to(root).parts))
        if suffix_of(path) not in suffixes:
            if prefix != STDLIB:
                skipped.add(name, f"of another kind than {', '.join(suffixes)}")
            continue
        yield from _read_one(path, name, field, skipped)


def _read_one(path: Path, name: str, field: str | None, skipped: Skipped) -> Iterator[Document]:
    """What one file among many holds."""
    try:
        found = path.stat()
    except OSError as error:
        skipped.add(name, _reason(unreadable(path, error), path))
        return
    whole = suffix_of(path) not in JSON_LINES
    if not stat.S_ISREG(found.st_mode):
        skipped.add(name, "no regular file")
    elif whole and found.st_size > MAX_BYTES_IN_FOLDER:
        skipped.add(name, f"larger than {MAX_BYTES_IN_FOLDER // 1024} KiB; name it as a source to have it")
    elif whole:
        try:
            text = read_text(path)
        except (OSError, ValueError) as error:
            skipped.add(name, _reason(error, path))
            return
        yield Document(name, text)
    else:
        yield from _read_file(path, name, field)


def _files(root: Path, skipped: Skipped) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        skipped.add(str(error.filename), f"cannot be read: {error.strerror}")

    for folder, folders, names in os.walk(root, onerror=refused):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _SKIPPED_FOLDERS]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _reason(error: Exception, path: Path) -> str:
    """What is wrong with a file, without its name, and the same for all files with which the same is wrong."""
    return re.sub(r" \(byte \d+\)|;.*", "", str(error).removeprefix(f"{path} "))


def clean(documents: Iterable[Document]) -> Iterator[Document]:
    """Drop empty documents, generated tables, and repetitions (same text but for comments and blanks)."""
    seen: set[bytes] = set()
    for document in documents:
        core = (_COMMENTS_AND_BLANKS if document.is_python else _BLANKS).sub("", document.text)
        key = hashlib.sha256(core.encode("utf-8")).digest()
        if not core or key in seen or (document.is_python and is_table(document.text)):
            continue
        seen.add(key)
        yield document


def is_table(text: str) -> bool:
    """Whether Python source is mostly a table of literals, as generators write (character maps, entity lists)."""
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    literals = sum(_LITERAL_LINE.match(line) is not None for line in lines)
    return len(lines) >= _MIN_TABLE_LINES and literals > 0.6 * len(lines)


def shuffle(documents: Iterable[Document], seed: int) -> list[Document]:
    """The documents in an order given by the seed and the names alone, not by the order in which they come."""
    return sorted(documents, key=lambda d: hashlib.sha256(f"{seed}:{d.name}".encode()).digest())


def limit(documents: list[Document], max_bytes: int | None) -> list[Document]:
    """The first documents, up to `max_bytes` of UTF-8 in all; what would exceed it is left out. None: all of them.

    Where not one fits, the beginning of the first.
    """
    if max_bytes is None:
        return documents
    kept, total = [], 0
    for document in documents:
        if total + document.bytes <= max_bytes:
            kept.append(document)
            total += document.bytes
    if documents and not kept:
        first = documents[0]
        text = first.text.encode("utf-8")[:max_bytes].decode("utf-8", errors="ignore")
        kept = [Document(first.name, text)]
    return kept


def split(documents: list[Document], valid_fraction: float) -> tuple[list[Document], list[Document]]:
    """Training and validation documents: the first ones, up to that fraction of the bytes, are for validation.

    Shuffle first. No file is on both sides, and no group, except that a single document is cut at a line, its end for
    validation. Groups come in the order of their first documents.
    """
    if not 0 < valid_fraction < 1:
        raise ValueError(f"the fraction for validation is {valid_fraction}; it must lie between 0 and 1")
    if not documents:
        raise ValueError("no text found in the source")
    if len(documents) == 1:
        return _cut(documents[0], valid_fraction)
    groups: dict[str, list[Document]] = {}
    for document in documents:
        groups.setdefault(document.group or document.name, []).append(document)
    sizes = {group: sum(d.bytes for d in several) for group, several in groups.items()}
    budget = valid_fraction * sum(sizes.values())
    chosen = set()
    for group, size in sizes.items():
        if size <= budget:
            chosen.add(group)
            budget -= size
    if not chosen:  # a few large files: the smallest has to do
        chosen = {min(sizes, key=lambda group: sizes[group])}
    if len(chosen) == len(groups):
        raise ValueError("all the text is of one package, which is not divided; use more text")
    train, valid = ([d for d in documents if ((d.group or d.name) in chosen) is wanted] for wanted in (False, True))
    return train, valid


def _cut(document: Document, valid_fraction: float) -> tuple[list[Document], list[Document]]:
    """At the last line end before the place, the last blank, or in a text that has neither near by, right there."""
    text = document.text
    if len(text) < 2:
        raise ValueError(f"{document.name} is too short to be cut into training and validation text")
    wanted = min(max(1, int(len(text) * (1 - valid_fraction))), len(text) - 1)
    ends = (text.rfind(separator, 0, wanted) + 1 for separator in ("\n", " "))
    middle = next((end for end in ends if end > wanted // 2), wanted)
    head, tail = text[:middle], text[middle:]
    return [Document(document.name, head)], [Document(document.name, tail)]
