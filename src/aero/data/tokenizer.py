"""Text to token ids and back: byte-level BPE, from the `tokenizers` library; for encoders, BERT's WordPiece. Needs no
torch.

Byte-level: every text has ids, and the ids give back exactly that text. Special tokens are never produced from text,
not even from text that spells them, unless that is asked for. One of them separates documents: the end token of the
folder's tokenizer_config.json, as Hugging Face has it, else `END_OF_TEXT`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from aero.data import tokenizer_file
from aero.files import manifest
from aero.files.atomic import replacing, write_text
from aero.files.reading import foreign, parse_json, present, read_bytes

END_OF_TEXT = "<|endoftext|>"
FILE, CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"
MIN_VOCAB = 257  # 256 bytes and END_OF_TEXT
MAX_FILE_BYTES = 64 << 20
LONGEST_WORD = 1000
"""Characters of a word that a tokenizer is trained on: the trainer's time grows with the square of a word's length."""

_WORDS = re.compile(r"\S+|\s+")


class Tokenizer:
    """A trained byte-level BPE, or a WordPiece. Make one by `train` or `load`."""

    def __init__(
        self,
        inner: tokenizers.Tokenizer,
        file: bytes | None = None,
        before: Sequence[int] = (),
        end: str = END_OF_TEXT,
        *,
        after: Sequence[int] = (),
        lossless: bool = True,
    ) -> None:
        """file: what `save` writes, where it is not what the library makes of `inner`; before, after: ids that its
        template puts before a text, such as one for the beginning, and after one that is whole; end: the token that
        separates documents; lossless: whether ids give back their text."""
        inner.encode_special_tokens = True  # text that spells a special token stays text
        self._inner = inner
        self._file = file
        self._end = end
        self.before, self.after = tuple(before), tuple(after)
        self.lossless = lossless
        self.vocab_size: int = max(inner.get_vocab().values()) + 1
        """Ids are below it; a file may leave some out."""
        added = inner.get_added_tokens_decoder()
        self.added = [token.content for token in added.values()]
        self.special: dict[str, int] = {token.content: i for i, token in sorted(added.items()) if token.special}
        """Ids of the special tokens, by how they are spelt."""

    @classmethod
    def from_bytes(cls, data: bytes, end: str = END_OF_TEXT) -> Tokenizer:
        """A tokenizer from the bytes of its file, perhaps another party's. ValueError where they are not sound, or not
        of a kind that is read (`aero.data.tokenizer_file`). end: the token that separates documents.

        Whatever the file says, every text is encoded: whether that fails would tell the other party of the text.
        """
        content = tokenizer_file.checked(data)
        with foreign("the tokenizer"):
            inner = tokenizers.Tokenizer.from_str(content.text)
        if any(inner.token_to_id(word) != number for word, number in content.added.items()):
            raise ValueError("the ids of its added tokens do not follow its vocabulary")
        return cls(inner, data, content.before, end, after=content.after, lossless=content.lossless)

    @property
    def end_of_text(self) -> int:
        """The token that separates documents. ValueError where there is none."""
        end = self.id_of(self._end)
        if end is None:
            raise ValueError(
                f"the tokenizer has no {self._end} token to separate documents; name its own as eos_token in "
                f"{CONFIG_FILE}, or use a tokenizer made by `aero data`"
            )
        return end

    def id_of(self, word: str) -> int | None:
        """The id of a token by how the file spells it, None where there is none."""
        found: int | None = self._inner.token_to_id(word)
        return found

    def spelling(self, token: int) -> str | None:
        """How the file spells a token, None for an unknown id."""
        found: str | None = self._inner.id_to_token(token)
        return found

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """The ids of a text. ValueError where it is not Unicode: a lone surrogate, as from input that is not UTF-8.

        special: special tokens that it spells become what they say. Otherwise they stay text, character for character,
        as what others have written should.
        """
        if special:
            return self._ids(self._parts(text))
        return self._inner.encode(unicode_text(text), add_special_tokens=False).ids

    def encode_prompt(self, text: str, *, special: bool = False) -> list[int]:
        """`before` and the ids of a text that a model is to continue: as Hugging Face's own tokenizer encodes it, which
        reads special tokens wherever they are spelt."""
        return [*self.before, *self.encode(text, special=special)]

    def encode_text(self, text: str) -> list[int]:
        """The ids of a whole text, as an encoder reads it: `before`, those of its words, `after`. Special tokens that
        it spells stay text."""
        return [*self.before, *self.encode(text), *self.after]

    def encode_template(self, template: str, fill: Callable[[str], str]) -> list[int]:
        """The ids of a template, whose special tokens are meant. fill: puts texts into what stands between them; they
        stay text."""
        return self._ids(fill(p) if isinstance(p, str) else p for p in self._parts(template))

    def spelt(self, text: str) -> list[str]:
        """The special tokens that a text spells, each once."""
        words = {number: word for word, number in self.special.items()}
        return list(dict.fromkeys(words[part] for part in self._parts(text) if isinstance(part, int)))

    def _ids(self, parts: Iterable[str | int]) -> list[int]:
        return [i for part in parts for i in (self.encode(part) if isinstance(part, str) else [part])]

    def _parts(self, text: str) -> list[str | int]:
        """The ids of the special tokens that a text spells, and the text between them. Some take the blanks beside
        them."""
        special = set(self.special.values())
        found = self._reading_special.encode(unicode_text(text), add_special_tokens=False)
        parts: list[str | int] = []
        last = 0
        for number, (start, end) in zip(found.ids, found.offsets, strict=True):
            if number in special:
                parts += [text[last:start], number]
                last = end
        return [*parts, text[last:]]

    @cached_property
    def _reading_special(self) -> tokenizers.Tokenizer:
        """The same, in which special tokens are read wherever a text spells them."""
        inner = tokenizers.Tokenizer.from_str(self._inner.to_str())
        inner.encode_special_tokens = False
        return inner

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, on all cores (see TOKENIZERS_PARALLELISM). ValueError as `encode`."""
        texts = [unicode_text(text) for text in texts]
        return [e.ids for e in self._inner.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; bytes that are not UTF-8 (half of a character) become U+FFFD.

        ValueError for an unknown id.
        """
        ids = [int(i) for i in ids]
        if bad := [i for i in ids if not 0 <= i < self.vocab_size]:
            raise ValueError(f"token id {bad[0]} is not in the vocabulary of {self.vocab_size}")
        return self._inner.decode(ids, skip_special_tokens=False)

    def token_bytes(self) -> list[int]:
        """For each id, how many bytes of text in UTF-8 it stands for; 0 for special tokens, which no text gives."""
        added = self._inner.get_added_tokens_decoder()
        spelt = ((i, self._inner.id_to_token(i) or "") for i in range(self.vocab_size))
        none = {*self.special.values(), self.id_of(self._end)}
        # A byte-level token is spelt with one character for each byte, an added one as it stands in the text.
        return [0 if i in none else len(word.encode("utf-8") if i in added else word) for i, word in spelt]

    def bytes_of(self, id: int) -> bytes:
        """What a token stands for: its bytes, or the spelling of a special token. ValueError for an unknown id."""
        spelt = self._inner.id_to_token(id)
        if spelt is None:
            raise ValueError(f"token id {id} is not in the vocabulary of {self.vocab_size}")
        added = id in self._inner.get_added_tokens_decoder()  # spelt as it is
        return spelt.encode() if added else bytes(_BYTES[character] for character in spelt)

    def save(self, path: Path) -> None:
        """Write the file (format of `tokenizers`), atomically: the bytes that it was read from, if it was. Where
        documents end otherwise than with END_OF_TEXT, a tokenizer_config.json beside it says so."""
        with replacing(path) as temporary:
            temporary.write_bytes(self._file or self._inner.to_str(pretty=True).encode("utf-8"))
        if self._end != END_OF_TEXT:
            write_text(path.with_name(CONFIG_FILE), json.dumps({"eos_token": self._end}, indent=2) + "\n")


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train byte-level BPE (Sennrich et al. 2016, on bytes as in GPT-2) to at most `vocab_size` ids.

    Little text may give fewer: see the result's `vocab_size`.
    """
    if vocab_size < MIN_VOCAB:
        raise ValueError(
            f"a vocabulary of {vocab_size} is too small; it needs at least {MIN_VOCAB}: the bytes and {END_OF_TEXT}"
        )
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator((piece for text in _checked(texts) for piece in pieces(text)), trainer)
    return Tokenizer(inner)


def load(path: str | Path) -> Tokenizer:
    """Load `tokenizer.json`, given itself or the folder of a run, of data or of Hugging Face that holds it.

    FileNotFoundError where there is none, ValueError where it is not one, or not the one that the folder was made with.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    missing = f"no tokenizer: {file} does not exist"
    if present(file.with_name("merges.txt")):
        missing += "; vocab.json and merges.txt are there: `aero convert` makes one of them, with the model"
    data = read_bytes(file, missing, MAX_FILE_BYTES)
    manifest.verify(file.parent, {file.name, CONFIG_FILE})
    try:
        return Tokenizer.from_bytes(data, declared(file.with_name(CONFIG_FILE)).get("eos_token", END_OF_TEXT))
    except ValueError as error:
        raise ValueError(f"{file} is not a tokenizer file that AERO reads: {error}") from None


def hugging_face_config(tokens: Tokenizer, context: int, begin: str | None = None) -> dict[str, object]:
    """What Hugging Face's AutoTokenizer wants to know beside tokenizer.json, for CONFIG_FILE. begin: the token that it
    takes for the beginning of a text; by default the one that ends documents."""
    end = tokens.spelling(tokens.end_of_text)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": begin or end,
        "eos_token": end,
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }


def declared(path: Path) -> dict[str, str]:
    """The tokens that a tokenizer_config.json or special_tokens_map.json has names for, by these ("eos_token", ...);
    none where there is no file. ValueError where it is no such file."""
    if not present(path):
        return {}
    found = parse_json(read_bytes(path, limit=MAX_FILE_BYTES), str(path))
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not a JSON object; get the file again")
    named = {name: value for name, value in found.items() if name.endswith("_token")}
    texts = {name: value.get("content") if isinstance(value, dict) else value for name, value in named.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str) and text}


def find(name: str) -> Tokenizer:
    """A tokenizer by its place on disk, as in `load`, or else by its name on the Hugging Face Hub ("gpt2").

    ValueError as `check_lossless`. ConnectionError where the Hub is needed and cannot be reached.
    """
    if present(Path(name)):
        found = load(name)
    else:
        from aero.data.hub import snapshot

        found = load(snapshot("tokenizer", name, (FILE, CONFIG_FILE)))
    check_lossless(found, name)
    return found


def check_lossless(tokens: Tokenizer, name: object) -> None:
    """ValueError unless the ids of a text give back exactly that text, up to Unicode's normal form NFC."""
    added = (word for word in tokens.added if word not in tokens.special)
    for probe in ("def f(x):\n\treturn 'ä\u2028 漢  字'\r\n", *(f"a {word} b" for word in added)):
        if tokens.decode(tokens.encode(probe)) != unicodedata.normalize("NFC", probe):
            raise ValueError(
                f"the tokenizer {name} does not give back every text, as {probe!r}; use a byte-level one, as GPT-2's"
            )


def _checked(texts: Iterable[str]) -> Iterator[str]:
    empty = True
    for text in texts:
        empty = False
        yield text
    if empty:
        raise ValueError("no text to train a tokenizer on")


def unicode_text(text: str) -> str:
    """The text, if UTF-8 can write it. ValueError otherwise."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text is not Unicode at character {error.start}: was it typed or stored as UTF-8?"
        ) from None
    return text


def pieces(text: str) -> Iterator[str]:
    """The text in pieces, in which no run of letters, of digits, of other characters or of blanks is longer than
    `LONGEST_WORD`; it is cut within longer runs alone, so that other words are the same as in the whole text."""
    start = 0
    for run in _WORDS.finditer(text) if len(text) > LONGEST_WORD else ():
        if run.end() - run.start() <= LONGEST_WORD:
            continue
        kind, length = "", 0
        for place in range(run.start(), run.end()):
            here = _kind(text[place])
            length = length + 1 if here == kind else 1
            kind = here
            if length > LONGEST_WORD:
                yield text[start:place]
                start, length = place, 1
    yield text[start:]


def _kind(character: str) -> str:
    """Letters, numbers, blanks or others: words as `tokenizers` cuts them are runs of one of these."""
    if character.isspace():
        return "Z"
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "O"


def _spelling() -> dict[str, int]:
    """The byte that each character of a byte-level token stands for: printable ones for themselves, the others, in
    order, from U+0100 on (Radford et al. 2019, as published with GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _spelling()
