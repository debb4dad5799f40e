"""Standard input and output, as verbs share them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import typer

from aero.report import record

_MARK = "\ufeff"  # at the beginning of what some programs write


def prepare() -> None:
    """What cannot be read or written as UTF-8 is no error of the stream: who takes the text finds what is wrong."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)


def read_all() -> str:
    """Standard input to its end. ValueError where it is closed."""
    if sys.stdin is None:
        raise ValueError("standard input is closed; there is nothing to read")
    return without_mark(sys.stdin.read())


def without_mark(text: str) -> str:
    return text.removeprefix(_MARK)


def json_only(context: typer.Context, path: object) -> object:
    """Callback of `--json`: where it is "-", standard output has the JSON and nothing else, when the verb has ended."""
    if path == record.STANDARD_OUTPUT and not context.resilient_parsing:
        context.with_resource(_json_on_standard_output())
    return path


@contextmanager
def _json_on_standard_output() -> Iterator[None]:
    """Meanwhile what goes to standard output goes to standard error, also from other processes that we start."""
    output = sys.stdout
    with suppress(OSError, ValueError, AttributeError):
        output.flush()
    own = -1
    with suppress(OSError, ValueError, AttributeError):  # not a file: a test's
        if output.fileno() == 1:
            own = os.dup(1)
            os.dup2(2, 1)
    sys.stdout, record.captured = sys.stderr, []
    try:
        yield
    finally:
        captured, sys.stdout, record.captured = record.captured, output, None
        if own >= 0:
            os.dup2(own, 1)
            os.close(own)
        if captured:
            output.write(captured[-1])  # a verb may write a file several times
            output.flush()


def finish() -> None:
    """Write out what waits. Whoever read it may have gone, as in `aero cost | head`: then that is the quiet end."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for Python's own last flush
