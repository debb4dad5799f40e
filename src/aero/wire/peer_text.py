"""Text that the other side chose, made safe to show: a terminal obeys the control characters in it."""

from __future__ import annotations

import re

REPLACEMENT = "\ufffd"
MAX_LINE = 200

# Control characters but newline and tab, line separators, and what turns the direction of the text that follows.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str, limit: int = MAX_LINE) -> str:
    """What a peer says, for a message or a name: each character that is not printable replaced, cut to `limit`."""
    return "".join(c if c.isprintable() else REPLACEMENT for c in text[:limit])


def safe_text(text: str) -> str:
    """Text of any length, such as a model's: newlines and tabs stay, other control characters are replaced."""
    return _UNSAFE.sub(REPLACEMENT, text)
