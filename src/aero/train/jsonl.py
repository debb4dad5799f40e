"""Files of JSON objects, one a line, each with the step that it tells of."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aero.files.reading import present, read_bytes

logger = logging.getLogger(__name__)


def read_rows(path: Path, keys: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The lines of such a file; none where it is not there.

    keys: what each has beside its step. A line without, such as a last one that was cut short, is left out, and named
    in a warning in the log.
    """
    if not present(path):
        return []
    rows = []
    for number, line in enumerate(read_bytes(path, limit=None).splitlines(), start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and isinstance(row.get("step"), int) and row.keys() >= set(keys):
            rows.append(row)
        else:
            logger.warning("%s: line %d is damaged or cut short, and left out", path, number)
    return rows


def last_row(path: Path) -> dict[str, Any] | None:
    """The last line that is whole, of a file to which another process may be writing; None where there is none."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        row = json.loads(lines[-1]) if lines else None
    except (OSError, ValueError):
        return None
    return row if isinstance(row, dict) else None
