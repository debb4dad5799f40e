"""Perplexity, against its definition computed in float64 from the logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from aero.data.folder import DataFolder
from aero.models import AeroConfig, AeroForCausalLM
from aero.train.evaluate import evaluate, evaluate_on


def test_equals_the_definition(data: DataFolder, config: AeroConfig) -> None:
    torch.manual_seed(0)
    model = AeroForCausalLM(config)
    token_bytes = data.tokenizer().token_bytes()
    blocks = data.valid.blocks(config.context)
    assert blocks % 16, "the last batch is a smaller one"
    result = evaluate_on(model, data)

    nats, text_bytes, tokens = 0.0, 0, 0
    exact = model.double().eval()
    for i in range(blocks):
        ids = data.valid.read(i * config.context, config.context)
        with torch.no_grad():
            logits = exact(torch.from_numpy(ids)[None]).logits[0].numpy()
        for position in range(config.context - 1):
            row, target = logits[position], ids[position + 1]
            nats += np.log(np.exp(row - row.max()).sum()) + row.max() - row[target]
            text_bytes += token_bytes[target]
            tokens += 1
    assert result.tokens == tokens
    assert result.blocks == blocks
    assert result.loss == pytest.approx(nats / tokens, rel=1e-5)  # float32 against float64
    assert result.perplexity == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    assert result.bits_per_byte == pytest.approx(nats / math.log(2) / text_bytes, rel=1e-5)


def test_a_model_that_knows_nothing_is_as_perplexed_as_its_vocabulary(data: DataFolder, config: AeroConfig) -> None:
    model = AeroForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.zero_()  # tied: the embedding as well
    result = evaluate_on(model, data, blocks=3)
    assert result.perplexity == pytest.approx(config.vocab_size, rel=1e-5)
    assert result.blocks == 3
    assert result.tokens == 3 * (config.context - 1)


def test_leaves_the_model_in_its_mode_and_reports_progress(data: DataFolder, config: AeroConfig) -> None:
    model = AeroForCausalLM(config).train()
    seen: list[tuple[int, int]] = []
    evaluate_on(model, data, blocks=20, on_progress=lambda done, total: seen.append((done, total)))
    assert model.training
    assert seen == [(16, 20), (20, 20)]


def test_refuses_another_vocabulary_and_too_little_text(data: DataFolder, config: AeroConfig) -> None:
    model = AeroForCausalLM(config)
    with pytest.raises(ValueError, match="vocabulary"):
        evaluate(model, data.valid, [1, 2, 3])
    config.context = data.valid.tokens + 1
    with pytest.raises(ValueError, match="less than one block"):
        evaluate_on(AeroForCausalLM(config), data)
