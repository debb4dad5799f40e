"""A channel over every link: what arrives, what is counted, and how it ends."""

import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero.wire import (
    Channel,
    PeerClosedError,
    PeerSilentError,
    PeerVanishedError,
    ProtocolError,
    VersionError,
    WireError,
    frame,
    memory,
)
from aero.wire.frame import Header, Kind, Reason

DTYPES = ("u1", "u2", "u4", "u8", "i8", "f8")
MakePair = Callable[..., tuple[Channel, Channel]]


def random_array(seed: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(shape, dtype)
    raw = np.random.default_rng(seed).integers(0, 256, array.nbytes, np.uint8)
    return raw.view(dtype).reshape(shape)


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def feed(data: bytes, **settings: Any) -> Channel:
    """A channel whose other side sent exactly `data` and then died."""
    ours, theirs = memory.link_pair()
    theirs.send([memoryview(data)])
    theirs.close()
    return Channel(ours, **settings)


def recorded(send: Callable[[Channel], None]) -> bytes:
    """The bytes that `send` puts on the wire."""
    ours, theirs = memory.link_pair()
    channel = Channel(ours)
    send(channel)
    data = bytearray(channel.traffic.bytes_sent)
    theirs.receive_into(memoryview(data), 0)
    return bytes(data)


# What arrives


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 0, 2), (2, 3, 4), (1,) * 8])
def test_every_type_and_shape_arrives(dtype: str, shape: tuple[int, ...]) -> None:
    ours, theirs = memory.channel_pair()
    array = random_array(1, dtype, shape)
    ours.send(array)
    assert same(theirs.recv(shape, dtype), array)


def test_several_arrays_bytes_and_control_arrive_in_order(make_pair: MakePair) -> None:
    ours, theirs = make_pair()
    first, second = random_array(1, "u8", (3, 4)), random_array(2, "u1", (7,))
    ours.send(first, second)
    ours.send_control({"context": 128, "name": "prüfung"})
    ours.send(b"bytes")
    one, two = theirs.recv_many(((3, 4), np.uint64), (7, np.uint8))
    assert same(one, first) and same(two, second)
    assert theirs.recv_control() == {"context": 128, "name": "prüfung"}
    assert theirs.recv(5, np.uint8).tobytes() == b"bytes"
    ours.close()
    theirs.close()


@pytest.mark.parametrize("layout", ["transposed", "strided", "big-endian", "read-only"])
def test_an_arrays_memory_layout_does_not_matter(layout: str) -> None:
    array = random_array(3, "u4", (4, 6))
    arranged = {
        "transposed": array.T,
        "strided": array[::2, ::3],
        "big-endian": array.astype(">u4"),
        "read-only": np.frombuffer(array.tobytes(), "u4"),
    }[layout]
    ours, theirs = memory.channel_pair()
    ours.send(arranged)
    assert np.array_equal(theirs.recv(arranged.shape, np.uint32), arranged)


def test_the_sender_may_reuse_its_array_at_once(make_pair: MakePair) -> None:
    ours, theirs = make_pair()
    array = random_array(4, "u8", (4 << 20,))  # More than a socket takes without its reader.
    expected = array.copy()
    ours.send(array)
    array[:] = 0
    assert np.array_equal(theirs.recv(array.shape), expected)
    ours.close()
    theirs.close()


def test_both_may_send_much_before_either_receives(make_pair: MakePair, both: Callable) -> None:
    pair = make_pair()
    mine = [random_array(seed, "u8", (1 << 20,)) for seed in (5, 6)]

    def party(index: int) -> Callable[[], list[np.ndarray]]:
        def run() -> list[np.ndarray]:
            for _ in range(3):
                pair[index].send(mine[index])
            received = [pair[index].recv((1 << 20,)) for _ in range(3)]
            pair[index].close()
            return received

        return run

    for other, received in zip((1, 0), both(party(0), party(1)), strict=True):
        assert all(np.array_equal(array, mine[other]) for array in received)
    assert pair[0].traffic == pair[1].traffic


def test_what_cannot_be_sent_is_refused_before_anything_is_sent() -> None:
    ours, theirs = memory.channel_pair(max_frame_bytes=frame.MAX_CONTROL_BYTES)
    for refused in (np.zeros(2, np.complex128), np.zeros(1 << 20, np.uint64)):
        with pytest.raises(ValueError, match=r"cannot be sent|send it in parts"):
            ours.send(refused)
    with pytest.raises(ValueError, match="send it in parts"):
        theirs.recv(1 << 20)
    ours.send(np.arange(3, dtype=np.uint64))
    assert theirs.recv(3).tolist() == [0, 1, 2]


# What is counted


