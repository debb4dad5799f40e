"""What others publish, kept on this machine by its SHA-256, so that it is not fetched again."""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path

from aero.files.atomic import replacing
from aero.files.reading import read_bytes

MAX_BYTES = 1 << 30


def user_cache() -> Path:
    """The user's folder for what can be fetched again: $XDG_CACHE_HOME/aero, or where the system has it."""
    home = Path(os.path.expanduser("~")) / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else home) / "aero"


class Cache:
    """Files in a folder, each named by the SHA-256 of what it holds, `most` bytes in all.

    It only saves time: a folder that cannot be written keeps nothing, and what was changed there is not found.
    """

    def __init__(self, folder: Path, most: int = MAX_BYTES) -> None:
        self._folder, self._most = folder, most

    def read(self, digest: str, size: int) -> bytes | None:
        """What has this digest (lower-case hexadecimal) and size, where it is kept as it was."""
        path = self._folder / digest
        try:
            data = read_bytes(path, limit=size)
        except (FileNotFoundError, ValueError):
            return None
        if hashlib.sha256(data).hexdigest() != digest:
            return None
        with suppress(OSError):
            os.utime(path)
        return data

    def write(self, data: bytes) -> None:
        """Keep it; what was not read for the longest time makes room."""
        if len(data) > self._most or not self._folder.is_absolute():  # of a user who has no home
            return
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept = [(path.stat(), path) for path in self._folder.iterdir() if path.is_file()]
            room = self._most - len(data) - sum(found.st_size for found, _ in kept)
            for found, path in sorted(kept, key=lambda one: one[0].st_mtime_ns):
                if room >= 0:
                    break
                path.unlink()
                room += found.st_size
            with replacing(self._folder / hashlib.sha256(data).hexdigest()) as temporary:
                temporary.write_bytes(data)
