"""Coverage-guided fuzzing of everything that reads bytes of the other side; not part of the test suite.

    python -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris numpy
    PYTHONPATH=src /tmp/fuzz/bin/python tests/wire/fuzz_frame.py -max_total_time=60 -malloc_limit_mb=64

Any exception but a `WireError`, and any allocation above the limit, is a finding. The first byte of an input chooses
what reads the rest; the inputs begin with valid ones.
"""

import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["aero", "json"]):
    from aero.wire import Channel, ProtocolError, WireError, memory
    from aero.wire.frame import HEADER_SIZE, Header, decode_control, decode_specs, encode_control, encode_specs


def read_header(data: bytes) -> None:
    if len(data) == HEADER_SIZE:
        assert Header.unpack(data).pack() == data


def read_description(data: bytes) -> None:
    assert encode_specs(decode_specs(data)) == data


def read_control(data: bytes) -> None:
    message = decode_control(data)
    try:
        encoded = encode_control(message)
    except ValueError:
        return  # Lone surrogates and the like: JSON can say them, UTF-8 cannot.
    assert decode_control(encoded) == message


def read_channel(data: bytes) -> None:
    ours, theirs = memory.link_pair()
    theirs.send([memoryview(data)])
    theirs.close()
    channel = Channel(ours)
    first, second = channel.recv_many(((2, 3), np.uint64), (3, np.uint8))
    assert first.shape == (2, 3) and second.dtype == np.uint8
    assert isinstance(channel.recv_control(), dict)
    channel.recv((), np.float64)
    channel.recv(0, np.int64)


READERS = (read_header, read_description, read_control, read_channel)


def run(data: bytes) -> None:
    if data:
        try:
            READERS[data[0] % len(READERS)](data[1:])
        except WireError as error:
            assert not isinstance(error, ProtocolError) or "\n" not in str(error)


def valid_inputs() -> list[bytes]:
    ours, theirs = memory.link_pair()
    channel = Channel(ours)
    channel.send(np.arange(6, dtype=np.uint64).reshape(2, 3), b"xyz")
    channel.send_control({"a": [1, 2.5, None]})
    channel.send(np.array(1.0))
    channel.send(np.zeros(0, np.int64))
    size = channel.traffic.bytes_sent
    channel.close()
    whole = bytearray(size + HEADER_SIZE + 1)
    theirs.receive_into(memoryview(whole), float("inf"))
    description = whole[HEADER_SIZE : HEADER_SIZE + 16]
    parts = whole[:HEADER_SIZE], description, b'{"a":[1,2.5,null]}', whole
    return [bytes([number]) + bytes(part) for number, part in enumerate(parts)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as corpus:
        for number, content in enumerate(valid_inputs()):
            Path(corpus, str(number)).write_bytes(content)
        atheris.Setup([*sys.argv, corpus], run)
        atheris.Fuzz()