def test_counts_are_the_real_bytes_and_agree(make_pair: MakePair, both: Callable) -> None:
    pair = make_pair()
    sizes = {"header": 28, "u8[5]": 2 + 4 + 40, "u1[3, 2]": 2 + 8 + 6}

    def party(channel: Channel) -> Callable[[], None]:
        def run() -> None:
            with channel.op("first"):
                channel.exchange(np.zeros(5, np.uint64))
                with channel.op("inner"):
                    channel.exchange(np.zeros((3, 2), np.uint8))
            channel.exchange(np.zeros(5, np.uint64))

        return run

    both(party(pair[0]), party(pair[1]))
    assert pair[0].traffic == pair[1].traffic
    traffic = pair[0].traffic
    long, short = sizes["header"] + sizes["u8[5]"], sizes["header"] + sizes["u1[3, 2]"]
    assert {label: part.bytes_sent for label, part in traffic.by_op.items()} == {
        "first": long,
        "first/inner": short,
        "(no op)": long,
    }
    assert (traffic.bytes_sent, traffic.bytes_received) == (2 * long + short, 2 * long + short)
    assert (traffic.messages, traffic.rounds) == (6, 3)
    for channel in pair:
        channel.close()
    assert pair[0].traffic == traffic, "a goodbye is not counted"


def test_rounds_are_message_delays() -> None:
    ours, theirs = memory.channel_pair()
    one = np.zeros(1, np.uint64)

    def rounds() -> int:
        assert ours.traffic.rounds == theirs.traffic.rounds
        return ours.traffic.rounds

    for _ in range(3):
        ours.send(one)
    for _ in range(3):
        theirs.recv(1)
    assert rounds() == 1, "messages in a row share a round"
    theirs.send(one)
    ours.recv(1)
    assert rounds() == 2, "an answer is a round of its own"
    ours.send(one)
    theirs.send(one)
    ours.recv(1)
    theirs.recv(1)
    assert rounds() == 3, "the second answer goes with the next question"
    ours.send(one)
    theirs.send(one)
    ours.recv(1)
    theirs.recv(1)
    assert rounds() == 4, "messages that cross share a round"


messages = st.lists(
    st.tuples(st.booleans(), st.sampled_from(DTYPES), st.integers(0, 9), st.integers(0, 3)), max_size=20
)


@given(messages)
def test_any_talk_is_counted_alike_by_both(talk: list[tuple[bool, str, int, int]]) -> None:
    """Each message: who sends, type, size, and how many messages that wait for the sender it receives before."""
    pair = memory.channel_pair()
    waiting: list[list[tuple[np.ndarray, int]]] = [[], []]
    clock = [0, 0]
    longest = 0

    def receive(who: int) -> None:
        array, sent_at = waiting[who].pop(0)
        assert same(pair[who].recv(array.shape, array.dtype), array)
        clock[who] = max(clock[who], sent_at)

    for number, (sender, dtype, size, receives) in enumerate(talk):
        with pair[0].op(f"op {number % 3}"), pair[1].op(f"op {number % 3}"):
            for _ in range(min(receives, len(waiting[sender]))):
                receive(int(sender))
            array = random_array(number, dtype, (size,))
            pair[sender].send(array)
            waiting[not sender].append((array, clock[sender] + 1))
            longest = max(longest, clock[sender] + 1)
    for who in (0, 1):
        while waiting[who]:
            receive(who)
    ours, theirs = pair[0].traffic, pair[1].traffic
    assert (ours.bytes_sent, ours.bytes_received) == (theirs.bytes_received, theirs.bytes_sent)
    assert ours.messages == theirs.messages == len(talk)
    assert ours.rounds == theirs.rounds == longest


def test_an_op_needs_a_label_and_is_left_on_errors() -> None:
    ours, theirs = memory.channel_pair()
    with pytest.raises(ValueError, match="label"), ours.op(""):
        pass
    with pytest.raises(RuntimeError), ours.op("lost"):
        raise RuntimeError
    ours.send(b"x")
    assert list(ours.traffic.by_op) == ["(no op)"]
    del theirs


# How it ends


def test_a_closed_channel_says_so_on_both_sides(make_pair: MakePair) -> None:
    ours, theirs = make_pair()
    ours.send(b"last")
    ours.close()
    ours.close()
    assert theirs.recv(4, np.uint8).tobytes() == b"last"
    for _ in range(2):
        with pytest.raises(PeerClosedError, match="it had finished"):
            theirs.recv(1)
    with pytest.raises(PeerClosedError, match="it had finished"):
        theirs.send(b"too late")
    with pytest.raises(WireError, match="channel is closed"):
        ours.send(b"too late")


