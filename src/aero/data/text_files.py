"""Text as people have it on disk: UTF-8, perhaps compressed, or JSON lines with a text in each.

A byte-order mark is no part of a text, and line ends become newlines. What is not text is refused by a name for it, and
a folder's files that are left out are kept account of.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aero.files.reading import present, unreadable

FIELDS = ("text", "content", "code")  # where texts usually are, in order of preference
JSON_LINES = (".jsonl", ".ndjson", ".json")
GZIP = ".gz"
_SHOWN = 5  # names of skipped files in a line


@dataclass
class Skipped:
    """Files that were not read. by_reason: their names, by what is wrong with them."""

    by_reason: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, reason: str) -> None:
        self.by_reason.setdefault(reason, []).append(name)

    @property
    def lines(self) -> list[str]:
        """For each reason how many files, and the first of them by name."""
        found = []
        for reason, names in self.by_reason.items():
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            files = "1 file" if len(names) == 1 else f"{len(names)} files"
            found.append(f"skipped {files} ({reason}): {', '.join(names[:_SHOWN])}{more}")
        return found


def suffix_of(path: Path) -> str:
    """The suffix that tells what a file holds, without that of its compression."""
    return (path.with_suffix("") if path.suffix == GZIP else path).suffix


def read_text(path: Path) -> str:
    """The text of a file. FileNotFoundError, or ValueError where it cannot be read or is no text in UTF-8."""
    data = _read(path)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path} is not UTF-8 but UTF-16 text; convert it, as by `iconv -f UTF-16 -t UTF-8`")
    if b"\x00" in data:
        raise ValueError(f"{path} is binary, not text: it holds null bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}); convert it, as by `iconv`") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json_lines(path: Path, name: str | None = None) -> Iterator[tuple[int, str]]:
    """The texts of a file with a JSON object in each line that is not empty, with the numbers of their lines, from 1.

    name: the field of the texts; None: the first of `FIELDS` that the first object has, or else its only text.
    ValueError, naming the line, for one that is no object, or has no such text.
    """
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            remedy = "give it another suffix if it is plain text" if number == 1 else "each line is an object"
            raise ValueError(f"{path}, line {number}: not JSON; {remedy}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: not a JSON object")
        name = name or _field(row)
        text = row.get(name) if name else None
        if not isinstance(text, str):
            wanted = f"no text in a field {name!r}" if name else "no field that is known to be the text"
            has = ", ".join(map(repr, row)) or "none"
            raise ValueError(f"{path}, line {number}: {wanted}; its fields are {has[:200]}; name one with --field")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError(f"{path}, line {number}: the text is not Unicode (it has a lone surrogate)")
        yield number, text


def _field(row: dict[str, object]) -> str | None:
    texts = [key for key, value in row.items() if isinstance(value, str)]
    known = [key for key in FIELDS if key in texts]
    return known[0] if known else texts[0] if len(texts) == 1 else None


def _read(path: Path) -> bytes:
    if not present(path):
        raise FileNotFoundError(f"{path} does not exist")
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == GZIP else data
    except gzip.BadGzipFile:
        raise ValueError(f"{path} is not compressed by gzip, as its name says") from None
    except (EOFError, zlib.error):
        raise ValueError(f"{path} is cut short or damaged; compress it again") from None
    except OSError as error:
        raise unreadable(path, error) from None
