"""What a peer says, made safe to show."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from aero.wire import one_line, safe_text

# What the other side could say to a terminal: clear it, rename its window, in 8-bit form; and turn text around.
ORDERS = ("\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\x08\x08", "\r", "\x7f", "\u202e", "\u2066", "\u2028")


@given(st.text(max_size=30) | st.sampled_from(ORDERS), st.integers(0, 40))
def test_one_line_is_printable_and_short(text: str, limit: int) -> None:
    shown = one_line(text, limit)
    assert shown.isprintable() and len(shown) == min(len(text), limit)
    assert all(a in (b, "\ufffd") for a, b in zip(shown, text, strict=False))
    if text.isprintable():
        assert shown == text[:limit]
    assert len(one_line(text * 30)) <= 200


@given(st.text())
def test_text_keeps_what_no_terminal_obeys(text: str) -> None:
    shown = safe_text(text)
    assert len(shown) == len(text)
    for before, after in zip(text, shown, strict=True):
        if unicodedata.category(before) in ("Cc", "Cs") and before not in "\n\t":
            assert after == "\ufffd"
        elif unicodedata.category(before)[0] in "LMNPS" or before in "\n\t \xa0\u200d":
            assert after == before


def test_nothing_of_an_order_is_left() -> None:
    for order in ORDERS:
        assert order[0] not in safe_text(order) and order[0] not in one_line(order)
