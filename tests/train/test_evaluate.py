"""Perplexity, against its definition computed in float64 from the logits."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from aero.data.folder import DataFolder
from aero.models import AeroConfig, AeroForCausalLM
from aero.train.evaluate import evaluate, evaluate_on, evaluate_run, evaluate_run_on_text
from aero.train.harness import run_tasks
from aero.train.run import train
from aero.train.run_folder import RunInfo
from aero.train.settings import TrainSettings
from harness_task import write_task


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


@pytest.mark.parametrize("stride", [1, 5, 15])
def test_a_stride_predicts_every_token_once_with_more_context(
    stride: int, data: DataFolder, config: AeroConfig
) -> None:
    torch.manual_seed(0)
    model = AeroForCausalLM(config).double().eval()
    length, ids = config.context, data.valid.read(0, 50)
    shard = ShardOf(ids)
    found = evaluate(model, shard, data.tokenizer().token_bytes(), stride=stride)  # type: ignore[arg-type]

    nats, predicted = 0.0, []
    end = 0
    while end < 50:  # each window of 16 moves on by `stride`, the last one up to the end
        start = 0 if end == 0 else min(end + stride, 50) - length
        with torch.no_grad():
            logits = model(input_ids=torch.from_numpy(ids[start : start + length])[None]).logits[0]
        for position in range(max(end, 1), start + length):
            nats -= float(logits[position - 1 - start].log_softmax(-1)[ids[position]])
            predicted.append(position)
        end = start + length
    assert predicted == list(range(1, 50))
    assert (found.tokens, found.stride) == (49, stride)
    assert found.loss == pytest.approx(nats / 49, rel=1e-6)  # the loss is summed in float32


def test_a_stride_beyond_the_context_is_refused(data: DataFolder, config: AeroConfig) -> None:
    with pytest.raises(ValueError, match="from 1 to 16"):
        evaluate_on(AeroForCausalLM(config), data, stride=17)


class ShardOf:
    """Ids in memory, read as a shard."""

    path = "memory"

    def __init__(self, ids: np.ndarray) -> None:
        self._ids, self.tokens = ids, len(ids)

    def read(self, start: int, length: int) -> np.ndarray:
        return self._ids[start : start + length]


@pytest.fixture
def run(data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path) -> Path:
    train(tmp_path / "run", data, config, settings)
    return tmp_path / "run"


def test_any_text_is_measured_with_the_runs_own_tokenizer(run: Path, data: DataFolder, tmp_path: Path) -> None:
    text = data.tokenizer().decode(data.valid.read(0, data.valid.tokens)).split("<|endoftext|>")[:-1]
    folder = tmp_path / "texts"
    folder.mkdir()
    for i, document in enumerate(text):
        (folder / f"{i}.txt").write_text(document)
    on_data = evaluate_run(run)[2]
    assert evaluate_run_on_text(run, str(folder))[1] == on_data, "the same documents in the same order"
    assert evaluate_run_on_text(run, str(folder), blocks=3, stride=4) == (
        RunInfo.read(run),
        evaluate_run(run, blocks=3, stride=4)[2],
    )
    lines = tmp_path / "lines"
    lines.mkdir()
    (lines / "train.jsonl").write_text('{"text": "not these"}\n')
    (lines / "validation.jsonl").write_text("".join(json.dumps({"text": document}) + "\n" for document in text))
    assert evaluate_run_on_text(run, f"hf:{lines}")[1] == on_data
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match="less than one block"):
        evaluate_run_on_text(run, str(tmp_path / "empty.txt"))


def test_auto_classes_open_a_run_with_its_tokenizer(run: Path, data: DataFolder) -> None:
    tokens = AutoTokenizer.from_pretrained(run)
    text = "def f(x):\n    return x + 1"
    assert tokens(text)["input_ids"] == data.tokenizer().encode(text)
    assert tokens.decode(tokens(text)["input_ids"]) == text
    assert tokens.eos_token_id == data.info.end_of_text
    model = AutoModelForCausalLM.from_pretrained(run)
    assert isinstance(model, AeroForCausalLM)


@pytest.mark.slow
def test_the_evaluation_harness_agrees_with_the_logits(run: Path, data: DataFolder, tmp_path: Path) -> None:
    """A task of one's own, of choices between endings, through the harness's Hugging Face loader."""
    rows = write_task(tmp_path, ["\n    return x", " zebra"], questions=6)
    with pytest.raises(ValueError, match="no task 'nothing'"):
        run_tasks(run, ["nothing"], tmp_path)
    found = run_tasks(run, ["endings"], tmp_path)

    model, tokens, right = AeroForCausalLM.from_pretrained(run).eval(), data.tokenizer(), 0
    for row in rows:
        scores = []
        for ending in row["endings"]:
            start, ids = len(tokens.encode(row["text"])), tokens.encode(row["text"] + ending)
            with torch.no_grad():
                rows_of_logits = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            scores.append(sum(float(rows_of_logits[i - 1, ids[i]]) for i in range(start, len(ids))))
        right += int(np.argmax(scores)) == row["label"]
    assert found["endings"]["acc"] == pytest.approx(right / 6)
