"""Byte-level BPE: lossless on any text, stable, and clear about bad files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.data import tokenizer
from aero.data.tokenizer import END_OF_TEXT, Tokenizer

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


def test_a_file_from_another_party_encodes_every_text(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    file = json.loads((tmp_path / "tokenizer.json").read_bytes())
    assert Tokenizer.from_bytes(json.dumps(file).encode()).encode("for x") == TOKENIZER.encode("for x")
    assert TOKENIZER.largest_id == 299
    file["model"]["unk_token"], file["pre_tokenizer"] = "none such", None
    file["truncation"] = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
    file["padding"] = {
        "strategy": {"Fixed": 7}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 99999, "pad_type_id": 0,
        "pad_token": "?",
    }  # fmt: skip
    found = Tokenizer.from_bytes(json.dumps(file).encode())
    assert found.decode(found.encode("for漢")) == "for"
    file["model"] = {"type": "WordLevel", "vocab": {END_OF_TEXT: 0}, "unk_token": "none such"}
    with pytest.raises(ValueError, match="byte-level BPE"):
        Tokenizer.from_bytes(json.dumps(file).encode())


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
