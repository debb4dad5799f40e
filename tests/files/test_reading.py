"""Files that somebody else may have written: each thing wrong with one has its line, and its kind of error."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from aero.files.reading import MAX_DEPTH, foreign, interpreting, parse_json, present, read_bytes, read_json, typed


def test_what_is_not_there_and_what_may_not_be_read(tmp_path: Path) -> None:
    assert not present(tmp_path / "no")
    with pytest.raises(FileNotFoundError, match="make one"):
        read_bytes(tmp_path / "no", "nothing there; make one")
    (tmp_path / "file").write_bytes(b"12345")
    assert read_bytes(tmp_path / "file") == b"12345"
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for name, complaint in {
        "folder": "is a folder, not a file",
        "dangling": "is a link to nowhere, which does not exist",
        "loop": "cannot be read: Too many levels of symbolic links",
        "pipe": "is not a regular file",
        "file/x": "cannot be read: Not a directory",
        "n" * 300: "cannot be read: File name too long",
        "a\x00b": "is not a path",
    }.items():
        with pytest.raises(ValueError, match=complaint) as refused:
            read_bytes(tmp_path / name)
        assert not isinstance(refused.value, OSError)
    with pytest.raises(ValueError, match="has 5 bytes; a file of this kind has at most 4"):
        read_bytes(tmp_path / "file", limit=4)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"{\n", "not JSON"),
        (b"9" * 5000, "not JSON"),  # a number that Python does not convert
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested too deeply"),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "nested too deeply"),
    ],
)
def test_json_that_is_none(tmp_path: Path, data: bytes, complaint: str) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(ValueError, match=f"a.json is {complaint}") as refused:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_json_of_the_deepest_kind() -> None:
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, "it") is not None


@dataclass(frozen=True)
class Part:
    size: int
    share: float = 0.5


@dataclass(frozen=True)
class Whole:
    name: str
    kind: Literal["a", "b"]
    parts: tuple[Part, ...]
    pair: tuple[int, float] | None = None
    numbers: dict[str, int | float | str] = field(default_factory=dict)
    rest: Any = None


GOOD = {"name": "n", "kind": "a", "parts": [{"size": 1, "share": 2}], "pair": [1, 2], "numbers": {"x": 1, "y": "z"}}


def test_data_classes_from_json() -> None:
    assert typed(Whole, GOOD) == Whole("n", "a", (Part(1, 2.0),), (1, 2.0), {"x": 1, "y": "z"})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": 1}, "name is 1, not str"),
        ({"name": None}, "name is None, not str"),
        ({"kind": "c"}, "kind is 'c', not one of a, b"),
        ({"kind": []}, "kind is a list, not one of a, b"),
        ({"parts": {}}, "parts is a dict, not a list"),
        ({"parts": [{}]}, r"parts\[0\] has no field 'size'"),
        ({"parts": [{"size": True}]}, r"parts\[0\].size is True, not int"),
        ({"parts": [{"size": 1.0}]}, r"parts\[0\].size is 1.0, not int"),
        ({"parts": [{"size": 1 << 63}]}, "not int"),
        ({"parts": [{"size": 1, "share": 1e999}]}, "share is inf, not a finite number"),
        ({"parts": [{"size": 1, "share": 1 << 70}]}, "not float"),
        ({"parts": [None]}, r"parts\[0\] is None, not an object"),
        ({"pair": [1]}, "pair has 1 entries, not 2"),
        ({"pair": "ab"}, "pair is 'ab', not a list"),
        ({"numbers": {"x": []}}, "numbers.* is a list, which is of another type"),
        ({"more": 1}, "it has an unknown field 'more'"),
    ],
)
def test_data_classes_of_wrong_json(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        typed(Whole, GOOD | changes)


@pytest.mark.parametrize("error", [KeyError("a"), IndexError("a"), TypeError("a\nb"), OverflowError()])
def test_what_does_not_fit_is_a_value_error(error: Exception) -> None:
    with pytest.raises(ValueError, match=r"^it is not usable: .*; mend it$") as refused, interpreting("it", "mend it"):
        raise error
    assert "\n" not in str(refused.value)


def test_our_own_bugs_stay_what_they_are() -> None:
    with pytest.raises(AssertionError), interpreting("it"):
        raise AssertionError


def test_a_panic_is_a_value_error() -> None:
    class PanicError(BaseException):
        pass

    with pytest.raises(ValueError, match="it is not usable: at byte 7"), foreign("it"):
        raise PanicError("at\nbyte 7")
    for kind in (KeyboardInterrupt, SystemExit):
        with pytest.raises(kind), foreign("it"):
            raise kind


def test_no_number_is_too_large_to_be_refused() -> None:
    data = json.dumps({"size": 10**400})
    with pytest.raises(ValueError, match="not int"):
        typed(Part, json.loads(data))
