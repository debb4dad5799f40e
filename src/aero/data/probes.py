"""Texts unlike the text that a model was trained on, to see what it does with any prompt. Needs no torch.

They are fixed here, so that two people who probe a model probe it with the same texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from aero.data.tokenizer import Tokenizer

# From the preamble of the Universal Declaration of Human Rights (1948), in the public domain.
_PREAMBLE = """\
Whereas recognition of the inherent dignity and of the equal and inalienable rights of all members of the human family
is the foundation of freedom, justice and peace in the world, whereas disregard and contempt for human rights have
resulted in barbarous acts which have outraged the conscience of mankind, and the advent of a world in which human
beings shall enjoy freedom of speech and belief and freedom from fear and want has been proclaimed as the highest
aspiration of the common people, whereas it is essential, if man is not to be compelled to have recourse, as a last
resort, to rebellion against tyranny and oppression, that human rights should be protected by the rule of law, whereas
it is essential to promote the development of friendly relations between nations, whereas Member States have pledged
themselves to achieve, in cooperation with the United Nations, the promotion of universal respect for and observance of
human rights and fundamental freedoms, whereas a common understanding of these rights and freedoms is of the greatest
importance for the full realization of this pledge, now, therefore, the General Assembly proclaims this Universal
Declaration of Human Rights as a common standard of achievement for all peoples and all nations.
"""

# Article 1 of the Universal Declaration of Human Rights.
_ARTICLE_1 = (
    "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt und "
    "sollen einander im Geist der Brüderlichkeit begegnen.",
    "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y "
    "conciencia, deben comportarse fraternalmente los unos con los otros.",
    "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и должны "
    "поступать в отношении друг друга в духе братства.",
    "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。",
    "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性と良心とを"
    "授けられており、互いに同胞の精神をもって行動しなければならない。",
    "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. وقد وهبوا عقلا وضميرا وعليهم أن يعامل بعضهم بعضا بروح الإخاء.",
)


def _prose(tokenizer: Tokenizer, tokens: int, rng: np.random.Generator) -> list[int]:
    return _cycle(tokenizer.encode(_PREAMBLE), tokens)


def _languages(tokenizer: Tokenizer, tokens: int, rng: np.random.Generator) -> list[int]:
    return _cycle(tokenizer.encode("\n".join(_ARTICLE_1)), tokens)


def _random_bytes(tokenizer: Tokenizer, tokens: int, rng: np.random.Generator) -> list[int]:
    # Half of what is drawn is no UTF-8 by itself; as Latin-1 it becomes text that the tokenizer can read.
    text = rng.integers(256, size=4 * tokens, dtype=np.uint8).tobytes().decode("latin-1")
    return _cycle(tokenizer.encode(text), tokens)


def _random_tokens(tokenizer: Tokenizer, tokens: int, rng: np.random.Generator) -> list[int]:
    return [int(i) for i in rng.integers(tokenizer.vocab_size, size=tokens)]


def _repeated_tokens(tokenizer: Tokenizer, tokens: int, rng: np.random.Generator) -> list[int]:
    # Keys that only their positions tell apart.
    return [int(i) for i in np.repeat(rng.integers(tokenizer.vocab_size, size=-(-tokens // 16)), 16)[:tokens]]


PROBES: Mapping[str, Callable[[Tokenizer, int, np.random.Generator], list[int]]] = {
    "English prose": _prose,
    "other languages": _languages,
    "random bytes": _random_bytes,
    "random tokens": _random_tokens,
    "repeated tokens": _repeated_tokens,
}


def probe(name: str, tokenizer: Tokenizer, blocks: int, length: int, seed: int = 0) -> list[np.ndarray]:
    """`blocks` texts of `length` token ids. ValueError, listing the known names, for another one.

    Names: English prose (a preamble), other languages (one paragraph in seven of them), random bytes
    (as text), random tokens (uniform over the vocabulary), repeated tokens (each of them 16 times).
    """
    if name not in PROBES:
        raise ValueError(f"unknown probe {name!r}; known: {', '.join(PROBES)}")
    ids = PROBES[name](tokenizer, blocks * length, np.random.default_rng(seed))
    return list(np.asarray(ids, dtype=np.int64).reshape(blocks, length))


def _cycle(ids: list[int], count: int) -> list[int]:
    return (ids * (-(-count // len(ids))))[:count]
