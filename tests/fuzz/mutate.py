"""Inputs that are nearly right: bytes are changed, or what they hold as JSON, as a PEM or a safetensors file."""

from __future__ import annotations

import base64
import copy
import json
import random
from typing import Any

HOSTILE: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 257, 1 << 31, (1 << 63) - 1, 1 << 63, 1 << 64, 10**30, -0.5, 1.5, 1e308,
    float("inf"),
    float("nan"), "", "a", "ids", "\ud800", "\x00", "é" * 40, "../x", "0", "1e999", "F8", "BF16", [], {}, [[]], [None],
    {"a": 1}, [0, 0], [1 << 62, 1 << 62],
)  # fmt: skip
_BYTES = (b"", b"\x00", b"\xff" * 8, b"\x00" * 7 + b"\x7f", b"{", b"[" * 2000, b'"', b"\xed\xa0\x80", b"1" * 400, b"-")


def mutate(random: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """`data`, changed in one to four places. others: from which parts may come."""
    for _ in range(random.randint(1, 4)):
        data = _mutate(random, data, others)
    return data


def _mutate(random: random.Random, data: bytes, others: list[bytes]) -> bytes:
    if random.random() < 0.8:
        header = int.from_bytes(data[:8], "little")
        if data[8:9] == b"{" and header <= len(data) - 8:
            inner = _json(random, data[8 : 8 + header])
            if inner is not None:
                return len(inner).to_bytes(8, "little") + inner + data[8 + header :]
        if data.startswith(b"-----BEGIN"):
            return _pem(random, data)
        inner = _json(random, data)
        if inner is not None:
            return inner
    return _bytes(random, data, others)


def _bytes(random: random.Random, data: bytes, others: list[bytes]) -> bytes:
    place, end = sorted((random.randint(0, len(data)), random.randint(0, len(data))))
    end = min(end, place + 64) if random.random() < 0.8 else end
    kind = random.randrange(6)
    if kind == 0 and data:
        place = random.randrange(len(data))
        return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]
    if kind == 1:
        return data[:place] + data[end:]
    if kind == 2:
        return data[:end] + data[place:end] + data[end:]
    if kind == 3:
        return data[:place] + random.choice(_BYTES) + data[end:]
    if kind == 4:
        other = random.choice(others)
        start = random.randint(0, len(other))
        return data[:place] + other[start : start + 64] + data[end:]
    return data[:place]


def _pem(random: random.Random, data: bytes) -> bytes:
    first, *lines, last = data.strip().split(b"\n") if data.count(b"\n") > 2 else (data, data, data)
    try:
        inner = base64.b64decode(b"".join(lines))
    except ValueError:
        return _bytes(random, data, [data])
    return first + b"\n" + base64.encodebytes(_bytes(random, inner, [inner])) + last + b"\n"


def _json(random: random.Random, data: bytes) -> bytes | None:
    """JSON changed in one place; None where there is none, or it is nested too deeply for Python to change or write."""
    try:
        value = json.loads(data)
        return json.dumps(value).encode() if _change(random, value) else None
    except (ValueError, RecursionError):
        return None


def _change(random: random.Random, value: Any) -> bool:
    places = list(_places(value))
    if not places:
        return False
    parent, key = random.choice(places)
    kind = random.randrange(7)
    if kind <= 2:
        parent[key] = copy.deepcopy(random.choice(HOSTILE))
    elif kind == 3:
        del parent[key]
    elif kind == 4:
        other, name = random.choice(places)
        parent[key] = copy.deepcopy(other[name])
    elif kind == 5:
        if isinstance(parent, dict):
            parent[random.choice(["", "é", "type", "ids", str(key) + "x"])] = copy.deepcopy(parent[key])
        else:
            parent.insert(key, copy.deepcopy(parent[key]))
    else:
        for _ in range(random.choice([1, 3, 200])):
            parent[key] = [parent[key]] if random.random() < 0.5 else {"a": parent[key]}
    return True


def _places(value: Any) -> Any:
    layer = [value] if isinstance(value, (dict, list)) else []
    while layer:
        below = []
        for parent in layer:
            keys = parent if isinstance(parent, dict) else range(len(parent))
            for key in keys:
                yield parent, key
                if isinstance(parent[key], (dict, list)):
                    below.append(parent[key])
        layer = below
