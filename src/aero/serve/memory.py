"""Memory that a process has freed and its C library keeps, for whoever comes next."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE = 4 << 20


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
