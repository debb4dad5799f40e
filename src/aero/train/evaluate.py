"""How well a model predicts text it was not trained on: perplexity and bits per byte."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aero.data import corpus, hub, tokenizer
from aero.data.folder import DataFolder
from aero.data.packing import Shard, ShardWriter, token_dtype
from aero.data.text_files import Skipped
from aero.models import AeroForCausalLM
from aero.models.loss import IGNORED
from aero.train.run_folder import RunInfo, finished_with_data

# Published models often have a few more words than their tokenizer, for the sake of a round number.
_PADDING = 0.02


@dataclass(frozen=True)
class Evaluation:
    """loss: mean over predicted tokens, in nats. perplexity: exp(loss). bits_per_byte: the same loss for each byte of
    text, which does not depend on the tokenizer. blocks of `context` tokens were read, `stride` apart, and `tokens`
    predicted, each once.
    """

    loss: float
    perplexity: float
    bits_per_byte: float
    tokens: int
    blocks: int
    context: int
    stride: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def fits(words: int, vocab_size: int) -> bool:
    """May a model of this vocabulary read a tokenizer's text of so many words?"""
    return words <= vocab_size <= (1 + _PADDING) * words


@dataclass(frozen=True)
class _Window:
    """Tokens from `start`; those from `first` on, counted from `start`, are predicted."""

    start: int
    first: int


def _windows(tokens: int, length: int, stride: int, limit: int | None) -> list[_Window]:
    """Windows of `length` from the beginning, so that every token but the first is predicted at most once.

    Side by side (stride = length), the first of each is not predicted, as it has no context, and an incomplete last
    window is left out. With a smaller stride each window predicts the tokens that are new in it, the last one ends
    with the text, and every token but the very first is predicted.
    """
    if stride == length:
        found = [_Window(start, 1) for start in range(0, tokens - length + 1, length)]
    else:
        found, end = [_Window(0, 1)], length
        while end < tokens:
            start = min(end + stride, tokens) - length
            found.append(_Window(start, end - start))
            end = start + length
    return found[:limit]


@torch.no_grad()
def evaluate(
    model: AeroForCausalLM,
    shard: Shard,
    token_bytes: list[int],
    blocks: int | None = None,
    stride: int | None = None,
    batch_size: int = 16,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure a model on the first `blocks` windows of a shard (None: all), in the model's own precision.

    token_bytes: bytes of text of each token id (`Tokenizer.token_bytes`). stride: tokens from one window to the next,
    at most the context, which is the default: smaller ones give every token more context, and take longer. Raises
    ValueError where the shard has no window, or other ids than the model.
    """
    length, vocab = model.config.context, model.config.vocab_size
    stride = length if stride is None else stride
    if not fits(len(token_bytes), vocab):
        raise ValueError(
            f"the model has a vocabulary of {vocab}, the text one of {len(token_bytes)}; use the model's data"
        )
    if not 1 <= stride <= length:
        raise ValueError(f"a stride of {stride} does not go with a context of {length}; give one from 1 to {length}")
    if shard.tokens < length:
        raise ValueError(f"{shard.path} holds {shard.tokens} tokens, less than one block of {length}; use more text")
    windows = _windows(shard.tokens, length, stride, blocks)
    width = np.asarray(token_bytes)
    was_training = model.training
    model.eval()
    nats = torch.zeros((), dtype=torch.float64)
    bytes_predicted = tokens = 0
    for begin in range(0, len(windows), batch_size):
        part = windows[begin : begin + batch_size]
        batch = np.stack([shard.read(window.start, length) for window in part])
        predicted = np.arange(length)[None] >= np.array([window.first for window in part])[:, None]
        ids = torch.from_numpy(batch).to(model.device)
        labels = torch.from_numpy(np.where(predicted, batch, IGNORED)).to(model.device)
        loss = model(input_ids=ids, labels=labels, skip_logits=True).loss
        nats += loss.double().cpu() * int(predicted.sum())
        tokens += int(predicted.sum())
        bytes_predicted += int(width[batch[predicted]].sum())
        if on_progress:
            on_progress(begin + len(part), len(windows))
    model.train(was_training)
    loss_per_token = float(nats) / tokens
    return Evaluation(
        loss=loss_per_token,
        perplexity=math.exp(min(loss_per_token, 700.0)),  # beyond it exceeds a float
        bits_per_byte=float(nats) / math.log(2) / max(bytes_predicted, 1),
        tokens=tokens,
        blocks=len(windows),
        context=length,
        stride=stride,
    )


def evaluate_on(
    model: AeroForCausalLM,
    data: DataFolder,
    blocks: int | None = None,
    stride: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure a model on the validation side of a data folder."""
    return evaluate(model, data.valid, data.tokenizer().token_bytes(), blocks, stride, on_progress=on_progress)


def evaluate_run(
    run: Path,
    data: Path | None = None,
    blocks: int | None = None,
    stride: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[RunInfo, DataFolder, Evaluation]:
    """Measure a finished run on a data folder, by default the one that it was trained on.

    The errors of `aero.train.run_folder.finished_with_data` and `evaluate`.
    """
    info, folder = finished_with_data(run, data)
    return info, folder, evaluate_on(AeroForCausalLM.from_pretrained(run), folder, blocks, stride, on_progress)


def evaluate_run_on_text(
    run: Path,
    source: str,
    blocks: int | None = None,
    stride: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    skipped: Skipped | None = None,
) -> tuple[RunInfo, Evaluation]:
    """Measure a finished run on any text, as `shard_of_text` reads it. The errors of that and of `evaluate`."""
    info = RunInfo.read_finished(run)
    tokens, model = tokenizer.load(run), AeroForCausalLM.from_pretrained(run)
    # A window more than will be read, so that the last that is read need not end with the text.
    enough = None if blocks is None else (blocks + 1) * model.config.context
    with shard_of_text(source, tokens, enough, skipped) as shard:
        return info, evaluate(model, shard, tokens.token_bytes(), blocks, stride, on_progress=on_progress)


@contextmanager
def shard_of_text(
    source: str, tokens: tokenizer.Tokenizer, enough: int | None = None, skipped: Skipped | None = None
) -> Iterator[Shard]:
    """Any text as token ids: "stdlib", a file or a folder, or a data set of Hugging Face ("hf:NAME").

    Documents follow each other, END_OF_TEXT after each, until there are `enough` tokens; a data set gives its
    validation texts, if it has some. The errors of `aero.data.corpus.read` and `aero.data.hub.open_streams`, and
    ValueError where there is no text.
    """
    hub_data = hub.parse(source)
    texts: Iterable[str]
    if hub_data is not None:
        train, valid = hub.open_streams(hub_data)
        texts = valid or train
    else:
        texts = (document.text for document in corpus.read(source, skipped=skipped))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.bin"
        with ShardWriter(path, tokens.vocab_size, tokens.end_of_text) as writer:
            for text in texts:
                writer.write(tokens.encode(text))
                if enough is not None and writer.tokens >= enough:
                    break
        if writer.tokens == 0:
            raise ValueError(f"{source} holds no text; use another source")
        yield Shard(path, token_dtype(tokens.vocab_size))
