"""Data sets of Hugging Face: read from local folders as from the Hub, streamed, taken up again, and offline."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from aero.data import hub, streaming
from aero.data.build import build
from aero.data.folder import DataFolder
from aero.data.settings import DataSettings

TEXTS = [f"def function_{i}(x):\n    return x * {i} + {i % 7}\n" for i in range(500)]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A data set without validation texts, as JSON lines in two files."""
    folder = tmp_path / "lines"
    folder.mkdir()
    for part in range(2):
        rows = [{"id": i, "content": TEXTS[i]} for i in range(part * 250, part * 250 + 250)]
        (folder / f"train-{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def documents(folder: DataFolder, side: str) -> list[str]:
    shard = getattr(folder, side)
    texts = folder.tokenizer().decode(shard.read(0, shard.tokens)).split("<|endoftext|>")
    assert texts.pop() == ""
    assert len(texts) == getattr(folder.info, side).documents
    assert sum(len(t.encode()) for t in texts) == getattr(folder.info, side).bytes
    return texts


def settings(source: Path, **changes: object) -> DataSettings:
    return DataSettings(**{"sources": (f"hf:{source}",), "vocab_size": 300, "valid_fraction": 0.1, **changes})  # type: ignore[arg-type]


def test_texts_come_in_order_and_a_tenth_is_set_aside(lines: Path, tmp_path: Path) -> None:
    folder = build(tmp_path / "data", settings(lines))
    train, valid = documents(folder, "train"), documents(folder, "valid")
    assert 25 < len(valid) < 80
    assert train == [text for text in TEXTS if text in set(train)], "in order"
    assert sorted(train + valid) == sorted(TEXTS)
    other = documents(build(tmp_path / "other", settings(lines, seed=1)), "valid")
    assert other != valid
    assert sorted(p.name for p in folder.path.iterdir()) == ["data.json", "tokenizer.json", "train.bin", "valid.bin"]


def test_parquet_with_validation_texts_of_its_own(tmp_path: Path) -> None:
    source = tmp_path / "set"
    source.mkdir()
    datasets.Dataset.from_dict({"text": TEXTS[:400]}).to_parquet(str(source / "train.parquet"))
    datasets.Dataset.from_dict({"text": [*TEXTS[400:], None]}).to_parquet(str(source / "validation.parquet"))
    folder = build(tmp_path / "data", settings(source))
    assert documents(folder, "train") == TEXTS[:400]
    assert documents(folder, "valid") == TEXTS[400:], "the missing text is left out"


def test_stopped_and_built_again_equals_uninterrupted(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build(tmp_path / "whole", settings(lines))
    monkeypatch.setattr(streaming, "SAVE_EVERY", 128)
    stages: list[str] = []

    def stop(stage: str, done: int, total: int) -> None:
        stages.append(stage)
        if len(stages) == 5:  # the tokenizer, then four batches, of which two are saved
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "stopped", settings(lines), on_progress=stop)
    assert not (tmp_path / "stopped").exists()
    position = json.loads((tmp_path / ".stopped.partial" / "position.json").read_text())["position"]
    assert 0 < position["seen"] < 256

    stages.clear()
    again = build(tmp_path / "stopped", settings(lines), on_progress=lambda stage, done, total: stages.append(stage))
    assert len(stages) == 8 - position["seen"] // 64, "it does not begin again"
    for name in ("train.bin", "valid.bin", "tokenizer.json", "data.json"):
        assert (whole.path / name).read_bytes() == (again.path / name).read_bytes()
    assert not (tmp_path / ".stopped.partial").exists()


def test_other_settings_begin_again(lines: Path, tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "data", settings(lines), on_progress=stop)
    folder = build(tmp_path / "data", settings(lines, vocab_size=280))
    assert folder.info.vocab_size == 280
    assert len(documents(folder, "train")) + len(documents(folder, "valid")) == 500


def test_a_limit_and_a_tokenizer_of_ones_own(lines: Path, tmp_path: Path) -> None:
    first = build(tmp_path / "first", settings(lines))
    limited = build(tmp_path / "data", settings(lines, max_megabytes=0.008, tokenizer=str(first.path)))
    assert 8000 <= limited.info.train.bytes < 8000 + 64 * 50, "up to the batch that reaches it"
    assert limited.info.tokenizer_sha256 == first.info.tokenizer_sha256
    with pytest.raises(ValueError, match=r"exists already.*--force"):
        build(tmp_path / "data", settings(lines))


def test_what_cannot_be_used_is_named(lines: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stands alone"):
        settings(lines, sources=("codeparrot", "stdlib"))
    with pytest.raises(ValueError, match="no longer published"):
        settings(lines, sources=("languini-books",))
    with pytest.raises(ValueError, match="names no data set"):
        settings(lines, sources=("hf:",))
    numbers = tmp_path / "numbers"
    numbers.mkdir()
    (numbers / "train.jsonl").write_text('{"number": 3}\n')
    with pytest.raises(ValueError, match="no field 'text' of text; it has number"):
        build(tmp_path / "data", settings(numbers))
    with pytest.raises(ValueError, match="cannot open the data set"):
        build(tmp_path / "data", settings(tmp_path / "absent"))
    assert hub.parse("stdlib") is None
    assert hub.parse("codeparrot") == hub.KNOWN["codeparrot"]


def test_without_a_network_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True, raising=False)
    with pytest.raises(
        ConnectionError, match="hf download huggingface-course/codeparrot-ds-train --repo-type dataset"
    ) as e:
        build(tmp_path / "data", DataSettings(sources=("codeparrot",)))
    assert "\n" not in str(e.value) and "hf:DIR" in str(e.value)
    with pytest.raises(ConnectionError, match="hf download someone/no-tokenizer --repo-type model"):
        build(
            tmp_path / "data", DataSettings(sources=("stdlib",), tokenizer="someone/no-tokenizer", max_megabytes=0.01)
        )


def test_a_lossy_tokenizer_is_refused(lines: Path, tmp_path: Path) -> None:
    import tokenizers

    lossy = tokenizers.Tokenizer(tokenizers.models.BPE({"<|endoftext|>": 0, "a": 1}, []))
    lossy.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="byte-level"):
        build(tmp_path / "data", settings(lines, tokenizer=str(tmp_path)))
