"""What the compiler saves on SPU: a slow test, as SPU runs eight programs."""

import numpy as np
import pytest
import torch

from aero.bench.compiled import bench_compiled
from aero.models import AeroConfig, AeroForCausalLM


@pytest.mark.slow
def test_every_form_gives_the_models_logits(tmp_path):
    pytest.importorskip("spu")
    torch.manual_seed(0)
    config = AeroConfig.from_notation("SM+ScFuFFN", "demo", vocab_size=40, context=8, hidden_size=16)
    AeroForCausalLM(config).save_pretrained(tmp_path)
    records = bench_compiled(tmp_path, np.arange(6))
    assert [record.work for record in records] == ["forward/lowered", "forward/compiled", "next-token/cached"]
    for record in records:
        # docs/understand/spu.md: SPU's approximations at 18 fractional bits, on logits below 1
        assert record.max_abs_error is not None and record.max_abs_error < 1e-2
        assert record.bytes_client_to_server and record.bytes_server_to_client


def test_one_token_is_too_few(tmp_path):
    with pytest.raises(ValueError, match="at least 2"):
        bench_compiled(tmp_path, np.arange(1))
