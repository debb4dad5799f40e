"""The native module: loading it, and which instruction set its kernels use.

The best level that the processor offers is used unless the environment variable `AERO_KERNELS` names another
(`portable`, `avx2`, `avx512`; on arm64 `portable`, `armv8`). Every level gives the same bytes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

try:
    from aero.kernels import _native
except ImportError as error:
    raise ImportError(
        "the native kernels (aero.kernels._native) are not built: run `pip install .` in the repository"
    ) from error

ENVIRONMENT_VARIABLE = "AERO_KERNELS"


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


_wanted = os.environ.get(ENVIRONMENT_VARIABLE)
if _wanted:
    set_level(_wanted)
