"""Files and folders that are there in full or not at all, also when the program is stopped or the disk is full.

What is new is written beside its place, brought to the disk, and takes the place in one step. Of a process that was
killed a hidden folder .NAME.xxxxxxxx.tmp may stay, which the next one that writes NAME removes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aero.files.lock import LOCK_FILE, claimed, is_abandoned, locked

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
_RENAME_SWAP = 2  # macOS, sys/stdio.h
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file's path, for the block to write; it takes the place of `path` in one step if the block ends well,
    else goes away. A device or a pipe, which has no place to take, is written itself."""
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file in one step: a reader sees the old text or the new text."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Bring a file's content, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno not in _UNSUPPORTED:  # some file systems have no fsync of folders
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Bring a folder, and all that is in it, to the disk."""
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            sync(path)


def is_occupied(folder: Path) -> bool:
    """Whether there is something in `folder`."""
    return folder.is_dir() and any(path.name != LOCK_FILE for path in folder.iterdir())


def check_replaceable(folder: Path, marker: str, force: bool) -> None:
    """Refuse to put something in place of `folder` unless it is absent or empty, or `force` and made by us.

    `marker` is the file by which a folder of this kind is known; without it even `force` replaces nothing.
    """
    restore(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; choose another name for the folder")
    if not is_occupied(folder):
        return
    if not (folder / marker).is_file():
        raise ValueError(f"{folder} exists and holds something else (no {marker} in it); choose another folder")
    if not force:
        raise ValueError(f"{folder} exists already; choose another folder, or --force to replace it")


@contextmanager
def new_folder(folder: Path, marker: str, force: bool = False) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name and place when the block ends well, else goes away.

    What is there stays until then, and stays whole if the block fails. ValueError as in `check_replaceable`, and where
    another process is at work in it.
    """
    folder = Path(os.path.realpath(folder))
    check_replaceable(folder, marker, force)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder), beside(folder) as temporary:
        yield temporary
        check_replaceable(folder, marker, force)  # another process may have been quicker
        replace_folder(temporary, folder)


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, which is gone after the block unless that gave it another name.

    Those that killed processes left are removed.
    """
    for left in folder.parent.glob(f".{_escaped(folder.name)}.*.tmp"):
        if is_abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        with claimed(temporary):
            temporary.chmod(0o777 & ~_umask())
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, folder: Path) -> None:
    """Give the folder `new` the name `folder`, on the same disk, in one step; what had that name is removed.

    Where the system cannot exchange two names, the old folder is called .NAME.old for a moment, and `restore` puts it
    back if the process dies in that moment.
    """
    sync_tree(new)
    if not is_occupied(folder):
        (folder / LOCK_FILE).unlink(missing_ok=True)
        try:
            os.rename(new, folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise ValueError(f"another process has made {folder} meanwhile; --force to replace it") from None
    elif _exchange(new, folder):
        shutil.rmtree(new, ignore_errors=True)
    else:
        old = folder.with_name(f".{folder.name}.old")
        with claimed(folder):
            os.rename(folder, old)
            os.rename(new, folder)
        shutil.rmtree(old)
    sync(folder.parent)


def restore(folder: Path) -> None:
    """Put back what a process that died within `replace_folder` had moved aside."""
    folder = Path(os.path.realpath(folder))
    old = folder.with_name(f".{folder.name}.old")
    if not is_abandoned(old):
        return
    if is_occupied(folder):
        shutil.rmtree(old)
    else:
        os.rename(old, folder)


@contextmanager
def set_aside(folder: Path) -> Iterator[None]:
    """Move `folder` aside within this block, for one that must be made in its place; afterwards the old one is removed.

    If the block fails, what it made is removed and the old one is put back: then, or, where the process was killed,
    when this is called the next time. Without an old folder, what the block made stays in any case.
    """
    folder = Path(os.path.realpath(folder))
    old = folder.with_name(f".{folder.name}.aside")
    if is_abandoned(old):
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(old, folder)
    if not folder.exists():
        yield
        return
    with claimed(folder):
        os.rename(folder, old)
        try:
            yield
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(old, folder)
            raise
        shutil.rmtree(old)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    if is_occupied(folder):
        with locked(folder):
            yield
    else:
        yield


def _exchange(first: Path, other: Path) -> bool:
    """Let two folders change names in one step; False where the system cannot."""
    library = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(first), os.fsencode(other)
    try:
        if sys.platform == "darwin":
            failed = library.renamex_np(*paths, _RENAME_SWAP)
        else:
            failed = library.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE)
    except AttributeError:
        return False
    if failed and ctypes.get_errno() not in _UNSUPPORTED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
    return not failed


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