def test_a_sender_learns_why_the_other_side_left() -> None:
    ours, theirs = memory.channel_pair()
    theirs.send(b"not read")
    theirs.close()
    with pytest.raises(PeerClosedError, match="it had finished"):
        ours.send(b"for nobody")


def test_an_error_in_one_party_ends_the_other(make_pair: MakePair) -> None:
    ours, theirs = make_pair()
    with pytest.raises(ZeroDivisionError), ours:
        raise ZeroDivisionError("the secret is 42")
    with pytest.raises(PeerClosedError, match="it failed") as caught:
        theirs.recv(1)
    assert "42" not in str(caught.value)
    with pytest.raises(WireError, match="failed earlier: ZeroDivisionError"):
        ours.recv(1)


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (((2, 2), "u4"), "expected uint32\\[2, 2\\], the other side sent uint32\\[4\\]"),
        (((4,), "u8"), "expected uint64\\[4\\], the other side sent uint32\\[4\\]"),
        (((4,), "f8"), "expected float64\\[4\\]"),
        (((5,), "u4"), "expected uint32\\[5\\]"),
    ],
)
def test_another_type_or_shape_is_refused_on_both_sides(make_pair: MakePair, expected: tuple, words: str) -> None:
    ours, theirs = make_pair()
    ours.send(np.arange(4, dtype=np.uint32))
    with pytest.raises(ProtocolError, match=words):
        theirs.recv(*expected)
    with pytest.raises(ProtocolError, match=words):
        theirs.send(b"x")
    with pytest.raises(PeerClosedError, match="a message it did not expect"):
        ours.recv(1)


def test_arrays_and_control_are_not_taken_for_each_other() -> None:
    ours, theirs = memory.channel_pair()
    ours.send_control({})
    with pytest.raises(ProtocolError, match="expected arrays, the other side sent control"):
        theirs.recv(1)
    ours, theirs = memory.channel_pair()
    ours.send(b"{}")
    with pytest.raises(ProtocolError, match="expected control, the other side sent arrays"):
        theirs.recv_control()


def test_a_silent_peer_ends_in_an_error_on_both_sides(make_pair: MakePair) -> None:
    ours, theirs = make_pair(timeout=0.2)
    with pytest.raises(PeerSilentError, match="sent nothing"):
        ours.recv(1)
    with pytest.raises(PeerClosedError, match="waited for this side"):
        theirs.recv(1)


@pytest.mark.parametrize("cut", range(28 + 6 + 40))
def test_a_message_cut_short_is_an_error(cut: int) -> None:
    whole = recorded(lambda channel: channel.send(np.arange(5, dtype=np.uint64)))
    assert len(whole) == 28 + 6 + 40
    with pytest.raises(PeerVanishedError, match="without a goodbye"):
        feed(whole[:cut]).recv(5)


