"""Byte-level BPE: lossless on any text, stable, and clear about bad files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from aero.data import tokenizer
from aero.data.tokenizer import END_OF_TEXT, LONGEST_WORD, Tokenizer, pieces
from aero.data.tokenizer_file import _PATTERNS

TEXTS = [Path(tokenizer.__file__).read_text(encoding="utf-8"), "café 😀\n"]
TOKENIZER = tokenizer.train(TEXTS, 300)


@given(st.text())
def test_decode_undoes_encode_on_any_text(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    assert TOKENIZER.end_of_text not in ids
    assert TOKENIZER.encode_batch([text, "x"])[0] == ids
    lengths = TOKENIZER.token_bytes()
    assert sum(lengths[i] for i in ids) == len(text.encode("utf-8"))


def test_text_that_spells_the_special_token_stays_text() -> None:
    text = f"a{END_OF_TEXT}b"
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.end_of_text not in ids
    assert TOKENIZER.decode(ids) == text
    assert TOKENIZER.decode([TOKENIZER.end_of_text]) == END_OF_TEXT
    assert TOKENIZER.token_bytes()[TOKENIZER.end_of_text] == 0


def file_of(tokens: Tokenizer) -> dict[str, Any]:
    return json.loads(tokens._inner.to_str())


def from_file(file: object) -> Tokenizer:
    return Tokenizer.from_bytes(json.dumps(file).encode())


def test_a_file_from_another_party_encodes_every_text() -> None:
    file = file_of(TOKENIZER)
    assert from_file(file).encode("for x") == TOKENIZER.encode("for x")
    assert TOKENIZER.vocab_size == 300
    file["model"]["unk_token"] = "none such"
    file["truncation"] = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
    file["padding"] = {
        "strategy": {"Fixed": 1 << 62}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 99999,
        "pad_type_id": 0, "pad_token": "?",
    }  # fmt: skip
    found = from_file(file)
    assert found.encode("for漢") == TOKENIZER.encode("for漢")
    assert found.decode(found.encode("for漢")) == "for漢"


def set_in(file: dict[str, Any], value: Any, *path: str | int) -> dict[str, Any]:
    *parents, last = path
    place: Any = file
    for key in parents:
        place = place[key]
    place[last] = value
    return file


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("##", ["model", "continuing_subword_prefix"]),  # merges of it abort the library
        ("é" * 9, ["model", "continuing_subword_prefix"]),
        ("</w>", ["model", "end_of_word_suffix"]),
        ({"type": "WordLevel", "vocab": {END_OF_TEXT: 0}, "unk_token": "none such"}, ["model"]),
        ({"type": "Unigram", "vocab": [[END_OF_TEXT, 0.0]], "unk_id": 7}, ["model"]),
        (0.5, ["model", "dropout"]),
        (True, ["model", "byte_fallback"]),
        ([["no", "such"]], ["model", "merges"]),
        (["a b c"], ["model", "merges"]),
        ([["a"]], ["model", "merges"]),
        ([7], ["model", "merges"]),
        (-1, ["model", "vocab", "a"]),
        (1 << 40, ["model", "vocab", "a"]),
        (1.5, ["model", "vocab", "a"]),
        (0, ["model", "vocab", "a"]),  # that of another word
        (7, ["model", "vocab", "\ud800"]),
        ([], ["model", "vocab"]),
        (None, ["pre_tokenizer"]),
        ({"type": "Whitespace"}, ["pre_tokenizer"]),
        (True, ["pre_tokenizer", "add_prefix_space"]),
        (False, ["pre_tokenizer", "use_regex"]),
        ({"type": "Sequence", "pretokenizers": []}, ["pre_tokenizer"]),
        (
            {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel"},
            ]},
            ["pre_tokenizer"],
        ),
        ({"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}, ["normalizer"]),
        ({"type": "Precompiled", "precompiled_charsmap": "AAAA"}, ["normalizer"]),
        (None, ["decoder"]),
        ({"type": "Strip", "content": "a", "start": 1 << 60, "stop": 0}, ["decoder"]),
        ({"type": "Sequence", "decoders": [{"type": "ByteLevel"}, {"type": "Fuse"}]}, ["decoder"]),
        ({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "?"}}]}, ["post_processor"]),
        ({"type": "TemplateProcessing", "single": [{"SpecialToken": 7}], "special_tokens": {}}, ["post_processor"]),
        ({"type": "BertProcessing", "sep": ["a", 1], "cls": ["?", 99_999]}, ["post_processor"]),
        ({"type": "Sequence", "processors": [{"type": "RobertaProcessing"}]}, ["post_processor"]),
        ({"type": "Sequence", "processors": [{"type": "ByteLevel"}] * 99}, ["post_processor"]),
        ({"type": "Unheard"}, ["post_processor"]),
        ([], ["post_processor"]),
        ("", ["added_tokens", 0, "content"]),
        ("another", ["added_tokens", 0, "content"]),
        (99_999, ["added_tokens", 0, "id"]),
        ("yes", ["added_tokens", 0, "special"]),
        ({}, ["added_tokens"]),
        ([None], ["added_tokens"]),
    ],
)  # fmt: skip
def test_a_file_that_says_what_byte_level_bpe_does_not_is_refused(value: Any, path: list[str | int]) -> None:
    with pytest.raises(ValueError) as refused:
        from_file(set_in(file_of(TOKENIZER), value, *path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"{}", b"[" * 100_000, b'{"model":' * 200, b"\xff\xfe", bytes(9)]
)
def test_bytes_that_are_no_tokenizer(data: bytes) -> None:
    with pytest.raises(ValueError):
        Tokenizer.from_bytes(data)


def test_tokens_that_are_added_after_the_vocabulary() -> None:
    file = file_of(TOKENIZER)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    file["added_tokens"] += [{"id": 300 + i, "content": " " * (24 - i), **flags} for i in range(3)]
    found = from_file(file)
    assert found.encode(" " * 24) == [300] and found.decode([300, 302]) == " " * 46
    file["added_tokens"][-1]["id"] = 400
    with pytest.raises(ValueError, match="do not follow"):
        from_file(file)


def test_other_ways_of_cutting_and_normalizing_that_are_in_use() -> None:
    file = file_of(TOKENIZER)
    split = {"type": "Split", "pattern": {"Regex": _PATTERNS[0]}, "behavior": "Isolated", "invert": False}
    level = {**file["pre_tokenizer"], "use_regex": False}
    file["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, level]}
    file["normalizer"] = {"type": "NFC"}
    theirs = tokenizers.Tokenizer.from_str(json.dumps(file))
    text = "It's 12345 a\r\n\n  b漢 e\u0301"
    found = from_file(file)
    assert found.encode(text) == theirs.encode(text).ids
    assert found.decode(found.encode(text)) == text.replace("e\u0301", "é")


def test_a_file_is_saved_as_it_was(tmp_path: Path) -> None:
    data = json.dumps(file_of(TOKENIZER) | {"post_processor": {"type": "ByteLevel"}}).encode()
    Tokenizer.from_bytes(data).save(tmp_path / "tokenizer.json")
    assert (tmp_path / "tokenizer.json").read_bytes() == data


def test_text_that_is_not_unicode_is_refused() -> None:
    for encode in (TOKENIZER.encode, lambda text: TOKENIZER.encode_batch(["a", text])):
        with pytest.raises(ValueError, match="not Unicode at character 2"):
            encode("ab\udce9")
    for text in ("", "\x00", "a\rb\r\n", "\ufeffx", "\U0010ffff"):
        assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_a_word_of_any_length_is_cut_before_training() -> None:
    texts = [*TEXTS, "漢字" * 200, "= " * 900, "a1" * 5000, "x" * LONGEST_WORD, " " * LONGEST_WORD + "y\n" * 999]
    for text in texts:
        assert list(pieces(text)) == [text]
    plain = tokenizers.Tokenizer(models.BPE())
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    plain.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=[END_OF_TEXT],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False,
        ),
    )  # fmt: skip
    assert tokenizer.train(texts, 400)._inner.to_str() == plain.to_str()
    long = "a b " + "é" * 300_000 + " c" + "=" * 3001 + "\n" * 2001 + "7" * 1001
    found = list(pieces(long))
    assert "".join(found) == long
    words = [len(word) for piece in found for word, _ in plain.pre_tokenizer.pre_tokenize_str(piece)]
    assert max(words) <= 2 * LONGEST_WORD + 1  # é is two bytes, and a blank may go before it
    assert len(found) == 1 + 299 + 3 + 2 + 1  # as many cuts as there are whole pieces, not more


def test_training_is_deterministic_and_reaches_the_size(tmp_path: Path) -> None:
    assert TOKENIZER.vocab_size == 300
    TOKENIZER.save(tmp_path / "a.json")
    tokenizer.train(TEXTS, 300).save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert tokenizer.train(["ab"], 300).vocab_size < 300


def test_loads_from_a_file_and_from_a_folder(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tokenizer.json"]
    for place in (tmp_path, tmp_path / "tokenizer.json", str(tmp_path)):
        assert tokenizer.load(place).encode("for x in y") == TOKENIZER.encode("for x in y")


def test_bad_input_gives_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json does not exist"):
        tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="not a tokenizer file"):
        tokenizer.load(tmp_path)
    with pytest.raises(ValueError, match="at least 257"):
        tokenizer.train(TEXTS, 256)
    with pytest.raises(ValueError, match="no text"):
        tokenizer.train([], 300)
    with pytest.raises(ValueError, match="300 is not in the vocabulary"):
        TOKENIZER.decode([300])
    with pytest.raises(ValueError, match="-1 is not in the vocabulary"):
        TOKENIZER.decode([-1])


def test_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, aero.data.tokenizer, aero.data.folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
