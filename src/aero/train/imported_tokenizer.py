"""The tokenizer of a checkpoint of Hugging Face, and the tokens after which the model's text has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aero.data import tokenizer
from aero.data.tokenizer import CONFIG_FILE, END_OF_TEXT, FILE, Tokenizer, check_lossless, declared
from aero.data.tokenizer_file import with_special
from aero.files.reading import parse_json, present, read_bytes

_OTHER_KINDS = {"*.model": "SentencePiece", "vocab.txt": "WordPiece"}


@dataclass(frozen=True)
class ReadTokenizer:
    """tokens: as its files say. file: tokenizer.json's bytes. declared: which of its tokens have which part, by
    Hugging Face's names ("eos_token", "bos_token", ...). notes: for the user, a sentence each."""

    tokens: Tokenizer
    file: bytes
    declared: Mapping[str, str]
    notes: tuple[str, ...]

    def with_ends(self, ends: tuple[int, ...]) -> Tokenizer:
        """The tokenizer of the run folder. Tokens that end a text, and others that the files declare, are special
        there, so that no text spells them; documents are separated by the end token that the files declare, else by
        the model's first."""
        ids = {word: self.tokens.id_of(word) for word in self.declared.values()}
        wanted = {*ends, *(number for number in ids.values() if number is not None)}
        special = {number for number in wanted if not _is_word(self.tokens, number)}
        end = self.declared.get("eos_token", "")
        if ids.get(end) is None:
            end = (self.tokens.spelling(ends[0]) if ends else None) or END_OF_TEXT
        return Tokenizer.from_bytes(with_special(self.file, special), end)


@dataclass(frozen=True)
class Ends:
    """ids: after which a text has ended; note: which they are, and by which file."""

    ids: tuple[int, ...]
    note: str


def read_tokenizer(folder: Path) -> ReadTokenizer:
    """The tokenizer of a folder: of its tokenizer.json, else made of vocab.json and merges.txt, by transformers.

    FileNotFoundError where there is none, ValueError for one that is not byte-level BPE or does not give back every
    text.
    """
    notes: tuple[str, ...] = ()
    names = declared(folder / "special_tokens_map.json") | declared(folder / CONFIG_FILE)
    if not present(folder / FILE) and present(folder / "vocab.json") and present(folder / "merges.txt"):
        data = _of_vocabulary_and_merges(folder, names)
        notes = (f"tokenizer made of vocab.json and merges.txt, as {folder} has no {FILE}",)
    else:
        for pattern, kind in _OTHER_KINDS.items():
            if not present(folder / FILE) and (found := sorted(folder.glob(pattern))):
                raise ValueError(
                    f"{found[0]} is a {kind} vocabulary, and AERO reads byte-level BPE, as GPT-2's; use a model that "
                    "has one"
                )
        data = read_bytes(folder / FILE, f"no tokenizer: {folder / FILE} does not exist", tokenizer.MAX_FILE_BYTES)
    try:
        tokens = Tokenizer.from_bytes(data)
    except ValueError as error:
        raise ValueError(f"the tokenizer in {folder} is not one that AERO reads: {error}") from None
    check_lossless(tokens, folder)
    if tokens.before:
        begin = " ".join(str(tokens.spelling(number)) for number in tokens.before)
        notes = (*notes, f"prompts begin with {begin}, as its tokenizer has it")
    return ReadTokenizer(tokens, data, names, notes)


def _of_vocabulary_and_merges(folder: Path, names: Mapping[str, str]) -> bytes:
    from transformers import AutoTokenizer

    try:
        made: Any = AutoTokenizer.from_pretrained(folder)
        file = json.loads(made.backend_tokenizer.to_str())
        # Some kinds of models get more tokens there than their files have, which the model may have no words for.
        stated = {*json.loads((folder / "vocab.json").read_text(encoding="utf-8")), *names.values()}
        stated |= {str(word) for word in made.init_kwargs.get("added_tokens_decoder", {}).values()}
        file["added_tokens"] = [token for token in file["added_tokens"] if token["content"] in stated]
        return json.dumps(file, ensure_ascii=False, indent=2).encode("utf-8")
    except Exception as error:  # the library raises many kinds
        reason = " ".join(str(error).split())
        raise ValueError(f"vocab.json and merges.txt in {folder} make no tokenizer: {reason}") from None


def end_tokens(folder: Path, config: Any, tokens: Tokenizer) -> Ends:
    """The tokens after which a model's text has ended.

    Of these, the first that names tokens of the vocabulary: generation_config.json, config.json (which transformers'
    `generate` obeys in this order), the tokenizer's eos_token, and END_OF_TEXT. config: transformers' own.
    """
    path = folder / "generation_config.json"
    generation = parse_json(read_bytes(path), str(path)) if present(path) else {}
    names = declared(folder / "special_tokens_map.json") | declared(folder / CONFIG_FILE)
    named = {
        "generation_config.json": generation.get("eos_token_id") if isinstance(generation, dict) else None,
        "config.json": getattr(config, "eos_token_id", None),
        "the tokenizer": tokens.id_of(names.get("eos_token", END_OF_TEXT)),
    }
    found = {place: _ids(place, value, tokens) for place, value in named.items()}
    by = next((place for place, ids in found.items() if ids), None)
    if by is None:
        return Ends((), "no token ends a text; generation ends with --max-new-tokens and --stop alone")
    others = [
        f"{place} says {_listed(tokens, ids)}" for place, ids in found.items() if ids and set(ids) != set(found[by])
    ]
    note = f"texts end with {_listed(tokens, found[by])}, by {by}"
    return Ends(found[by], note + (f" ({'; '.join(others)})" if others else ""))


def _ids(place: str, value: Any, tokens: Tokenizer) -> tuple[int, ...]:
    """Those that are in the vocabulary; a model never says another."""
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(value) is int for value in values):
        raise ValueError(f"eos_token_id of {place} is {value!r}; it must be an id, or a list of ids")
    return tuple(dict.fromkeys(value for value in values if 0 <= value < tokens.vocab_size and tokens.spelling(value)))


def _is_word(tokens: Tokenizer, number: int) -> bool:
    """Whether a token is an ordinary one, such as a newline after which a model's text has ended."""
    return tokens.spelling(number) not in tokens.added and number in tokens.encode(tokens.decode([number]))


def _listed(tokens: Tokenizer, ids: tuple[int, ...]) -> str:
    return ", ".join(f"{tokens.spelling(number)} ({number})" for number in ids)
