"""Info files: what a folder is, the SHA-256 of every other file that belongs to it ("files"), and of itself ("sha256").

Written last, so that a folder is whole where it has one. A hash finds damage and careless changes; it does not keep out
someone who means to alter the folder, who can write a new hash too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from aero.files.atomic import restore, write_text
from aero.files.reading import present, read_json, unreadable

# By which the folders of runs, of compiled models and of data are known.
INFO_FILES = ("run.json", "compiled.json", "data.json")
AGAIN = "copy the folder again from where it is whole, or make it again"
# What we, transformers or tokenizers read of a folder where it is there. Anything else in it is the user's own.
_READ = (
    *(
        "*config*.json",
        "*.index.json",
        "*.safetensors",
        "*.bin",
        "*.pt",
        "*.pth",
        "*.h5",
        "*.msgpack",
        "*.gguf",
        "*.py",
    ),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges*", "*.model", "chat_template*"),
    "additional_chat_templates",
)


def write(path: Path, data: Mapping[str, Any], names: Iterable[str]) -> None:
    """Write an info file, with the hashes of the files `names` beside it, which must be on the disk (`sync_tree`)."""
    files = {name: file_sha256(path.parent / name) for name in sorted(names)}
    content = json.loads(json.dumps({**data, "files": files}))  # as it will be read
    write_text(path, json.dumps({**content, "sha256": _digest(content)}, indent=1, allow_nan=False) + "\n")


def read(path: Path, remedy: str = AGAIN, version: int | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """What an info file says, and the hashes of the files beside it, which are not looked at yet (see `check`).

    FileNotFoundError where there is none; ValueError, ending in `remedy`, where it is of another format version than
    the given one, or not as it was written.
    """
    if not present(path):
        restore(path.parent)
    try:
        data = read_json(path, f"{path} is missing; {remedy}")
    except ValueError as error:
        raise ValueError(f"{error}; {remedy}") from None
    found = data.get("format_version") if isinstance(data, dict) else None
    if version is not None and found != version:
        raise ValueError(f"{path} has format version {found!r}, and this aero reads {version}; {remedy}")
    if not isinstance(data, dict) or "sha256" not in data:
        raise ValueError(f"{path} has no checksums; {remedy}")
    if data.pop("sha256") != _digest(data):
        raise ValueError(f"{path} is damaged, or was changed after it was written; {remedy}")
    files = data.pop("files", None)
    if not isinstance(files, dict) or not all(_is_inside(name) for name in files):
        raise ValueError(f"{path} does not name its files; {remedy}")
    return data, files


def check(folder: Path, files: Mapping[str, str], remedy: str = AGAIN) -> None:
    """Compare files with their hashes. FileNotFoundError or ValueError name the one that is missing or differs."""
    for name, expected in files.items():
        if not present(folder / name):
            raise FileNotFoundError(f"{folder} has lost {name}; {remedy}")
        if file_sha256(folder / name) != expected:
            raise ValueError(f"{folder / name} is damaged, or was changed after it was written; {remedy}")


def check_nothing_added(folder: Path, known: Collection[str]) -> None:
    """ValueError where something is in `folder` that a loader would read, and that is not known."""
    for path in sorted(folder.iterdir()):
        if path.name not in known and any(fnmatch(path.name, pattern) for pattern in _READ):
            raise ValueError(f"{path} does not belong to what was written there; move it elsewhere")


def verify(folder: Path, names: Collection[str] | None = None) -> dict[str, str] | None:
    """Check the files of one of our folders (or only `names` of them), whatever kind it is.

    The hashes of its files; None where it has no info file, such as a model that somebody else saved.
    """
    for info_file in INFO_FILES:
        if present(folder / info_file):
            _, files = read(folder / info_file)
            check(folder, {name: files[name] for name in files if names is None or name in names})
            return files
    return None


def file_sha256(path: Path) -> str:
    """Fingerprint of a file's content, in hexadecimal. FileNotFoundError where it is missing, else ValueError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        if not present(path):
            raise FileNotFoundError(f"{path} is missing") from None
        raise unreadable(path, error) from None
    except OSError as error:
        raise unreadable(path, error) from None


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
