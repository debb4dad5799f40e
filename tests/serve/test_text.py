"""Text that appears as tokens come, against the text of all tokens at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.data.tokenizer import Tokenizer, train
from aero.serve.text import TextStream


@pytest.fixture(scope="module")
def bytewise() -> Tokenizer:
    """Little text: nearly every token is one byte."""
    return train(["ab"], 257)


@given(text=st.text(max_size=12))
def test_the_pieces_are_the_text(bytewise, text):
    stream = TextStream(bytewise.decode)
    pieces = []
    for token in bytewise.encode(text):
        piece = stream.push(token)
        assert "�" not in piece or "�" in text
        pieces.append(piece)
    assert "".join(pieces) + stream.finish() == text == stream.text


@given(ids=st.lists(st.integers(1, 256), max_size=12))
def test_bytes_that_are_no_text_come_out_as_the_decoder_gives_them(bytewise, ids):
    stream = TextStream(bytewise.decode)
    pieces = [stream.push(token) for token in ids]
    assert "".join(pieces) + stream.finish() == bytewise.decode(ids)


@given(text=st.text(alphabet="abc", max_size=12), stops=st.lists(st.text("abc", min_size=1, max_size=3), max_size=3))
def test_text_ends_before_the_first_stop_string(bytewise, text, stops):
    stream, given_out = TextStream(bytewise.decode, stops), ""
    for token in bytewise.encode(text):
        given_out += stream.push(token)
        if stream.stopped:
            break
    given_out += stream.finish()
    found = [text.find(stop) for stop in stops if stop in text]
    assert stream.stopped == bool(found)
    if found:
        assert text.startswith(given_out)
        assert not any(stop in given_out for stop in stops)
        # One character to a token: the stop string whose end came first, and the earliest begin among those there.
        seen = next(n for n in range(len(text) + 1) if any(stop in text[:n] for stop in stops))
        assert given_out == text[: min(text[:seen].find(stop) for stop in stops if stop in text[:seen])]
    else:
        assert given_out == text


def test_a_character_appears_when_it_is_whole(bytewise):
    stream = TextStream(bytewise.decode)
    pieces = [stream.push(token) for token in bytewise.encode("é€")]
    assert pieces == ["", "é", "", "", "€"]


def test_an_empty_stop_string_is_refused(bytewise):
    with pytest.raises(ValueError, match="empty"):
        TextStream(bytewise.decode, [""])
