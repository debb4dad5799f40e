"""Memory of this process, and of this machine."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE = 4 << 20
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Of a container, of either version of control groups."""


def of_machine() -> int:
    """Bytes that this machine has, or the container in which this process runs."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _LIMITS:
        with suppress(OSError, ValueError):  # no such control group, or no limit: "max"
            found.append(int(Path(path).read_text()))
    return min(found)


def peak() -> int:
    """The most bytes that this process held at once, pages of files included."""
    with suppress(OSError, StopIteration):  # not Linux; there getrusage counts from before exec
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def keep_little() -> None:
    """Have the C library return what is large at once when it is freed, where it can be asked to (glibc).

    It would move the limit for that up to 32 MB by itself, and then keep a session's arrays in a heap with holes: a
    fifth more at its peak, for no less time.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)


def give_back() -> None:
    """Return it to the system, where the library can be asked to (glibc; others return it by themselves, or cannot).

    After a step that is a third of what a session holds, which it would keep until the next step, minutes perhaps.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
