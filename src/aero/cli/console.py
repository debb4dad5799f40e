"""Where verbs print their tables."""

from __future__ import annotations

from rich.console import Console

_FILE_WIDTH = 140


def wide_console() -> Console:
    """Standard output; where that is a file or a pipe, wide enough for every table."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    return console
