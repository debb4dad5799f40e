"""Text to token ids and back: byte-level BPE, from the `tokenizers` library. Needs no torch.

Byte-level: every text has ids, and the ids give back exactly that text. The one special token, `END_OF_TEXT`, separates
documents; it is never produced from text, not even from text that spells it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from aero.data import tokenizer_file
from aero.files import manifest
from aero.files.atomic import replacing
from aero.files.reading import foreign, present, read_bytes

END_OF_TEXT = "<|endoftext|>"
FILE = "tokenizer.json"
MIN_VOCAB = 257  # 256 bytes and END_OF_TEXT
MAX_FILE_BYTES = 64 << 20
LONGEST_WORD = 1000
"""Characters of a word that a tokenizer is trained on: the trainer's time grows with the square of a word's length."""

_WORDS = re.compile(r"\S+|\s+")


class Tokenizer:
    """A trained byte-level BPE. Make one by `train` or `load`."""

    def __init__(self, inner: tokenizers.Tokenizer, file: bytes | None = None) -> None:
        """file: what `save` writes, where it is not what the library makes of `inner`."""
        end = inner.token_to_id(END_OF_TEXT)
        if end is None:
            raise ValueError(f"the tokenizer has no {END_OF_TEXT} token; use one made by `aero data`")
        inner.encode_special_tokens = True  # text that spells a special token stays text
        self._inner = inner
        self._file = file
        self.end_of_text: int = end

    @classmethod
    def from_bytes(cls, data: bytes) -> Tokenizer:
        """A tokenizer from the bytes of its file, perhaps another party's. ValueError where they are not sound, or not
        a byte-level BPE (`aero.data.tokenizer_file`).

        Whatever the file says, every text is encoded: whether that fails would tell the other party of the text.
        """
        content = tokenizer_file.checked(data)
        with foreign("the tokenizer"):
            inner = tokenizers.Tokenizer.from_str(content.text)
        if any(inner.token_to_id(word) != number for word, number in content.added.items()):
            raise ValueError("the ids of its added tokens do not follow its vocabulary")
        return cls(inner, data)

    @property
    def vocab_size(self) -> int:
        """Number of ids, END_OF_TEXT included."""
        return self._inner.get_vocab_size()

    @property
    def largest_id(self) -> int:
        """Below `vocab_size`, unless the file leaves ids out."""
        return max(self._inner.get_vocab().values())

    def encode(self, text: str) -> list[int]:
        """The ids of a text. ValueError where it is not Unicode: a lone surrogate, as from input that is not UTF-8."""
        return self._inner.encode(unicode_text(text), add_special_tokens=False).ids

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
        """For each id, how many bytes of text it stands for; 0 for END_OF_TEXT."""
        # A byte-level token is spelt with one character for each byte.
        spelt = (self._inner.id_to_token(i) or "" for i in range(self.vocab_size))
        return [0 if i == self.end_of_text else len(token) for i, token in enumerate(spelt)]

    def save(self, path: Path) -> None:
        """Write the file (format of `tokenizers`), atomically: the bytes that it was read from, if it was."""
        with replacing(path) as temporary:
            temporary.write_bytes(self._file or self._inner.to_str(pretty=True).encode("utf-8"))


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
    """Load `tokenizer.json`, given itself or the folder of a run or of data that holds it.

    FileNotFoundError where there is none, ValueError where it is not one, or not the one that the folder was made with.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    data = read_bytes(file, f"no tokenizer: {file} does not exist", MAX_FILE_BYTES)
    manifest.verify(file.parent, {file.name})
    try:
        return Tokenizer.from_bytes(data)
    except ValueError as error:
        raise ValueError(f"{file} is not a tokenizer file that AERO reads: {error}") from None


def find(name: str) -> Tokenizer:
    """A tokenizer by its place on disk, as in `load`, or else by its name on the Hugging Face Hub ("gpt2").

    It must be byte-level, so that its ids give back exactly the text (ValueError). ConnectionError where the Hub is
    needed and cannot be reached.
    """
    if present(Path(name)):
        found = load(name)
    else:
        from aero.data.hub import reach

        try:
            inner = reach(f"the tokenizer {name}", "model", name, lambda: tokenizers.Tokenizer.from_pretrained(name))
        except ConnectionError:
            raise
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"no tokenizer {name!r}, neither a file nor on the Hub: {error}") from None
        found = Tokenizer.from_bytes(inner.to_str(pretty=True).encode("utf-8"))
    probe = "def f(x):\n\treturn 'ä\u2028 漢  字'\r\n"
    if found.decode(found.encode(probe)) != probe:
        raise ValueError(f"the tokenizer {name} does not give back every text; use a byte-level one, as GPT-2's")
    return found


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
