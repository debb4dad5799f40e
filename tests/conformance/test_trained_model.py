"""A model trained on text: its tokens and its perplexity under our own engine are those of the plain engine."""

import inspect
import json

import numpy as np
import pytest
import torch

from aero.compiler.compile import compile
from aero.compiler.quantize import quantize
from aero.data.tokenizer import train as train_tokenizer
from aero.engines.insecure.plain import InsecurePlainEngine
from aero.models import AeroConfig, AeroForCausalLM
from conformance.test_engines import on_two_party

CONTEXT, STEPS, BATCH = 24, 150, 8


def nats(logits: np.ndarray, ids: np.ndarray) -> float:
    """Mean of -log p(next id)."""
    rows = logits[:-1] - logits[:-1].max(axis=-1, keepdims=True)
    log_p = rows - np.log(np.exp(rows).sum(axis=-1, keepdims=True))
    return float(-log_p[np.arange(len(ids) - 1), ids[1:]].mean())


@pytest.mark.slow
@pytest.mark.parametrize("notation", ["SM+ScFuFFN", "SM+LN+G"])
def test_perplexity_and_tokens_are_those_of_the_plain_engine(notation):
    text = inspect.getsource(json.decoder) + inspect.getsource(json.encoder)
    tokenizer = train_tokenizer([text], 300)
    ids = np.array(tokenizer.encode(text), dtype=np.int64)
    blocks = ids[: len(ids) // CONTEXT * CONTEXT].reshape(-1, CONTEXT)
    learnt, held_out = blocks[:-12], blocks[-12:]
    torch.manual_seed(0)
    config = AeroConfig.from_notation(
        notation, "demo", vocab_size=tokenizer.vocab_size, context=CONTEXT, hidden_size=32, num_heads=2
    )
    model = AeroForCausalLM(config)
    optimizer, rng = torch.optim.AdamW(model.parameters(), lr=3e-3), np.random.default_rng(0)
    for _ in range(STEPS):
        batch = torch.tensor(learnt[rng.integers(len(learnt), size=BATCH)])
        loss = model(batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.8 * np.log(tokenizer.vocab_size), "the model learnt nothing"

    compiled = compile(model.eval(), softmax_base="2", check=False)
    plan = quantize(compiled.program, list(held_out[:8])).plan
    program = compiled.every_position(CONTEXT)
    tested = held_out[8:]
    private = on_two_party(plan, [(program, block) for block in tested])
    plain = [InsecurePlainEngine(plan).run(program.graph, weights=program.weights, ids=block) for block in tested]
    for ours, theirs in zip(private, plain, strict=True):
        top = np.sort(theirs, axis=-1)
        clear = top[:, -1] - top[:, -2] > 2 * np.abs(ours - theirs).max()  # no tie within the error
        assert clear.mean() > 0.8
        assert (ours.argmax(-1) == theirs.argmax(-1))[clear].all()
    perplexities = [
        np.exp(np.mean([nats(logits, block) for logits, block in zip(outputs, tested, strict=True)]))
        for outputs in (private, plain)
    ]
    assert perplexities[0] == pytest.approx(perplexities[1], rel=2e-3)
