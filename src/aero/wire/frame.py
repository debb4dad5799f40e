"""One message as bytes. A frame is a header, a description of its arrays, and their data; all little-endian.

    offset  size  field
         0     4  magic             b"AERO"
         4     1  version           VERSION
         5     1  kind              1 arrays, 2 control, 3 goodbye, 4 alive
         6     2  description size  bytes; 0 unless the kind is arrays
         8     8  sequence          0, 1, 2, ... in each direction
        16     8  body size         bytes after the header: description and data
        24     4  round             see `aero.wire.traffic`
        28        description       per array: dtype code (1 byte), number of dimensions (1), dimensions (4 each)
                  data              the arrays' elements in C order, one array after the other, no padding
                                    control: a JSON object in UTF-8; goodbye: one byte, a `Reason`

Alive is one fixed header and no message: it has no number and no round, and is not counted.

This module only translates and checks: it reads from no connection and never allocates what a header merely claims.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from aero.wire.errors import ProtocolError, VersionError
from aero.wire.peer_text import one_line

T = TypeVar("T")

VERSION = 2
MAGIC = b"AERO"
HEADER = struct.Struct("<4sBBHQQI")
HEADER_SIZE = HEADER.size
ALIVE = HEADER.pack(MAGIC, VERSION, 4, 0, 0, 0, 0)
"""What a party sends that computes, so that the other one knows that it is there."""

MAX_FRAME_BYTES = 1 << 30
"""Default limit of a frame's body; `Channel` takes another."""
MAX_CONTROL_BYTES = 1 << 20
MAX_ARRAYS = 255
MAX_DIMENSIONS = 8
MAX_DESCRIPTION_BYTES = MAX_ARRAYS * (2 + 4 * MAX_DIMENSIONS)
MAX_ROUND = 2**32 - 1

_DTYPES = {code: np.dtype(name) for code, name in enumerate(("u1", "<u2", "<u4", "<u8", "<i8", "<f8"), start=1)}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_INTEGERS = (int, np.integer)


class Kind(IntEnum):
    """What a frame carries."""

    ARRAYS = 1
    CONTROL = 2
    GOODBYE = 3


_KINDS = {kind.value: kind for kind in Kind}


class Reason(IntEnum):
    """Why a party says goodbye. A closed list, so that the reason tells nothing that depends on a secret."""

    FINISHED = 0
    UNEXPECTED_MESSAGE = 1
    SILENCE = 2
    FAILURE = 3
    STOPPING = 4
    TIME_UP = 5

    def __str__(self) -> str:
        return _REASONS[self]


_REASONS = {
    Reason.FINISHED: "it had finished",
    Reason.UNEXPECTED_MESSAGE: "it received a message it did not expect (do both sides have the same settings?)",
    Reason.SILENCE: "it waited for this side longer than its timeout",
    Reason.FAILURE: "it failed (its own log says why)",
    Reason.STOPPING: "it is being stopped; begin a new session when it is there again",
    Reason.TIME_UP: "the session has lasted as long as one may; begin a new one",
}


@dataclass(frozen=True)
class ArraySpec:
    """The type of one array on the wire: `dtype` and `shape`. Raises ValueError for what a frame cannot carry."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.dtype not in _CODES:
            known = ", ".join(dtype.name for dtype in _CODES)
            raise ValueError(f"arrays of {self.dtype} cannot be sent; convert to one of {known}")
        if len(self.shape) > MAX_DIMENSIONS:
            raise ValueError(f"an array of {len(self.shape)} dimensions cannot be sent; at most {MAX_DIMENSIONS}")
        if not all(0 <= size < 2**32 for size in self.shape):
            raise ValueError(f"shape {self.shape} cannot be sent; every dimension must be in [0, 2^32)")

    @classmethod
    def of(cls, shape: int | Sequence[int], dtype: DTypeLike) -> ArraySpec:
        """A spec from what numpy accepts: `of(5, "u8")`, `of((3, 4), np.uint64)`."""
        return _spec_of((shape,) if isinstance(shape, _INTEGERS) else tuple(shape), np.dtype(dtype))

    @cached_property
    def nbytes(self) -> int:
        """Size of the array's data in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @cached_property
    def encoded(self) -> bytes:
        """The array's part of a description."""
        return struct.pack(f"<BB{len(self.shape)}I", _CODES[self.dtype], len(self.shape), *self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.name}{list(self.shape)}"


