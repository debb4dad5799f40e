"""How well a model predicts text it was not trained on: perplexity and bits per byte."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aero.data import tokenizer
from aero.data.folder import DataFolder, file_sha256
from aero.data.packing import Shard
from aero.models import AeroForCausalLM
from aero.train.run_folder import RunInfo

# Published models often have a few more words than their tokenizer, for the sake of a round number.
_PADDING = 0.02


@dataclass(frozen=True)
class Evaluation:
    """loss: mean over predicted tokens, in nats. perplexity: exp(loss). bits_per_byte: the same loss for each byte of
    text, which does not depend on the tokenizer. blocks of `context` tokens were read, `tokens` predicted: all but the
    first of each block.
    """

    loss: float
    perplexity: float
    bits_per_byte: float
    tokens: int
    blocks: int
    context: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@torch.no_grad()
def evaluate(
    model: AeroForCausalLM,
    shard: Shard,
    token_bytes: list[int],
    blocks: int | None = None,
    batch_size: int = 16,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure a model on the first `blocks` blocks of a shard (None: all), in the model's own precision.

    token_bytes: bytes of text of each token id (`Tokenizer.token_bytes`). Raises ValueError where the shard has no
    block, or other ids than the model.
    """
    length, vocab = model.config.context, model.config.vocab_size
    if not len(token_bytes) <= vocab <= (1 + _PADDING) * len(token_bytes):
        raise ValueError(
            f"the model has a vocabulary of {vocab}, the text one of {len(token_bytes)}; use the model's data"
        )
    available = shard.blocks(length)
    if available == 0:
        raise ValueError(f"{shard.path} holds {shard.tokens} tokens, less than one block of {length}; use more text")
    count = available if blocks is None else min(blocks, available)
    width = np.asarray(token_bytes)
    was_training = model.training
    model.eval()
    nats = torch.zeros((), dtype=torch.float64)
    bytes_predicted = 0
    for start in range(0, count, batch_size):
        batch = np.stack([shard.block(i, length) for i in range(start, min(start + batch_size, count))])
        ids = torch.from_numpy(batch).to(model.device)
        loss = model(input_ids=ids, labels=ids, skip_logits=True).loss
        nats += loss.double().cpu() * (len(batch) * (length - 1))
        bytes_predicted += int(width[batch[:, 1:]].sum())
        if on_progress:
            on_progress(start + len(batch), count)
    model.train(was_training)
    tokens = count * (length - 1)
    loss_per_token = float(nats) / tokens
    return Evaluation(
        loss=loss_per_token,
        perplexity=math.exp(min(loss_per_token, 700.0)),  # beyond it exceeds a float
        bits_per_byte=float(nats) / math.log(2) / max(bytes_predicted, 1),
        tokens=tokens,
        blocks=count,
        context=length,
    )


def evaluate_on(
    model: AeroForCausalLM,
    data: DataFolder,
    blocks: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure a model on the validation side of a data folder."""
    return evaluate(model, data.valid, data.tokenizer().token_bytes(), blocks=blocks, on_progress=on_progress)


def evaluate_run(
    run: Path,
    data: Path | None = None,
    blocks: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[RunInfo, DataFolder, Evaluation]:
    """Measure a finished run on a data folder, by default the one that it was trained on.

    FileNotFoundError where either is missing; ValueError where the run has no model yet or another tokenizer.
    """
    info = RunInfo.read(run)
    if info.status != "finished":
        raise ValueError(f"{run} is {info.status} and has no model yet; go on with `aero train {run} --resume`")
    folder = DataFolder(info.data_path(data))
    if folder.info.tokenizer_sha256 != file_sha256(run / tokenizer.FILE):
        raise ValueError(f"{folder.path} has another tokenizer than {run}; use data built with the same one")
    return info, folder, evaluate_on(AeroForCausalLM.from_pretrained(run), folder, blocks, on_progress)
