"""Counts validate themselves, add up and subtract."""

import pytest

from aero.wire import Traffic


def test_snapshots_subtract_by_op() -> None:
    before = Traffic.total({"a": Traffic(10, 5, 2, 1), "b": Traffic(1, 1, 1, 0)})
    after = Traffic.total({"a": Traffic(30, 5, 3, 2), "b": Traffic(1, 1, 1, 0), "c": Traffic(4, 0, 1, 1)})
    difference = after - before
    assert difference.by_op == {"a": Traffic(20, 0, 1, 1), "c": Traffic(4, 0, 1, 1)}
    assert difference == Traffic.total(difference.by_op)
    assert (difference.bytes_sent, difference.messages, difference.rounds) == (24, 2, 2)
    assert after - after == Traffic()


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="bytes_sent is -1"):
        Traffic(bytes_sent=-1)
    with pytest.raises(ValueError, match="subtract the earlier"):
        Traffic() - Traffic(rounds=1)
    with pytest.raises(ValueError, match="messages of the ops do not add up"):
        Traffic(messages=3, by_op={"a": Traffic(messages=2)})
