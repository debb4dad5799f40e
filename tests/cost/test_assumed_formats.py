"""What `aero cost` says of a preset, without its weights, is what a run of such a model sends, with weights.

The authority is the compiled program of random weights of trained-like scale, at full width, as `aero bench forward`
runs it; what such a run declares, it sends to the byte (`tests/bench/test_forward.py`, `test_two_party.py`). Few
layers, a small vocabulary and a short prompt, for time.
"""

from dataclasses import replace

import numpy as np
import pytest

from aero.bench.forward import preset_plan
from aero.compiler.architecture import outline
from aero.compiler.compile import rewrite
from aero.compiler.compiled import Compiled
from aero.compiler.trained_scale import trained_scale_program
from aero.cost.two_party import in_windows, run_cost
from aero.engines.planning.declared import declared_run
from aero.models.notation import parse
from aero.models.presets import SIZES

TOKENS = 40
LLAMA = "SM+RMS+SiLU+GaFFN"
PRESETS = [
    ("demo", "SM+LN+G", 2),
    ("demo", "SM+ScFuFFN", 2),
    ("nano", "SM+FLN+R", 2),
    ("nano", "SM+ScFuFFN", 6),
    ("nano", "EReg(SM(t_h)+ScFuFFN)", 6),
    *[("gpt2-small", name, 1) for name in ("SM+LN+G", "SM+LN+R", "SM+R")],
    ("gpt2-small", "SM+ScFuFFN", 2),
    ("pythia-70m", "SM+LN+G", 1),
    ("opt-125m", "SM+LN+R", 1),
    ("bert-base", "SM+LN+G", 1),
    ("minilm-l6", "SM+LN+G", 1),
    ("smollm2-135m", LLAMA, 1),
    ("qwen2.5-0.5b", LLAMA, 1),
    ("qwen3-0.6b", LLAMA, 1),
    *[pytest.param(name, LLAMA, 1, marks=pytest.mark.slow) for name in ("llama-3.2-1b", "tinyllama-1.1b")],
]


def compiled_of(notation, size):
    rng = np.random.default_rng(0)
    program, _, _ = rewrite(trained_scale_program(notation, size), softmax_base="2")
    blocks = list(rng.integers(size.vocab_size, size=(4, size.context)))
    return Compiled(program), preset_plan(notation, size, program, blocks)


@pytest.mark.parametrize(("preset", "notation", "layers"), PRESETS)
def test_rounds_are_exact_and_bytes_within_one_percent(preset, notation, layers):
    size = replace(SIZES[preset], num_layers=layers, context=TOKENS, vocab_size=500)
    compiled, plan = compiled_of(parse(notation), size)
    found = outline(parse(notation), size)
    steps = [lambda programs: programs.prefill(TOKENS - 1)]
    if size.family != "bert":
        steps.append(lambda programs: programs.decode(TOKENS - 1))
    for step in steps:
        predicted = run_cost(declared_run(step(found.programs).graph, found.plan))
        sent = run_cost(declared_run(step(compiled).graph, plan))
        assert predicted.rounds == sent.rounds
        assert predicted.bytes_client_to_server == pytest.approx(sent.bytes_client_to_server, rel=0.02)
        assert predicted.bytes_both_ways == pytest.approx(sent.bytes_both_ways, rel=0.01)


def test_windows_take_fewer_rounds_and_their_price_is_a_bound():
    size = replace(SIZES["nano"], context=TOKENS)
    found = outline(parse("SM+ScFuFFN"), size)
    graph = found.programs.decode(TOKENS - 1).graph
    with_maxima, without = declared_run(graph, found.plan), in_windows(graph, found.plan)
    per_layer = {
        with_.rounds - line.rounds
        for with_, line in zip(
            *([line for line in run.lines if line.op == "softmax"] for run in (with_maxima, without)), strict=True
        )
    }
    assert per_layer == {12} and with_maxima.rounds - without.rounds == 12 * size.num_layers
