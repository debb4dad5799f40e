"""Generation between two processes: the records, and the tokens that the model in float64 gives."""

from dataclasses import replace

import numpy as np

from aero.bench.generate import bench_generate
from aero.cost.machine import Computer, load_machine
from aero.models import notation, presets


def test_a_prompt_and_tokens_after_it():
    size = replace(presets.size("gpt2-small"), vocab_size=300, context=6, num_layers=1)
    records = bench_generate(notation.parse("SM+ScFuFFN"), size, 2, on=Computer(load_machine("portable")))
    assert [(r.work, r.context) for r in records] == [("prefill", 6), ("next-token", 7), ("next-token", 8)]
    for record in records:
        assert record.engine == "two-party" and record.extra["network"] == "loopback"
        assert record.max_abs_error < 2e-2  # logits of standard deviation 3, 16 fractional bits and softmax's errors
        assert record.extra["same_token"] and record.rounds > 10
        found = sum(step["bytes_client_to_server"] for step in record.extra["steps"])
        assert found == record.bytes_client_to_server == record.extra["predicted"]["bytes_client_to_server"]
        assert record.rounds == record.extra["predicted"]["rounds"]
        # queries and what is fused after values of the last row, keys and values of all; attention; logits
        rows, d = (record.context if record.work == "prefill" else 1), size.hidden_size
        products = (2 * rows + 2) * d**2 + 2 * d * record.context + size.vocab_size * d
        assert record.extra["multiplications"] == products
    assert np.ptp([r.bytes_client_to_server for r in records[1:]]) < 1e6


def test_prompts_together():
    size = replace(presets.size("gpt2-small"), vocab_size=300, context=4, num_layers=1)
    one, together = (bench_generate(notation.parse("SM+ScFuFFN"), size, 1, batch=batch) for batch in (1, 3))
    assert [(r.work, r.context, r.extra["prompts"]) for r in together] == [("prefill", 4, 3), ("next-token", 5, 3)]
    for alone, record in zip(one, together, strict=True):
        total = record.bytes_client_to_server + record.bytes_server_to_client
        assert record.extra["bytes_per_token"] == total / 3 < alone.extra["bytes_per_token"]
        assert record.extra["rounds_per_token"] == record.rounds / 3 < alone.rounds / 2
        assert record.max_abs_error < 2e-2 and record.extra["same_token"]


def test_several_tokens_a_step():
    size = replace(presets.size("gpt2-small"), vocab_size=300, context=4, num_layers=1)
    on = Computer(load_machine("portable"))
    records = bench_generate(notation.parse("SM+ScFuFFN"), size, 2, batch=2, rows=3, on=on)
    works = [(r.work, r.context, r.extra["rows"]) for r in records]
    assert works == [("prefill", 4, 1), ("next-token", 7, 3), ("next-token", 10, 3)]
    for record in records:
        assert record.max_abs_error < 2e-2 and record.extra["same_token"]
        assert record.bytes_client_to_server == record.extra["predicted"]["bytes_client_to_server"]
        assert record.rounds == record.extra["predicted"]["rounds"]