def header(**changes: Any) -> bytes:
    fields = {"kind": Kind.ARRAYS, "description_size": 6, "sequence": 0, "body_size": 46, "round": 1} | changes
    return Header(**fields).pack()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"GET / HTTP/1.1\r\nHost: example\r\n\r\n", "another protocol"),
        (header().replace(b"AERO\x02", b"AERO\x01"), "wire version 1"),
        (frame.ALIVE[:-1] + b"\x01", "unknown kind 4"),
        (header(sequence=1), "message 1 arrived where message 0 was due"),
        (header(round=2), "round 2 is impossible"),
        (header(body_size=2**64 - 1) + b"\x04\x01\x05\x00\x00\x00", "bytes announced"),
        (header(body_size=47) + b"\x04\x01\x05\x00\x00\x00", "bytes announced"),
        (header(description_size=65535, body_size=2**40), "too long"),
        (header(description_size=0) + bytes(46), "describes 0 arrays"),
        (header() + b"\x09\x01\x05\x00\x00\x00", "does not describe arrays"),
        (header(kind=Kind.GOODBYE, description_size=0, body_size=0), "without a reason"),
        (header(kind=Kind.GOODBYE, description_size=0, body_size=1) + b"\x63", "unknown reason"),
    ],
)
def test_wrong_frames_are_refused_without_allocating(data: bytes, error: str) -> None:
    channel = feed(data)
    tracemalloc.start()
    with pytest.raises(ProtocolError, match=error) as caught:
        channel.recv(5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    assert isinstance(caught.value, VersionError) == ("version" in error)


def test_an_oversized_control_message_is_refused_without_allocating() -> None:
    channel = feed(header(kind=Kind.CONTROL, description_size=0, body_size=2**62))
    tracemalloc.start()
    with pytest.raises(ProtocolError, match="exceeds"):
        channel.recv_control()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_replayed_or_reordered_message_is_refused() -> None:
    one = recorded(lambda channel: channel.send(b"abc"))
    channel = feed(one + one)
    channel.recv(3, np.uint8)
    with pytest.raises(ProtocolError, match="lost or replayed"):
        channel.recv(3, np.uint8)
    two = recorded(lambda channel: (channel.send(b"abc"), channel.send(b"def")))  # type: ignore[func-returns-value]
    with pytest.raises(ProtocolError, match="lost or replayed"):
        feed(two[len(two) // 2 :]).recv(3, np.uint8)


@settings(max_examples=300)
@given(data=st.data())
def test_mutated_bytes_end_in_an_error_or_in_the_declared_type(data: st.DataObject) -> None:
    original = bytearray(
        recorded(
            lambda channel: (  # type: ignore[func-returns-value]
                channel.send(np.arange(6, dtype=np.uint64).reshape(2, 3), b"xyz"),
                channel.send_control({"a": [1, 2]}),
                channel.send(np.ones(2)),
            )
        )
    )
    for _ in range(data.draw(st.integers(1, 4), "mutations")):
        at = data.draw(st.integers(0, len(original)), "at")
        action = data.draw(st.sampled_from(["replace", "insert", "delete", "cut"]), "action")
        some = data.draw(st.binary(min_size=1, max_size=9), "bytes")
        if action == "replace":
            original[at : at + len(some)] = some
        elif action == "insert":
            original[at:at] = some
        elif action == "delete":
            del original[at : at + len(some)]
        else:
            del original[at:]
    channel = feed(bytes(original))
    try:
        first, second = channel.recv_many(((2, 3), np.uint64), (3, np.uint8))
        assert (first.dtype, first.shape, second.dtype, second.shape) == (np.uint64, (2, 3), np.uint8, (3,))
        assert isinstance(channel.recv_control(), dict)
        assert channel.recv(2, np.float64).shape == (2,)
        channel.recv(1)
    except WireError:
        with pytest.raises(WireError):
            channel.recv(1)
    else:
        pytest.fail("five messages out of three")


def test_every_reason_has_words() -> None:
    assert len({str(reason) for reason in Reason}) == len(Reason)


def test_the_deadline_of_a_message_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that sends a byte now and then, always within the timeout, cannot hold a party for ever."""
    ours, theirs = memory.link_pair(timeout=30)
    now = time.monotonic()
    monkeypatch.setattr("aero.wire.memory.time.monotonic", lambda: now)
    whole = recorded(lambda channel: channel.send(b"abcdef"))
    original = memory._Pipe.read_some

    def trickle(pipe: memory._Pipe, view: memoryview, deadline: float) -> int:
        nonlocal now
        now += 10
        return original(pipe, view[:1], deadline)

    monkeypatch.setattr(memory._Pipe, "read_some", trickle)
    theirs.send([memoryview(bytes([byte])) for byte in whole[:4]])
    with pytest.raises(PeerSilentError):
        Channel(ours).recv(6, np.uint8)


# Signs of life


def test_signs_of_life_are_no_messages() -> None:
    """A party that gives many between its messages says the same as one that gives none, and counts the same."""
    ours, theirs = memory.link_pair()
    noisy, quiet = Channel(ours, beat=1e-4), Channel(theirs)
    for number in range(50):
        noisy.send(np.full(3, number, np.uint8))
        time.sleep(1e-3)
        quiet.send(quiet.recv(3, "u1"))
        assert noisy.recv(3, "u1").tolist() == [number] * 3
    assert (
        (noisy.traffic.messages, noisy.traffic.rounds) == (quiet.traffic.messages, quiet.traffic.rounds) == (100, 100)
    )
    assert noisy.traffic.bytes_sent == quiet.traffic.bytes_received == 50 * (28 + 6 + 3)
    noisy.close()
    with pytest.raises(PeerClosedError, match="finished"):
        quiet.recv(1)


def test_nothing_but_signs_of_life_outlasts_no_timeout() -> None:
    ours, theirs = memory.link_pair(timeout=0.05)
    over = threading.Event()

    def flood() -> None:
        with suppress(PeerVanishedError):
            while not over.is_set():
                theirs.send([memoryview(frame.ALIVE * 100)])

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        with pytest.raises(PeerSilentError, match="signs of life, and nothing else"):
            Channel(ours).recv(1)
    finally:
        over.set()
        thread.join()


def test_a_channel_that_nobody_holds_gives_no_sign_of_life() -> None:
    channel = Channel(memory.link_pair()[0], beat=1e-3)
    beats = [thread for thread in threading.enumerate() if thread.name == "aero-wire-beat"]
    assert beats
    del channel
    for thread in beats:
        thread.join(60)
        assert not thread.is_alive()
