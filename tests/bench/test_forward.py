"""Whole forward passes between two processes, at a tiny size, and the weights that they are measured with."""

import json

import numpy as np
import pytest

from aero.bench.forward import bench_two_party, prepare
from aero.compiler import trained_scale
from aero.compiler.trained_scale import trained_scale_program
from aero.cost import estimate
from aero.cost.machine import Computer, load_machine
from aero.cost.two_party import TwoPartyProfile
from aero.graph import interpret
from aero.models.notation import parse
from aero.models.presets import Size

TINY = Size(vocab_size=32, context=8, num_layers=2, num_heads=2, hidden_size=16)


@pytest.mark.parametrize("notation", ["SM+ScFuFFN", "SM+LN+G"])
def test_values_have_the_stated_scales(notation):
    program = trained_scale_program(parse(notation), TINY)
    values = {}
    ids = np.random.default_rng(0).integers(TINY.vocab_size, size=TINY.context)  # those of the same seed
    interpret(program, ids, keep=lambda name, value: values.update({name: value}))
    assert values["logits"].std() == pytest.approx(trained_scale.LOGITS, rel=0.5)
    assert values["blocks.0.k"].std() == pytest.approx(trained_scale.KEY, rel=0.3)
    assert 0.5 < values["embedding"].std() < 2


def test_a_forward_pass_between_two_processes():
    model = prepare(parse("SM+ScFuFFN"), TINY)
    record = bench_two_party(model, on=Computer(load_machine("portable")))
    assert (record.work, record.engine, record.notation, record.context) == ("forward", "two-party", "SM+ScFuFFN", 8)
    assert record.max_abs_error < 2e-2 < model.exact.std()
    found = estimate(model.program.graph, TwoPartyProfile(model.program.graph, model.plan)).total
    for name in ("bytes_client_to_server", "bytes_server_to_client", "rounds"):
        assert getattr(record, name) == getattr(found, name) == record.extra["predicted"][name], name
    assert record.extra["predicted"]["seconds"] > 0
    steps = record.extra["steps"]
    assert sum(step["rounds"] for step in steps) == record.rounds
    assert sum(step["bytes_client_to_server"] for step in steps) == record.bytes_client_to_server
    json.dumps(record.to_json())
