"""Info files: the hashes of what belongs together."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from aero.files import manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "0").write_bytes(b"zero")
    (tmp_path / "weights").write_bytes(bytes(range(256)))
    data = {"format_version": 3, "loss": 0.1 + 0.2, "sizes": (1, 2), "by_layer": {10: "a", 9: "b"}, "name": "ä"}
    manifest.write(tmp_path / "data.json", data, ["weights", "shards/0"])
    return tmp_path


def test_what_was_written_is_read(folder: Path) -> None:
    data, files = manifest.read(folder / "data.json", version=3)
    assert data["loss"] == 0.1 + 0.2 and data["sizes"] == [1, 2] and data["by_layer"] == {"10": "a", "9": "b"}
    assert files == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("shards/0", "weights")}
    assert manifest.verify(folder) == files
    assert manifest.verify(folder / "shards") is None


@pytest.mark.parametrize("name", ["weights", "shards/0"])
def test_damage_is_named(name: str, folder: Path) -> None:
    path, whole = folder / name, (folder / name).read_bytes()
    for damaged in (whole[:-1], whole + b"\0", bytes([whole[0] ^ 1]) + whole[1:], b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{name} is damaged, or was changed after it was written; copy"):
            manifest.verify(folder)
    assert manifest.verify(folder, ()) is not None, "not asked for"
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"has lost {name}"):
        manifest.verify(folder)


def test_every_bit_of_the_info_file_counts(folder: Path) -> None:
    """A flipped bit is found, unless what is read stays the same (white space)."""
    path = folder / "data.json"
    whole, meaning = path.read_bytes(), json.loads(path.read_bytes())
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        try:
            manifest.read(path, version=3)
        except ValueError:
            continue
        assert json.loads(path.read_bytes()) == meaning


def test_what_is_refused(folder: Path) -> None:
    path = folder / "data.json"
    with pytest.raises(ValueError, match="version 3, and this aero reads 4; make it anew"):
        manifest.read(path, "make it anew", version=4)
    content = json.loads(path.read_text())
    for change, message in (
        ({"sha256": None}, "was changed"),
        ({"loss": 0.3}, "was changed"),
        ({"files": {}}, "was changed"),
        ({"more": 1}, "was changed"),
    ):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(ValueError, match=message):
            manifest.read(path)
    path.write_text(json.dumps({"format_version": 3}))
    with pytest.raises(ValueError, match="no checksums"):
        manifest.read(path)
    for text in ("", "[", "[1]", "[" * 100_000, "\ufffe"):
        path.write_text(text, encoding="utf-16")
        with pytest.raises(ValueError):
            manifest.read(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        manifest.read(path)
    (folder / "elsewhere").write_bytes(b"x")
    manifest.write(path, {}, ["weights"])
    inside = json.loads(path.read_text())
    del inside["sha256"]
    inside["files"] = {"../elsewhere": "0" * 64}
    path.write_text(json.dumps({**inside, "sha256": manifest._digest(inside)}))
    with pytest.raises(ValueError, match="does not name its files"):
        manifest.read(path)
