"""A data folder: complete or absent, reproducible, and checked when opened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aero.data import build as build_module
from aero.data.build import build
from aero.data.folder import DataFolder
from aero.data.settings import DataSettings


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i}.py").write_text("".join(f"def function_{i}_{j}(x):\n    return x + {j}\n" for j in range(20)))
    return folder


def settings(texts: Path, **changes: object) -> DataSettings:
    return DataSettings(**{"sources": (str(texts),), "vocab_size": 400, "valid_fraction": 0.1, **changes})  # type: ignore[arg-type]


def test_the_shards_spell_the_documents(texts: Path, tmp_path: Path) -> None:
    stages = []
    folder = build(tmp_path / "data", settings(texts), on_progress=lambda stage, done, total: stages.append(stage))
    assert list(dict.fromkeys(stages)) == ["reading", "training the tokenizer", "encoding"]
    tokens = folder.tokenizer()
    assert 300 < folder.info.vocab_size == tokens.vocab_size <= 400
    found = []
    for shard, info in ((folder.train, folder.info.train), (folder.valid, folder.info.valid)):
        text = tokens.decode(shard.read(0, shard.tokens))
        documents = text.split("<|endoftext|>")
        assert documents.pop() == ""
        assert len(documents) == info.documents
        assert sum(len(d.encode()) for d in documents) == info.bytes
        found += documents
    assert sorted(found) == sorted(p.read_text() for p in texts.iterdir())
    assert folder.info.valid.documents == 4


def test_the_same_text_and_settings_give_the_same_bytes(texts: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        build(tmp_path / name, settings(texts, seed=seed))
    a, b, c = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in "abc")
    assert a == b
    assert a["valid.bin"] != c["valid.bin"]


def test_an_existing_folder_is_kept_unless_forced_and_ours(texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    build(out, settings(texts))
    before = (out / "train.bin").read_bytes()
    with pytest.raises(ValueError, match=r"exists already.*--force"):
        build(out, settings(texts, seed=1))
    assert (out / "train.bin").read_bytes() == before
    build(out, settings(texts, seed=1), force=True)
    assert (out / "train.bin").read_bytes() != before
    with pytest.raises(ValueError, match="holds something else"):
        build(texts, settings(texts), force=True)
    assert len(list(texts.iterdir())) == 40
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "texts"]


def test_a_failed_build_leaves_nothing_behind(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build_module, "_encode", fail)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "data", settings(texts))
    assert [p.name for p in tmp_path.iterdir()] == ["texts"]


def test_a_single_text_file_and_a_limit(tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("".join(f"Sentence number {i}.\n" for i in range(5000)))
    folder = build(tmp_path / "data", DataSettings(sources=(str(book),), vocab_size=300, max_megabytes=0.05))
    assert folder.info.train.documents == folder.info.valid.documents == 1
    assert folder.info.train.bytes + folder.info.valid.bytes == 50_000


def test_settings_are_checked() -> None:
    for bad in (
        {"vocab_size": 100},
        {"valid_fraction": 0.0},
        {"sources": ()},
        {"max_megabytes": 0.0},
        {"tokenizer_megabytes": -1.0},
    ):
        with pytest.raises(ValueError):
            DataSettings(**bad)  # type: ignore[arg-type]


def test_opening_checks_version_files_and_agreement(texts: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no data folder at .*aero data"):
        DataFolder(tmp_path / "absent")
    out = tmp_path / "data"
    build(out, settings(texts))
    info = (out / "data.json").read_text()

    (out / "data.json").write_text(info.replace('"format_version": 2', '"format_version": 1'))
    with pytest.raises(ValueError, match="version 1, and this aero reads 2; build the folder again"):
        DataFolder(out)
    changed = {key: value for key, value in json.loads(info).items() if key != "train"}
    (out / "data.json").write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=r"data\.json is damaged, or was changed after it was written"):
        DataFolder(out)
    (out / "data.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        DataFolder(out)
    (out / "data.json").write_text(info)

    for name in ("train.bin", "valid.bin"):
        shard = (out / name).read_bytes()
        (out / name).write_bytes(bytes([shard[0] ^ 1]) + shard[1:])
        folder = DataFolder(out)
        with pytest.raises(ValueError, match=f"{name} is damaged, or was changed .*; build the folder again"):
            getattr(folder, name.removesuffix(".bin"))
        (out / name).write_bytes(shard)
    (out / "notes.txt").write_text("x")
    DataFolder(out)
    (out / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json does not belong"):
        DataFolder(out)
    (out / "tokenizer_config.json").unlink()
    shard = (out / "train.bin").read_bytes()
    (out / "train.bin").write_bytes(shard[:-2])
    with pytest.raises(ValueError, match=r"data\.json says"):
        DataFolder(out)
    (out / "train.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.bin is missing"):
        DataFolder(out)
    (out / "train.bin").write_bytes(shard)

    (out / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="is damaged"):
        DataFolder(out)
