"""An encoder as our own engine serves it: number formats from texts, and what those do to its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from aero.compiler.compiled import Compiled
from aero.compiler.quantize import Quantized, quantize
from aero.data import tokenizer
from aero.data.text_files import read_text
from aero.data.tokenizer import Tokenizer
from aero.engines.insecure.plain import InsecurePlainEngine
from aero.engines.two_party.room import with_room
from aero.graph import interpret
from aero.serve.session import MAX_PROMPTS


def text_ids(tokens: Tokenizer, text: str, context: int) -> np.ndarray:
    """A text as the encoder reads it, int64 [n]. ValueError where it is longer than the context."""
    ids = tokens.encode_text(text)
    if len(ids) > context:
        raise ValueError(f"a text of {len(ids)} tokens does not fit the model's context of {context}; shorten it")
    return np.array(ids, dtype=np.int64)


@dataclass(frozen=True)
class Texts:
    """Token ids [n] of texts to choose number formats by, to test them on, and unlike both. known: whether they are
    real ones."""

    calibration: list[np.ndarray]
    test: list[np.ndarray]
    outside: list[np.ndarray]
    known: bool


def texts_of(run: Path, compiled: Compiled, file: Path | None, calibration: int, test: int) -> Texts:
    """Of a file with a text on each line, cut to the context; where there is none, random tokens of several lengths.

    ValueError for a file of too few lines.
    """
    tokens, context = tokenizer.load(run), compiled.context
    strange = [_random(tokens, context, seed) for seed in range(calibration + test)]
    if file is None:
        return Texts(strange[:calibration], strange[calibration:], [], known=False)
    lines = [line for line in read_text(file).splitlines() if line.strip()]
    if len(lines) < calibration + test:
        raise ValueError(f"{file} has {len(lines)} texts; give more, or ask for fewer with --calibration, --test")
    ids = [np.array(_cut(tokens, line, context), dtype=np.int64) for line in lines[: calibration + test]]
    return Texts(ids[:calibration], ids[calibration:], strange[:calibration], known=True)


def _cut(tokens: Tokenizer, text: str, context: int) -> list[int]:
    ids = tokens.encode_text(text)
    end = list(tokens.after)
    return ids if len(ids) <= context else [*ids[: context - len(end)], *end]


def _random(tokens: Tokenizer, context: int, seed: int) -> np.ndarray:
    """Every other one fills the context; the rest are shorter and shorter."""
    rng = np.random.default_rng(seed)
    around = len(tokens.before) + len(tokens.after)
    length = max(1, (context if seed % 2 else max(context // (seed + 2), around + 1)) - around)
    words = rng.integers(tokens.vocab_size, size=length)
    return np.concatenate([tokens.before, words, tokens.after]).astype(np.int64)[:context]


def encoder_formats(compiled: Compiled, texts: Texts) -> Quantized:
    """Number formats with room for noise in every step of a session; windows of scores from real texts alone, as rows
    outside them come out wrong. ValueError, naming what is in the way, where there are none."""
    found = quantize(compiled.program, texts.calibration, outside=texts.outside)
    plan = found.plan if texts.known else replace(found.plan, windows=())
    return replace(found, plan=with_room(compiled, plan, MAX_PROMPTS))


@dataclass(frozen=True)
class OutputAccuracy:
    """What fixed point does to outputs, of texts that were not calibrated on. largest: error of a number of the output;
    relative: to the largest number; cosine: the least of an output in float64 and in fixed point; same: share of texts
    with the same largest number; texts: how many."""

    largest: float
    relative: float
    cosine: float
    same: float
    texts: int


def output_accuracy(compiled: Compiled, quantized: Quantized, texts: Sequence[np.ndarray]) -> OutputAccuracy:
    engine, pairs = InsecurePlainEngine(quantized.plan), []
    for ids in texts:
        program = compiled.prefill(len(ids))
        pairs.append((interpret(program, ids)[0], engine.run(program.graph, weights=program.weights, ids=ids)[0]))
    exact, fixed = (np.array(side) for side in zip(*pairs, strict=True))
    largest = float(np.abs(fixed - exact).max())
    return OutputAccuracy(
        largest,
        largest / float(np.abs(exact).max()),
        float(min(cosine(a, b) for a, b in pairs)),
        float((exact.argmax(axis=1) == fixed.argmax(axis=1)).mean()),
        len(pairs),
    )


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
