"""Files that somebody else may have written: whatever is wrong with one is said in one line.

A file that is not there is a FileNotFoundError, with what to do about it. Everything else is a ValueError: a file that
may not be read, or is a folder, is not said to be absent, and no library's own kinds of error come through.
"""

from __future__ import annotations

import json
import math
import os
import stat
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

MAX_BYTES = 256 << 20
"""A description beyond this size is not read; of what AERO writes, a compiled graph is the largest."""
MAX_DEPTH = 64
"""How deeply lists and objects may lie in each other."""


def unreadable(path: Path, error: OSError) -> ValueError:
    """What to raise for a file or folder that the system does not let us read, as the system says it."""
    if os.path.islink(path) and isinstance(error, FileNotFoundError):
        return ValueError(f"{path} is a link to {os.readlink(path)}, which does not exist")
    return ValueError(f"{path} cannot be read: {error.strerror or type(error).__name__}")


def present(path: Path) -> bool:
    """Whether something has this name, of whatever kind: who then reads it hears what is wrong with it.

    ValueError where that cannot be seen, as when a part of its path is a file.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError as error:  # a null byte
        raise ValueError(f"{str(path)!r} is not a path: {error}") from None
    return True


def read_bytes(path: Path, missing: str = "", limit: int | None = MAX_BYTES) -> bytes:
    """The content of a regular file. FileNotFoundError with `missing` where there is none, else ValueError."""
    if not present(path):
        raise FileNotFoundError(missing or f"{path} does not exist")
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise ValueError(f"{path} is a folder, not a file")
        if not stat.S_ISREG(found.st_mode):  # reading might never end
            raise ValueError(f"{path} is not a regular file")
        if limit is not None and found.st_size > limit:
            raise ValueError(f"{path} has {found.st_size} bytes; a file of this kind has at most {limit}")
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None


def read_text(path: Path, missing: str = "", limit: int | None = MAX_BYTES) -> str:
    """The text of a file in UTF-8. As `read_bytes`."""
    try:
        return read_bytes(path, missing, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start})") from None


def read_json(path: Path, missing: str = "", limit: int | None = MAX_BYTES) -> Any:
    """What a JSON file says. As `read_bytes`; ValueError, too, where it is not JSON, or nested beyond `MAX_DEPTH`."""
    return parse_json(read_bytes(path, missing, limit), str(path))


def parse_json(data: bytes | str, what: str) -> Any:
    """What JSON says; ValueError, which calls it `what`, where it is none or nested beyond `MAX_DEPTH`."""
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{what} is not JSON: {_short(error)}") from None
    layer = [value]
    for _ in range(MAX_DEPTH):
        layer = [child for parent in layer for child in _children(parent) if isinstance(child, (dict, list))]
        if not layer:
            return value
    raise ValueError(f"{what} is nested too deeply")


@contextmanager
def interpreting(what: str, remedy: str = "") -> Iterator[None]:
    """Around code that makes something of data read: where it does not fit, a ValueError that names `what`."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        why = f"it has no {_short(error)}" if isinstance(error, KeyError) else f"{kind}{_short(error)}"
        raise ValueError(f"{what} is not usable: {why}" + (f"; {remedy}" if remedy else "")) from None


@contextmanager
def foreign(what: str, remedy: str = "") -> Iterator[None]:
    """Around a library that reads data: all that it raises becomes a ValueError that names `what`.

    Libraries written in Rust raise kinds of their own, and panics, which are no `Exception`.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise ValueError(f"{what} is not usable: {_short(error)}" + (f"; {remedy}" if remedy else "")) from None


def typed(kind: Any, value: Any, where: str = "") -> Any:
    """What JSON gave, as a value of the type `kind`, in which lists become tuples, and objects data classes.

    Types may be bool, int (of 64 bits), float (finite), str, None, Any, Literal, optional ones, list, tuple, dict, and
    data classes, of which each field is there unless it has a default, and no other. where: what to call the value.
    ValueError, naming the place, where something does not fit.
    """
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if kind is float and type(value) is int and abs(value) < 1 << 63:
        return float(value)
    if kind is float and type(value) is float and not math.isfinite(value):
        raise ValueError(f"{where or 'it'} is {value}, not a finite number")
    if kind in (bool, int, float, str, type(None)):
        if type(value) is not kind or (kind is int and not -(1 << 63) <= value < 1 << 63):
            raise ValueError(f"{where or 'it'} is {_shown(value)}, not {getattr(kind, '__name__', kind)}")
        return value
    if origin is Literal:
        if not isinstance(value, (str, int)) or value not in args:
            raise ValueError(f"{where} is {_shown(value)}, not one of {', '.join(map(str, args))}")
        return value
    if origin in (Union, types.UnionType):
        for arg in args:
            try:
                return typed(arg, value, where)
            except ValueError as error:
                if len(args) == 2 and type(None) in args and value is not None and arg is not type(None):
                    raise error from None  # it says more than what follows
        raise ValueError(f"{where} is {_shown(value)}, which is of another type")
    if origin in (list, tuple, Sequence):
        if not isinstance(value, list):
            raise ValueError(f"{where} is {_shown(value)}, not a list")
        if origin is tuple and args[-1] is not Ellipsis and len(args) != len(value):
            raise ValueError(f"{where} has {len(value)} entries, not {len(args)}")
        of_each = args if origin is tuple and args[-1] is not Ellipsis else [args[0]] * len(value)
        found = [typed(of_each[i], entry, f"{where}[{i}]") for i, entry in enumerate(value)]
        return tuple(found) if origin is tuple else found
    if not isinstance(value, dict):
        raise ValueError(f"{where or 'it'} is {_shown(value)}, not an object")
    if origin in (dict, Mapping):
        return {key: typed(args[1], entry, f"{where}[{_shown(key)}]") for key, entry in value.items()}
    if kind in (dict, Mapping):
        return value
    assert isinstance(kind, type) and is_dataclass(kind)
    hints, given = _hints(kind), {}
    if unknown := set(value) - {f.name for f in fields(kind)}:
        raise ValueError(f"{where or 'it'} has an unknown field {_shown(min(unknown))}")
    for f in fields(kind):
        if f.name in value:
            given[f.name] = typed(hints[f.name], value[f.name], f"{where}.{f.name}" if where else f.name)
        elif f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"{where or 'it'} has no field {f.name!r}")
    return kind(**given)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _children(value: Any) -> Iterator[Any] | list[Any]:
    return iter(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, (str, int, float, bool, type(None))) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
