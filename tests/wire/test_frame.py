"""The bytes of a frame, and that nothing else is taken for one."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.wire import ProtocolError, VersionError, WireError, frame, memory
from aero.wire.channel import Channel
from aero.wire.frame import (
    ArraySpec,
    Header,
    Kind,
    decode_control,
    decode_specs,
    encode_control,
    encode_specs,
    read_json,
)

specs = st.builds(
    ArraySpec.of,
    st.lists(st.integers(0, 2**32 - 1), max_size=frame.MAX_DIMENSIONS),
    st.sampled_from(["u1", "u2", "u4", "u8", "i8", "f8"]),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def test_a_message_has_exactly_the_documented_bytes() -> None:
    ours, theirs = memory.link_pair()
    Channel(ours).send(np.array([[1, 2, 3]], np.uint16), b"\xff")
    documented = bytes.fromhex(
        "4145524f 02 01 1000"  # "AERO", version 2, kind 1, description of 16 bytes
        + "0000000000000000 1700000000000000 01000000"  # sequence 0, body size 16 + 6 + 1, round 1
        + "02 02 01000000 03000000  01 01 01000000"  # uint16[1, 3], uint8[1]
        + "0100 0200 0300  ff"
    )
    arrived = bytearray(len(documented))
    theirs.receive_into(memoryview(arrived), 0)
    assert bytes(arrived) == documented


@given(
    kind=st.sampled_from(Kind),
    sequence=st.integers(0, 2**64 - 1),
    body_size=st.integers(0, 2**64 - 1),
    round_=st.integers(1, 2**32 - 1),
)
def test_headers_survive(kind: Kind, sequence: int, body_size: int, round_: int) -> None:
    header = Header(kind, 0, sequence, body_size, round_)
    assert Header.unpack(header.pack()) == header


@given(st.binary(min_size=frame.HEADER_SIZE, max_size=frame.HEADER_SIZE))
def test_any_28_bytes_are_a_header_or_refused(data: bytes) -> None:
    for candidate in (data, b"AERO\x02" + data[5:], b"AERO\x02\x01" + data[6:]):
        try:
            header = Header.unpack(candidate)
        except ProtocolError:
            continue
        assert header.pack() == candidate


@pytest.mark.parametrize(
    ("position", "value", "error"),
    [
        (0, 0x41 ^ 1, "another protocol"),
        (4, 1, "wire version 1"),
        (5, 0, "unknown kind"),
        (5, 4, "unknown kind"),
        (6, 200, "does not fit"),
        (24, 0, "round 0"),
    ],
)
def test_each_wrong_field_of_a_header_is_named(position: int, value: int, error: str) -> None:
    data = bytearray(Header(Kind.ARRAYS, 6, 0, 10, 1).pack())
    data[position] = value
    with pytest.raises(ProtocolError, match=error) as caught:
        Header.unpack(data)
    assert isinstance(caught.value, VersionError) == (position == 4)
    assert isinstance(caught.value, WireError | ConnectionError | ValueError)


@given(st.lists(specs, min_size=1, max_size=5))
def test_descriptions_survive(many: list[ArraySpec]) -> None:
    assert list(decode_specs(encode_specs(many))) == many


@given(st.binary(max_size=60))
def test_any_bytes_are_a_description_or_refused(data: bytes) -> None:
    try:
        decoded = decode_specs(data)
    except ProtocolError:
        return
    assert encode_specs(decoded) == data


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_control_messages_survive(message: dict) -> None:
    assert decode_control(encode_control(message)) == message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[1]",
        b"7",
        b"{",
        b"{}x",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1,"a":2}',
        b"\xff\xfe{}",
        b'{"a":' + b"9" * 10_000 + b"}",
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_other_than_one_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="JSON"):
        decode_control(data)


def depth(value: object) -> int:
    return 1 + depth(value[0]) if isinstance(value, list) and value else 0


def too_deep(value: object) -> object:
    return too_deep([value])


def unusable(value: object) -> None:
    raise ValueError(f"\x1b[2J{value}" + 1000 * "x")


@pytest.mark.parametrize(
    ("data", "read", "complaint"),
    [
        (b"[[1]]", depth, None),
        (b"[[1]]", too_deep, "is not usable: maximum recursion depth"),
        (b"[" * 100_000 + b"]" * 100_000, depth, "is not JSON"),
        (b"7", unusable, "^the plan is not usable: \ufffd\\[2J7x{190,200}$"),
        (b"\xff", depth, "is not JSON"),
    ],
)
def test_what_a_reader_complains_of_is_the_other_sides_fault(
    data: bytes, read: Callable[[object], object], complaint: str | None
) -> None:
    if complaint is None:
        assert read_json(data, "the plan", read) == 2
        return
    with pytest.raises(ProtocolError, match=complaint) as caught:
        read_json(data, "the plan", read)
    assert caught.value.args[0].isprintable()


@given(st.binary(max_size=60) | st.text().map(str.encode))
def test_any_bytes_are_a_control_message_or_refused(data: bytes) -> None:
    try:
        message = decode_control(data)
    except ProtocolError:
        return
    assert decode_control(encode_control(message)) == message


@pytest.mark.parametrize("message", [[1], "text", {"a": float("nan")}, {"a": {1, 2}}, {"a": "x" * (1 << 20)}])
def test_what_is_no_control_message_is_not_sent(message: object) -> None:
    with pytest.raises(ValueError):
        encode_control(message)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "dtype", "remedy"),
    [((2,), "c16", "convert to"), ((2,), bool, "convert to"), ((1,) * 9, "u8", "at most 8"), ((-1,), "u8", "2\\^32")],
)
def test_what_a_frame_cannot_carry_is_refused_with_a_remedy(shape: tuple[int, ...], dtype: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        ArraySpec.of(shape, dtype)


def test_a_message_has_arrays_but_not_too_many() -> None:
    for count in (0, 256):
        with pytest.raises(ValueError, match="1 to 255"):
            encode_specs([ArraySpec.of(1, "u1")] * count)
    with pytest.raises(ProtocolError, match="256"):
        decode_specs(encode_specs([ArraySpec.of((), "u1")] * 255) + b"\x01\x00")
