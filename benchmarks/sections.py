"""Parts of a page that a command writes: what stands between two marks, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from aero.files.atomic import write_text


def table(header: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> list[str]:
    """Lines of a Markdown table whose first columns are words, and the others numbers."""
    rule = ["---"] * words + ["---:"] * (len(header) - words)
    return ["| " + " | ".join(row) + " |" for row in (header, rule, *rows)]


def write_section(path: Path, name: str, text: str) -> None:
    """Replace the section of this name, atomically; append it where there is none. Makes the file where it is not."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    whole = path.read_text(encoding="utf-8") if path.is_file() else "# Results\n"
    block = f"{begin}\n{text}\n{end}"
    if begin in whole:
        before, rest = whole.split(begin, 1)
        whole = before + block + rest.split(end, 1)[1]
    else:
        whole = f"{whole.rstrip()}\n\n{block}\n"
    write_text(path, whole)
