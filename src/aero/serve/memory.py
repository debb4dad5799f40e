"""Memory that a process has freed and its C library keeps, for whoever comes next."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Return it to the system, where the library can be asked to (glibc; others return it by themselves, or cannot).

    After a step that is a third of what a session holds, which it would keep until the next step, minutes perhaps.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
