"""The native module: loading it, which instruction set its kernels use, and how many threads.

The best level that the processor offers is used unless the environment variable `AERO_KERNELS` names another
(`portable`, `avx2`, `avx512`; on arm64 `portable`, `armv8`). Every level gives the same bytes.

One thread is used unless the environment variable `AERO_THREADS` or `set_threads` says otherwise: lattice encryption,
products, responses and decryption, products in slots, ring products, and the trees, codes and pads of oblivious
transfer are then split, where there is enough of them. Every number of threads gives the same bytes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

try:
    from aero.kernels import _native
except ImportError as error:
    raise ImportError(
        "the native kernels (aero.kernels._native) are not built: run `make venv` or `pip install .` in the repository"
    ) from error

ENVIRONMENT_VARIABLE = "AERO_KERNELS"
THREADS_VARIABLE = "AERO_THREADS"
MAX_THREADS = 1024


def available_levels() -> list[str]:
    """The instruction-set levels that this processor can run, slowest first."""
    return _native.available_levels()


def level() -> str:
    """The instruction-set level in use, in all threads."""
    return _native.level()


def set_level(name: str) -> None:
    """Use the level `name` from now on, in all threads. ValueError if this processor cannot run it."""
    if name not in available_levels():
        raise ValueError(f"kernel level {name!r} is not available here: use one of {', '.join(available_levels())}")
    _native.set_level(name)


@contextmanager
def use_level(name: str) -> Iterator[None]:
    """Use the level `name` inside a `with` block. Not for concurrent use: the level is one per process."""
    before = level()
    set_level(name)
    try:
        yield
    finally:
        set_level(before)


def threads() -> int:
    """How many threads one call of a kernel may use, the calling one included."""
    return _native.threads()


def set_threads(count: int) -> None:
    """Let each call of a kernel use up to `count` threads from now on, 1 to 1024: process-wide. ValueError otherwise.

    More than the processor has cores is of no use, and calls that run at the same time may each use as many.
    """
    if not 1 <= count <= MAX_THREADS:
        raise ValueError(f"kernels can use 1 to {MAX_THREADS} threads, not {count}")
    _native.set_threads(count)


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Let kernels use up to `count` threads inside a `with` block. Not for concurrent use, like `use_level`."""
    before = threads()
    set_threads(count)
    try:
        yield
    finally:
        set_threads(before)


_wanted = os.environ.get(ENVIRONMENT_VARIABLE)
if _wanted:
    set_level(_wanted)
_count = os.environ.get(THREADS_VARIABLE)
if _count:
    if not _count.isdecimal():
        raise ValueError(f"{THREADS_VARIABLE} is {_count!r}: give a number of threads")
    set_threads(int(_count))
