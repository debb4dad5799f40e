"""WordPiece files: read as Hugging Face reads them, but that special tokens stay text; others are refused."""

import json

import pytest
from transformers import AutoTokenizer

from aero.data.tokenizer import Tokenizer, load
from aero.data.tokenizer_file import MAX_IDS
from small_encoders import WORDS, write_tokenizer

TEXTS = ["The cat sat.", "", " Cafés, naïve\x00 dogs \n", "漢字 cat's " + "x" * 300, "runs-on mats!?", "\u2028é\t" * 5]


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_hugging_face(text, tmp_path):
    write_tokenizer(tmp_path)
    ours, theirs = load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert ours.encode_text(text) == theirs(text)["input_ids"]
    assert ours.encode_prompt(text) == ours.encode_text(text)[:-1]
    assert (ours.before, ours.after, ours.lossless, ours.vocab_size) == ((2,), (3,), False, len(WORDS))


def test_text_that_spells_a_special_token_stays_text(tmp_path):
    write_tokenizer(tmp_path)
    ids = load(tmp_path).encode_text("cat [SEP] [MASK]")
    assert ids.count(3) == 1 and 4 not in ids


def changed(tmp_path, **parts) -> bytes:
    write_tokenizer(tmp_path)
    file = json.loads((tmp_path / "tokenizer.json").read_text())
    for name, value in parts.items():
        part, _, key = name.partition("__")
        if key:
            file[part][key] = value
        else:
            file[part] = value
    return json.dumps(file).encode()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"model__unk_token": "nothing"}, "unknown words"),
        ({"model__continuing_subword_prefix": 3}, "prefix"),
        ({"model__max_input_chars_per_word": 10**9}, "1 to 1000 characters"),
        ({"model__vocab": {"a": MAX_IDS}}, "an id"),
        ({"normalizer": {"type": "Lowercase"}}, "normalizer is not BERT's"),
        ({"normalizer__lowercase": "yes"}, "flag of its normalizer"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "as BERT does"),
        (
            {"post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 10**6], "cls": ["[CLS]", 2]}},
            "unknown tokens",
        ),
    ],
)
def test_what_is_not_sound_is_refused(parts, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Tokenizer.from_bytes(changed(tmp_path, **parts))


def test_both_kinds_of_templates_are_read(tmp_path):
    processing = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    tokens = Tokenizer.from_bytes(changed(tmp_path, post_processor=processing))
    assert (tokens.before, tokens.after) == ((2,), (3,))
