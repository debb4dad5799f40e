"""Data sets of Hugging Face as streams of texts: by the name on the Hub, or a local folder of Parquet or JSON lines.

A stream is read once, in the data set's own order, and nothing of it is kept: it may be larger than memory and disk.
Its position can be written down and taken up again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from aero.data.text_files import FIELDS

PREFIX = "hf:"

T = TypeVar("T")


@dataclass(frozen=True)
class HubData:
    """A data set of texts.

    name: on the Hub, or a local folder; config: which of its configurations, if several; field: of the texts, None: the
    usual ones are tried; valid_name: of the data set that holds the validation texts, None: the split "validation" (or
    "valid", "test") of this one, and where there is none, documents set aside.
    """

    name: str
    config: str | None = None
    field: str | None = None
    valid_name: str | None = None


# The papers' data (Jha & Reagen 2024, §5) where it is still published.
KNOWN: dict[str, HubData] = {
    "codeparrot": HubData(
        "huggingface-course/codeparrot-ds-train",
        field="content",
        valid_name="huggingface-course/codeparrot-ds-valid",
    ),
}
LANGUINI = "languini-books"


def parse(source: str) -> HubData | None:
    """The data set that a source names: "codeparrot", "hf:NAME" or "hf:NAME:CONFIG"; None where it names none.

    ValueError for an empty name, and for "languini-books", which its publisher has withdrawn.
    """
    if source == LANGUINI:
        raise ValueError(
            f"the texts of {LANGUINI} (books3) are no longer published; give a copy of your own, a folder of Parquet "
            "or JSON lines with a field 'text', as hf:FOLDER, or public-domain books such as hf:emozilla/pg19"
        )
    if source in KNOWN:
        return KNOWN[source]
    if not source.startswith(PREFIX):
        return None
    name, _, config = source.removeprefix(PREFIX).partition(":")
    if not name:
        raise ValueError(f"{source!r} names no data set; give hf:NAME, as in hf:roneneldan/TinyStories")
    return HubData(name, config or None)


class HubTexts:
    """The texts of one split, in order. `state` after some of them, given to a new stream, goes on with the next."""

    def __init__(self, rows: Any, field: str) -> None:
        self._rows = rows
        self._field = field

    def __iter__(self) -> Iterator[str]:
        for row in self._rows:
            text = row[self._field]
            yield text if isinstance(text, str) else ""  # a missing text; it counts, so that positions agree

    def state(self) -> dict[str, Any]:
        """The position, as JSON can write it."""
        return self._rows.state_dict()

    def go_to(self, state: dict[str, Any]) -> None:
        self._rows.load_state_dict(state)


def open_streams(data: HubData) -> tuple[HubTexts, HubTexts | None]:
    """The training texts, and the validation texts where the data set has some of its own.

    ConnectionError where the Hub cannot be reached, with what to do; ValueError where there is no such data set, or
    none of its fields is a text.
    """
    splits = _load(data.name, data.config)
    if data.valid_name is not None:
        others = _load(data.valid_name, data.config)
        valid = next(iter(others.values()))
    else:
        valid = next((splits[name] for name in ("validation", "valid", "test") if name in splits), None)
    train = splits.get("train", None)
    if train is None:
        raise ValueError(f"the data set {data.name} has no split 'train', only {', '.join(splits)}; use another")
    field = _field(train, data)
    return HubTexts(train, field), None if valid is None else HubTexts(valid, field)


def _load(name: str, config: str | None) -> Any:
    import datasets

    try:
        return reach(
            f"the data set {name}", "dataset", name, lambda: datasets.load_dataset(name, config, streaming=True)
        )
    except ConnectionError:
        raise
    except Exception as error:  # the library raises many kinds
        raise ValueError(f"cannot open the data set {name}: {error}") from None


def _field(rows: Any, data: HubData) -> str:
    first = next(iter(rows), None)
    if first is None:
        raise ValueError(f"the data set {data.name} is empty; use another")
    texts = [name for name, value in first.items() if isinstance(value, str)]
    wanted = (data.field,) if data.field else (*FIELDS, *texts)
    for name in wanted:
        if name in texts:
            return name
    raise ValueError(f"the data set {data.name} has no field {wanted[0]!r} of text; it has {', '.join(first)}")


def snapshot(what: str, name: str, files: Sequence[str]) -> Path:
    """The folder, in the Hub's cache, of those files of a model's place on the Hub that match one of some patterns.

    what: "model" or "tokenizer", for messages. ValueError where there is no such place, ConnectionError as `reach`.
    """
    from huggingface_hub import snapshot_download

    def load() -> str:
        return snapshot_download(name, allow_patterns=list(files), ignore_patterns=["*/*"])

    try:
        return Path(reach(f"the {what} {name}", "model", name, load))
    except ConnectionError:
        raise
    except Exception as error:  # the library raises many kinds
        raise ValueError(f"no {what} {name!r}, neither a file or folder nor on the Hub: {error}") from None


def reach(what: str, kind: str, name: str, load: Callable[[], T]) -> T:
    """The result of `load`, or a ConnectionError that says what to do where the Hub cannot be reached.

    kind: "dataset" or "model", as the Hub's command line calls repositories of `name`.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return load()
    except (ConnectionError, LocalEntryNotFoundError, TimeoutError):
        remedy = f"hf download {name} --repo-type {kind} --local-dir DIR"
        use = "name it hf:DIR" if kind == "dataset" else "name DIR"
        raise ConnectionError(
            f"cannot reach the Hugging Face Hub for {what}; where there is a network, run `{remedy}`, then "
            f"copy DIR here and {use}"
        ) from None
