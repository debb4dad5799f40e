"""Special tokens: text that spells them stays text, templates and `special` mean them; against `tokenizers` itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from aero.data import tokenizer
from aero.data.tokenizer import END_OF_TEXT, Tokenizer, check_lossless, train
from aero.data.tokenizer_file import with_special

BASE = train(["def f(x): return x\n" * 9, "to be or not to be, é漢\n"], 300)
WORDS = {"    ": False, "é漢": False, "<s>": True, "</s>": True, "<pad>": True, "<pad>>": True}


def added(**flags: dict[str, bool]) -> bytes:
    file = json.loads(BASE._inner.to_str())
    first = BASE.vocab_size
    none = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    file["added_tokens"] += [
        {"id": first + i, "content": word, **none, "special": special, **flags.get(word, {})}
        for i, (word, special) in enumerate(WORDS.items())
    ]
    return json.dumps(file).encode()


def ids(tokens: Tokenizer, *words: str) -> list[int]:
    found = [tokens.id_of(word) for word in words]
    assert None not in found
    return found  # type: ignore[return-value]


TOKENS = Tokenizer.from_bytes(added())
# `<pad>` takes the blanks on both sides, as RoBERTa's mask takes those on its left.
STRIPPING = added(**{"<pad>": {"lstrip": True, "rstrip": True}, "</s>": {"rstrip": True}})
pieces = st.lists(st.sampled_from([*WORDS, END_OF_TEXT, "to be", " ", "\n ", "<", ">", "é", "<pa", "{}"]), max_size=9)


@given(pieces)
def test_special_tokens_are_read_as_the_library_reads_them(parts):
    text = "".join(parts)
    # The library reads blanks twice that one token takes and another one is.
    for data, spelt in ((added(), text), (STRIPPING, re.sub(" {4,}", " ", text))):
        theirs = tokenizers.Tokenizer.from_str(data.decode())
        assert Tokenizer.from_bytes(data).encode(spelt, special=True) == theirs.encode(spelt).ids


@given(pieces)
def test_text_stays_text(parts):
    text = "".join(parts)
    found = TOKENS.encode(text)
    assert not set(found) & set(TOKENS.special.values())
    assert TOKENS.decode(found) == text
    width = TOKENS.token_bytes()
    assert sum(width[i] for i in found) == len(text.encode())


@given(pieces, pieces)
def test_in_a_template_special_tokens_are_meant_and_in_the_text_they_are_not(before, line):
    template, text = "".join(before).replace("{}", "") + "<s> {}</s>\n", "".join(line)
    found = TOKENS.encode_template(template, lambda part: part.replace("{}", text))
    assert TOKENS.decode(found) == template.replace("{}", text)
    inside = [i for i in TOKENS.encode(template.replace("{}", ""), special=True) if i in TOKENS.special.values()]
    assert [i for i in found if i in TOKENS.special.values()] == inside
    # Without special tokens, a template is the whole text, words across its borders included.
    assert TOKENS.encode_template("to b{} not", lambda part: part.replace("{}", text)) == TOKENS.encode(
        f"to b{text} not"
    )


def test_bytes_of_added_tokens():
    width = TOKENS.token_bytes()
    assert [width[i] for i in ids(TOKENS, "    ", "é漢", "<s>", "</s>", END_OF_TEXT)] == [4, 5, 0, 0, 0]
    assert TOKENS.encode("é漢    ") == ids(TOKENS, "é漢", "    ")
    assert TOKENS.spelt("a<pad>></s><pad>></s>") == ["<pad>>", "</s>"] and BASE.spelt("</s>") == []


TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "</s>", "type_id": 0}},
    ],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {
        word: {"id": word, "ids": ids(TOKENS, word), "tokens": [word]} for word in ("<s>", "</s>")
    },
}  # fmt: skip
ROBERTA = {
    "type": "RobertaProcessing", "sep": ["</s>", ids(TOKENS, "</s>")[0]], "cls": ["<s>", ids(TOKENS, "<s>")[0]],
    "trim_offsets": True, "add_prefix_space": False,
}  # fmt: skip
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}


@pytest.mark.parametrize("template", [TEMPLATE, ROBERTA, {"type": "Sequence", "processors": [LEVEL, TEMPLATE]}])
def test_a_prompt_begins_as_the_tokenizers_template_says(template):
    """What the template puts after a text is left out: the prompt is continued."""
    data = json.dumps(json.loads(added()) | {"post_processor": template}).encode()
    found, theirs = Tokenizer.from_bytes(data), tokenizers.Tokenizer.from_str(data.decode())
    for text in ("to be", "", "x </s> y"):
        assert found.encode_prompt(text, special=True) == theirs.encode(text).ids[:-1]
    assert found.encode_prompt("</s>") == [*ids(TOKENS, "<s>"), *TOKENS.encode("</s>")]
    assert found.encode("to be") == TOKENS.encode("to be")
    assert TOKENS.encode_prompt("to be") == TOKENS.encode("to be")


def test_tokens_become_special():
    """As for end tokens that a file lists as ordinary ones, or has in its vocabulary alone."""
    file = json.loads(added())
    for token in file["added_tokens"]:
        token["special"] = False
    file["added_tokens"] = [token for token in file["added_tokens"] if token["content"] != END_OF_TEXT]
    data, (end, last) = json.dumps(file).encode(), ids(TOKENS, "</s>", END_OF_TEXT)
    assert Tokenizer.from_bytes(data).encode("a</s>")[-1] == end
    found = Tokenizer.from_bytes(with_special(data, [end, last]))
    assert found.special == {"</s>": end, END_OF_TEXT: last}
    text = f"to be</s>{END_OF_TEXT}"
    assert not {end, last} & set(found.encode(text)) and found.decode(found.encode(text)) == text
    assert found.encode(text, special=True)[-2:] == [end, last]
    with pytest.raises(ValueError, match="no token 9999"):
        with_special(data, [9999])


def test_documents_end_with_the_declared_token(tmp_path: Path):
    (tmp_path / "tokenizer.json").write_bytes(added())
    assert tokenizer.load(tmp_path).end_of_text == TOKENS.id_of(END_OF_TEXT)
    for value in ("</s>", {"content": "</s>", "lstrip": False}):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": value, "model_max_length": 5}))
        tokens = tokenizer.load(tmp_path)
        assert tokens.end_of_text == TOKENS.id_of("</s>")
    tokens.save(tmp_path / "copy" / "tokenizer.json")
    assert tokenizer.load(tmp_path / "copy").end_of_text == tokens.end_of_text
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<none>"}))
    with pytest.raises(ValueError, match="no <none> token to separate documents"):
        assert tokenizer.load(tmp_path).end_of_text
    (tmp_path / "tokenizer_config.json").write_text("[")
    with pytest.raises(ValueError, match="not JSON"):
        tokenizer.load(tmp_path)


def test_added_tokens_that_lose_text_are_refused():
    with pytest.raises(ValueError, match="does not give back every text"):
        check_lossless(Tokenizer.from_bytes(added(**{"é漢": {"lstrip": True}})), "mine")
    check_lossless(Tokenizer.from_bytes(STRIPPING), "mine")


def test_a_folder_of_vocabulary_and_merges_says_what_to_do(tmp_path: Path):
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(FileNotFoundError, match="`aero convert` makes"):
        tokenizer.load(tmp_path)
