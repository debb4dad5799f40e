"""One writer at a time: advisory locks (flock), which end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = ".lock"
_WITHOUT = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF)


class AtWorkError(ValueError):
    """Another process holds the lock of a folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which must exist, within this block. AtWorkError where another process holds it.

    A folder keeps its lock when it is renamed. The lock file stays: one that goes away could be held twice. Where the
    file system has no locks, or the folder may not be written, nothing is held.
    """
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        yield
        return
    try:
        if not _take(descriptor):
            raise AtWorkError(f"another process is at work in {folder}; wait until it ends, or choose another folder")
        yield
    finally:
        os.close(descriptor)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Mark a temporary folder, within this block, as belonging to a process that lives; see `is_abandoned`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _take(descriptor)
        yield
    finally:
        os.close(descriptor)


def is_abandoned(folder: Path) -> bool:
    """Whether the process that claimed a temporary folder is gone. False where that cannot be told."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        return _take(descriptor, without=False)
    finally:
        os.close(descriptor)


def _take(descriptor: int, without: bool = True) -> bool:
    """Whether we have the lock now. without: the answer where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _WITHOUT:
            return without
        raise
    return True
