"""Files and folders that are there in full or not at all, also when the program is stopped half-way."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file's path, for the block to write; it takes the place of `path` in one step if the block ends well,
    else goes away."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file in one step: a reader sees the old text or the new one."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_replaceable(folder: Path, marker: str, force: bool) -> None:
    """Refuse to put something in place of `folder` unless it is absent or empty, or `force` and made by us.

    `marker` is the file by which a folder of this kind is known; without it even `force` replaces nothing.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; choose another name for the folder")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / marker).is_file():
        raise ValueError(f"{folder} exists and holds something else (no {marker} in it); choose another folder")
    if not force:
        raise ValueError(f"{folder} exists already; choose another folder, or --force to replace it")


@contextmanager
def new_folder(folder: Path, marker: str, force: bool = False) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name and place when the block ends well, else goes away."""
    check_replaceable(folder, marker, force)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        if folder.exists() and any(folder.iterdir()):
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
            os.rename(folder, old)
            os.rename(temporary, folder)
            shutil.rmtree(old)
        else:
            os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
