"""What a tokenizer file may say: the byte-level BPE that `aero data` trains, those of GPT-2, GPT-NeoX and the like; and
BERT's WordPiece, from which no text comes back.

A library that reads such a file trusts it: some that it accepts make it abort the process, or fail on some texts alone,
which would tell the other party of the text. So a file is read as JSON, each part of it is checked against what
byte-level BPE needs, and the library is given what was checked and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aero.files.reading import parse_json

MAX_IDS = 1 << 21
_MOST_BEFORE = 16  # tokens that a template puts before a text, or after it
_LONGEST_WORD = 1000
_NEEDED = "use a byte-level BPE such as GPT-2's"

# How texts are cut into words, beside GPT-2's way, which ByteLevel itself knows: of cl100k and Llama 3, and of Qwen 2.
_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = (_LLAMA_3, _LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}"))
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class Content:
    """What was checked. text: JSON for the library; added: ids of the added tokens; before, after: ids that its
    template puts before a text and after it. lossless: whether ids give back their text: of byte-level BPE."""

    text: str
    added: Mapping[str, int]
    before: tuple[int, ...]
    after: tuple[int, ...]
    lossless: bool


def checked(data: bytes) -> Content:
    """The file's content, cut down to what AERO uses: no truncation, padding or template; of byte-level BPE no token
    for unknown bytes, of WordPiece no decoder.

    ValueError, saying what is wrong, where it is neither, or not sound.
    """
    file = parse_json(data, "the tokenizer")
    _need(isinstance(file, dict) and isinstance(file.get("model"), dict), f"it has no model; {_NEEDED}")
    pieces = file["model"].get("type") == "WordPiece"
    vocab, model = (_word_pieces if pieces else _model)(file["model"])
    added = _added(file.get("added_tokens", []), vocab)
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": (_bert_normalizer if pieces else _normalizer)(file.get("normalizer")),
        "pre_tokenizer": (_bert_words if pieces else _pre_tokenizer)(file.get("pre_tokenizer")),
        "post_processor": None,
        "decoder": None if pieces else _decoder(file.get("decoder")),
        "model": model,
    }
    before, after = _template(file.get("post_processor"))
    known = {*vocab.values(), *(token["id"] for token in added)}
    few = max(len(before), len(after)) <= _MOST_BEFORE
    _need(few and known.issuperset((*before, *after)), "its template begins or ends texts with unknown tokens")
    words = {token["content"]: token["id"] for token in added}
    return Content(json.dumps(content, ensure_ascii=False), words, tuple(before), tuple(after), not pieces)


def with_special(data: bytes, special: Iterable[int]) -> bytes:
    """The file with these ids as special tokens, which no text spells. ValueError as `checked`, and for unknown ids."""
    file = json.loads(checked(data).text)
    words = {number: word for word, number in file["model"]["vocab"].items()}
    added = {token["id"]: token for token in file["added_tokens"]}
    for number in special:
        _need(number in added or number in words, f"it has no token {number}")
        token = added.get(number) or {"id": number, "content": words[number], **dict.fromkeys(_FLAGS, False)}
        added[number] = {**token, "special": True}
    changed = {**json.loads(data), "added_tokens": [added[number] for number in sorted(added)]}
    return json.dumps(changed, ensure_ascii=False, indent=2).encode("utf-8")


def _template(value: Any) -> tuple[list[int], list[int]]:
    """What a template puts before a text and after it."""
    if value is None:
        return [], []
    _need(isinstance(value, dict), "its post_processor is no object")
    kind = value.get("type")
    if kind == "Sequence":
        several = value.get("processors")
        _need(isinstance(several, list) and len(several) <= _MOST_BEFORE, "its post_processor is no list")
        _need(
            all(isinstance(part, dict) and part.get("type") != "Sequence" for part in several), "a bad post_processor"
        )
        each = [_template(part) for part in several]
        return [i for part, _ in reversed(each) for i in part], [i for _, part in each for i in part]
    before: list[Any] = []
    after: list[Any] = []
    if kind in ("BertProcessing", "RobertaProcessing"):
        before, after = (p[1:] if isinstance(p, list) else [None] for p in (value.get("cls"), value.get("sep")))
    elif kind == "TemplateProcessing":
        single, specials = value.get("single"), value.get("special_tokens")
        _need(isinstance(single, list) and isinstance(specials, dict), "its template is none")
        side = before
        for piece in single:
            found = piece.get("SpecialToken") if isinstance(piece, dict) else None
            if found is None:
                side = after
                continue
            word = found.get("id") if isinstance(found, dict) else None
            token = specials.get(word) if isinstance(word, str) else None
            ids = token.get("ids") if isinstance(token, dict) else None
            side += ids if isinstance(ids, list) else [None]
    else:
        _need(kind == "ByteLevel", f"its post_processor {kind!r} is unknown; {_NEEDED}")
    _need(all(type(number) is int for number in (*before, *after)), "its template names no ids")
    return before, after


def _word_pieces(model: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, Any]]:
    """A word is cut into the longest pieces that there are; one that has none, or is long, is the unknown token."""
    vocab, unknown = _vocab(model), model.get("unk_token")
    _need(isinstance(unknown, str) and unknown in vocab, "its token for unknown words is not in its vocabulary")
    prefix, longest = model.get("continuing_subword_prefix", "##"), model.get("max_input_chars_per_word", 100)
    _need(isinstance(prefix, str) and len(prefix) <= _MOST_BEFORE, "its prefix of pieces is none")
    _need(
        type(longest) is int and 0 < longest <= _LONGEST_WORD, f"its words are not of 1 to {_LONGEST_WORD} characters"
    )
    more = {"continuing_subword_prefix": prefix, "max_input_chars_per_word": longest}
    return vocab, {"type": "WordPiece", "unk_token": unknown, **more, "vocab": vocab}


def _bert_normalizer(value: Any) -> dict[str, Any]:
    _need(isinstance(value, dict) and value.get("type") == "BertNormalizer", "its normalizer is not BERT's")
    found = {name: value.get(name, True) for name in ("clean_text", "handle_chinese_chars", "lowercase")}
    strips = value.get("strip_accents")
    bools = all(isinstance(flag, bool) for flag in found.values()) and (strips is None or isinstance(strips, bool))
    _need(bools, "a flag of its normalizer is none")
    return {"type": "BertNormalizer", **found, "strip_accents": strips}


def _bert_words(value: Any) -> dict[str, Any]:
    _need(isinstance(value, dict) and value.get("type") == "BertPreTokenizer", "it does not cut texts as BERT does")
    return {"type": "BertPreTokenizer"}


def _vocab(model: Mapping[str, Any]) -> dict[str, int]:
    vocab = model.get("vocab")
    _need(isinstance(vocab, dict) and 0 < len(vocab) <= MAX_IDS, "it has no vocabulary")
    assert isinstance(vocab, dict)
    _need(all(type(i) is int and 0 <= i < MAX_IDS for i in vocab.values()), "an id of its vocabulary is none")
    _need(len(set(vocab.values())) == len(vocab), "two words of its vocabulary have the same id")
    for word in vocab:
        _text(word)
    return vocab


def _model(model: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, Any]]:
    _need(model.get("type", "BPE") == "BPE" and "merges" in model, f"its model is not BPE; {_NEEDED}")
    # Pieces of words that are spelt otherwise than their bytes: what is merged is then no longer what stands there.
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        _need(model.get(name) in (None, ""), f"its {name} is not empty; {_NEEDED}")
    _need(model.get("dropout") in (None, 0), "it drops merges at random; set dropout to null")
    _need(model.get("byte_fallback") in (None, False), f"it has tokens such as <0x0A> in place of bytes; {_NEEDED}")
    vocab = _vocab(model)
    merges, found = model["merges"], []
    _need(isinstance(merges, list) and len(merges) <= MAX_IDS, "its merges are no list")
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        _need(isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) and p for p in pair), "a bad merge")
        _need(pair[0] in vocab and pair[1] in vocab and pair[0] + pair[1] in vocab, "a merge of unknown words")
        found.append(pair)
    ignored = model.get("ignore_merges", False)
    _need(isinstance(ignored, bool), "ignore_merges is neither true nor false")
    return vocab, {"type": "BPE", "vocab": vocab, "merges": found, "ignore_merges": ignored}


def _added(tokens: Any, vocab: Mapping[str, int]) -> list[dict[str, Any]]:
    _need(isinstance(tokens, list) and len(tokens) <= MAX_IDS, "its added tokens are no list")
    words = {i: word for word, i in vocab.items()}
    found: dict[int, dict[str, Any]] = {}
    for token in tokens:
        _need(isinstance(token, dict), "an added token is no object")
        number, content = token.get("id"), token.get("content")
        _need(type(number) is int and 0 <= number < MAX_IDS and number not in found, "an added token's id is none")
        _need(isinstance(content, str) and content != "", "an added token is empty")
        flags = {name: token.get(name, False) for name in _FLAGS}
        _need(all(isinstance(flag, bool) for flag in flags.values()), "an added token's flag is none")
        _need(vocab.get(_text(content), number) == number and words.get(number, content) == content, "ids clash")
        found[number] = {"id": number, "content": content, **flags}
    _need(len({token["content"] for token in found.values()}) == len(found), "an added token occurs twice")
    return [found[number] for number in sorted(found)]


def _normalizer(value: Any) -> dict[str, str] | None:
    """NFC, as GPT-NeoX has it, or none: others lose more of a text."""
    _need(
        value is None or (isinstance(value, dict) and value.get("type") == "NFC"),
        f"its normalizer is not NFC; {_NEEDED}",
    )
    return None if value is None else {"type": "NFC"}


def _pre_tokenizer(value: Any) -> dict[str, Any]:
    parts = _parts(value, "pretokenizers")
    *before, last = parts
    _need(last.get("type") == "ByteLevel" and not last.get("add_prefix_space"), f"it is not byte-level; {_NEEDED}")
    cuts = [_cut(part) for part in before]
    whole = last.get("use_regex", True)
    _need(
        whole is True or (whole is False and bool(cuts)), "it cuts no text into words, so that long texts take for ever"
    )
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": whole}
    return {"type": "Sequence", "pretokenizers": [*cuts, level]} if cuts else level


def _cut(part: Mapping[str, Any]) -> dict[str, Any]:
    """A way of cutting texts that comes before the bytes. A regular expression is code: only known ones are run."""
    if part.get("type") == "Digits":
        return {"type": "Digits", "individual_digits": bool(part.get("individual_digits"))}
    pattern = part.get("pattern")
    known = isinstance(pattern, dict) and pattern.get("Regex") in _PATTERNS
    plain = part.get("behavior") == "Isolated" and not part.get("invert")
    _need(part.get("type") == "Split" and known and plain, f"it cuts texts into words in an unknown way; {_NEEDED}")
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


def _decoder(value: Any) -> dict[str, Any]:
    (part,) = _parts(value, "decoders", most=1)
    _need(part.get("type") == "ByteLevel", f"its decoder is not byte-level; {_NEEDED}")
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def _parts(value: Any, name: str, most: int = 4) -> list[dict[str, Any]]:
    """The parts of a sequence, or the one part that there is."""
    _need(isinstance(value, dict), f"it has no {name}; {_NEEDED}")
    parts = value.get(name) if value.get("type") == "Sequence" else [value]
    fits = isinstance(parts, list) and 1 <= len(parts) <= most and all(isinstance(part, dict) for part in parts)
    _need(fits, f"its {name} are not byte-level; {_NEEDED}")
    assert isinstance(parts, list)
    return parts


def _text(word: str) -> str:
    _need(word.isascii() or not any("\ud800" <= c <= "\udfff" for c in word), "a word of it is not Unicode text")
    return word


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)