@lru_cache(maxsize=4096)  # most messages have the shape of an earlier one
def _spec_of(sizes: tuple[int, ...], dtype: np.dtype[Any]) -> ArraySpec:
    return ArraySpec(dtype.newbyteorder("<"), tuple(int(size) for size in sizes))


@dataclass(frozen=True)
class Header:
    """The first 28 bytes of a frame; see the module's table."""

    kind: Kind
    description_size: int
    sequence: int
    body_size: int
    round: int

    def __post_init__(self) -> None:
        if self.description_size > (self.body_size if self.kind is Kind.ARRAYS else 0):
            raise ProtocolError(f"malformed frame: a description of {self.description_size} bytes does not fit")
        if not 1 <= self.round <= MAX_ROUND:
            raise ProtocolError(f"malformed frame: round {self.round}")

    def pack(self) -> bytes:
        """The header as bytes."""
        return HEADER.pack(MAGIC, VERSION, self.kind, self.description_size, self.sequence, self.body_size, self.round)

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview) -> Header:
        """The header in 28 bytes. Raises `VersionError` for another version, `ProtocolError` for anything else."""
        magic, version, kind, description_size, sequence, body_size, round_ = HEADER.unpack(data)
        if magic != MAGIC:
            raise ProtocolError("not an AERO frame: the other side speaks another protocol, or the stream is corrupt")
        if version != VERSION:
            raise VersionError(f"the other side speaks wire version {version}, not {VERSION}; use the same release")
        if kind not in _KINDS:
            raise ProtocolError(f"malformed frame: unknown kind {kind}")
        return cls(_KINDS[kind], description_size, sequence, body_size, round_)


def encode_specs(specs: Sequence[ArraySpec]) -> bytes:
    """The description of arrays, in order. Raises ValueError if there are none or too many."""
    if not 1 <= len(specs) <= MAX_ARRAYS:
        raise ValueError(f"a message carries 1 to {MAX_ARRAYS} arrays, not {len(specs)}")
    return b"".join([spec.encoded for spec in specs])


def decode_specs(description: bytes) -> tuple[ArraySpec, ...]:
    """The inverse of `encode_specs`. Raises `ProtocolError` on anything that `encode_specs` does not produce."""
    specs = []
    at = 0
    while at < len(description):
        if at + 2 > len(description):
            raise ProtocolError("malformed frame: its description is cut short")
        code, dimensions = description[at : at + 2]
        at += 2
        if code not in _DTYPES or dimensions > MAX_DIMENSIONS or at + 4 * dimensions > len(description):
            raise ProtocolError("malformed frame: its description does not describe arrays")
        specs.append(ArraySpec(_DTYPES[code], struct.unpack_from(f"<{dimensions}I", description, at)))
        at += 4 * dimensions
    if not 1 <= len(specs) <= MAX_ARRAYS:
        raise ProtocolError(f"malformed frame: it describes {len(specs)} arrays")
    return tuple(specs)


def encode_control(message: dict[str, Any]) -> bytes:
    """A JSON object as UTF-8. Raises ValueError if it is no object, not JSON, or longer than `MAX_CONTROL_BYTES`."""
    if not isinstance(message, dict):
        raise ValueError(f"a control message is a dict, not {type(message).__name__}")
    try:
        data = json.dumps(message, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except TypeError as error:
        raise ValueError(f"a control message holds JSON values only: {error}") from None
    if len(data) > MAX_CONTROL_BYTES:
        raise ValueError(f"a control message of {len(data)} bytes exceeds {MAX_CONTROL_BYTES}; send an array instead")
    return data


def decode_control(data: bytes) -> dict[str, Any]:
    """The inverse of `encode_control`. Raises `ProtocolError` on anything but one JSON object with distinct keys."""
    return read_json(data, "malformed frame: its control message", _object)


def read_json(data: bytes, what: str, read: Callable[[Any], T]) -> T:
    """`read` of what the other side sent as JSON in UTF-8.

    Raises `ProtocolError`, which calls it `what`, where it is not JSON with distinct keys, where `read` raises a
    ValueError, and where it is nested too deeply for either.
    """
    try:
        value = json.loads(data.decode(), parse_constant=_refuse_constant, object_pairs_hook=_distinct)
    except (ValueError, RecursionError):
        raise ProtocolError(f"{what} is not JSON") from None
    try:
        return read(value)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{what} is not usable: {one_line(str(error))}") from None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)
