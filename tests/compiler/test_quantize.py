"""Number formats hold what they must, cost the accuracy that is predicted, and say where they cannot."""

import dataclasses

import numpy as np
import pytest

from aero.compiler.compile import compile
from aero.compiler.quantize import Precision, accuracy, predicted_error, quantize, score_windows
from aero.compiler.ranges import ranges, row_maxima, worst_case
from aero.engines.insecure.plain import InsecurePlainEngine
from aero.graph import OPS, Node, Program, interpret
from aero.graph.ring_plan import WINDOW_GRID
from aero.mpc.protocols import embedding, linear, pair
from programs import RUNGS, random_ids, random_program

TEXT_RUNGS = ["SM+LN+G", "SM+R+ScFFN", "SM+ScFuFFN"]


def text(count: int, seed: int = 0, length: int = 16) -> list[np.ndarray]:
    """What `trained` models were trained on."""
    rng = np.random.default_rng(seed)
    start, stride = rng.integers(32, size=(count, 1)), rng.integers(1, 4, size=(count, 1))
    return list((start + stride * np.arange(length)) % 32)


def in_fixed_point(plan):
    return lambda graph, weights, ids: InsecurePlainEngine(plan).run(graph, weights=weights, ids=ids)


@pytest.mark.parametrize("name", TEXT_RUNGS)
def test_perplexity_is_kept_and_the_error_predicted(trained, name):
    compiled = compile(trained(name))
    quantized = quantize(compiled.program, text(8))
    found = accuracy(compiled.program, quantized.plan, text(6, seed=1), in_fixed_point(quantized.plan))
    assert abs(found.perplexity_change) < 1e-3
    assert 0.5 < found.measured / found.predicted < 2
    assert found.measured < found.largest < 0.05 and found.same_token > 0.95 and found.positions == 96


def test_the_perplexity_is_the_models(trained):
    import torch

    model = trained("SM+ScFuFFN")
    program = compile(model).program
    blocks = text(3, seed=2)
    plan = quantize(program, blocks).plan
    found = accuracy(program, plan, blocks, in_fixed_point(plan))
    ids = torch.tensor(np.stack(blocks))
    with torch.inference_mode():
        expected = model.double()(input_ids=ids, labels=ids).loss.exp().item()
    model.float()
    assert found.perplexity == pytest.approx(expected, rel=1e-9)


def test_fewer_bits_cost_what_is_predicted(trained):
    program = compile(trained("SM+ScFuFFN")).program
    errors = {}
    for bits in (10, 13, 16):
        plan = quantize(program, text(8), precision=Precision(bits, bits, bits, bits)).plan
        found = accuracy(program, plan, text(4, seed=1), in_fixed_point(plan))
        assert 0.4 < found.measured / found.predicted < 2.5
        errors[bits] = found.measured
    assert 5 < errors[10] / errors[13] < 13 and 5 < errors[13] / errors[16] < 13  # a factor 8 for 3 bits


@pytest.mark.parametrize("rung", RUNGS)
def test_no_text_exceeds_the_worst_case(rung):
    program = random_program(every_position=True, **RUNGS[rung])
    worst = worst_case(program)
    for seed in range(20):
        ids = random_ids(program, seed)
        interpret(program, ids, keep=lambda name, v: _below(worst[name], v))
    assert {name: r.worst for name, r in ranges(program, [ids]).items()} == {n: w.max() for n, w in worst.items()}


def _below(bound: np.ndarray, value: np.ndarray) -> None:
    features = np.abs(value).max(axis=(1, 2)) if value.ndim == 3 else np.abs(value).max(axis=0)
    features = features.max() if bound.shape != features.shape else features
    assert (features <= bound * (1 + 1e-12)).all()


def test_proven_values_hold_for_any_text(trained):
    program = compile(trained("SM+LN+G")).program
    quantized = quantize(program, text(4))
    assert {n.name for n in program.graph.nodes if n.op == "softmax"} <= quantized.proven
    for name in quantized.proven:
        assert quantized.plan.values[name].limit > quantized.ranges[name].worst


def test_a_plan_serves_prefill_and_decode(trained):
    compiled = compile(trained("SM+ScFuFFN"))
    plan = quantize(compiled.program, text(8)).plan
    engine, ids = InsecurePlainEngine(plan), text(1, seed=3)[0]
    exact = interpret(compiled.program, ids)
    prefill = compiled.prefill(5, leave_state=True)
    logits = engine.run(prefill.graph, weights=prefill.weights, ids=ids[:5])
    for past in range(5, 16):
        np.testing.assert_allclose(logits[0], exact[past - 1], atol=0.02)
        decode = compiled.decode(past)
        logits = engine.run(decode.graph, weights=decode.weights, ids=ids[past : past + 1])
    np.testing.assert_allclose(logits[0], exact[15], atol=0.02)
    engine.close()
    with pytest.raises(ValueError, match="continues another"):
        engine.run(decode.graph, weights=decode.weights, ids=ids[:1])


def test_activations_out_of_range_name_the_layer(trained):
    program = compile(trained("SM+R+ScFFN")).program
    with pytest.raises(ValueError, match=r"blocks\.\d\.\S+: magnitudes up to .* need a ring of \d+ bits"):
        quantize(program, text(4), max_bits=34)
    weights = dict(program.weights)
    table = program.graph.by_name["embedding"].weights[0]
    weights[table] = weights[table] * 1e12
    with pytest.raises(ValueError, match=r"blocks\.0\.q: magnitudes up to .*e\+"):
        quantize(Program(program.graph, weights), text(4))
    with pytest.raises(ValueError, match="no calibration text"):
        quantize(program, [])


def test_text_beyond_the_calibration_is_an_error_that_names_the_layer(trained):
    program = compile(trained("SM+ScFuFFN")).program
    quantized = quantize(program, text(4), precision=Precision(margin=0))
    values = {
        name: dataclasses.replace(f, bits=max(2, f.bits - 3)) if name == "blocks.1.v" else f
        for name, f in quantized.plan.values.items()
    }
    plan = dataclasses.replace(quantized.plan, values=values)
    with pytest.raises(OverflowError, match=r"blocks\.1\.v: .* calibrate on such text"):
        accuracy(program, plan, text(2), in_fixed_point(plan))


def test_score_windows_hold_the_row_maxima(trained):
    program = compile(trained("SM+ScFuFFN")).program
    inside, outside = text(8), [np.random.default_rng(0).integers(32, size=16)]
    windows = score_windows(program, inside, outside)
    assert [(w.layer, w.head) for w in windows] == [(f"blocks.{i}.softmax", h) for i in range(3) for h in range(2)]
    strange = [head for heads in row_maxima(program, outside).values() for head in heads]
    for window, head in zip(windows, strange, strict=True):
        assert 0 <= head.low - window.outside[0] < WINDOW_GRID and 0 <= window.outside[1] - head.high < WINDOW_GRID
        assert window.reference >= head.high
        assert window.row_maximum[1] <= window.reference and window.margin >= 0
        assert window.reference - window.spread <= min(head.low, window.row_maximum[0]) + 1e-12
    # Computed by hand for one head.
    seen = []
    look = {"blocks.1.scores": lambda s: seen.append([s[1, t, : t + 1].max() for t in range(1, 16)])}
    for ids in inside:
        interpret(program, ids, keep=lambda name, v: look.get(name, lambda _: None)(v))
    low, high = windows[3].row_maximum
    assert 0 <= np.min(seen) - low < WINDOW_GRID and 0 <= high - np.max(seen) < WINDOW_GRID


def test_the_prediction_shrinks_with_the_step():
    program = random_program(every_position=True)
    plan = quantize(program, [random_ids(program)], precision=Precision(20, 20, 20, 20)).plan
    coarse = quantize(program, [random_ids(program)], precision=Precision(10, 10, 10, 10)).plan
    fine_error, coarse_error = (predicted_error(program, p, random_ids(program)) for p in (plan, coarse))
    assert 0 < fine_error < coarse_error / 500


def test_ranges_leave_room_for_the_noise_of_products():
    protocols = {"linear": linear, "gain": linear, "scores": pair, "attend": pair, "embedding": embedding}
    assert {op: OPS[op].error_steps for op in protocols} == {op: p.MAX_ERROR for op, p in protocols.items()}
    table = np.full((5, 4), 0.995)  # and 512 steps of 2^-16 more than one
    nodes = [Node("x", "embedding", ("ids",), ("table",)), Node("y", "linear", ("x",), ("w",))]
    program = Program.of(3, nodes, {"table": table, "w": np.ones((4, 2))}, "y")
    plan = quantize(program, [np.zeros(3, dtype=np.int64)], precision=Precision(margin=0)).plan
    held = plan.values["x"]
    assert held.limit > 0.995 + embedding.MAX_ERROR * held.step


def test_what_is_proven_has_room_for_the_noise_of_what_it_is_made_of():
    """A table met exactly: the look-up may be off by 512 steps, and so is the sum that follows it."""
    program = random_program(every_position=True)
    weights = dict(program.weights)
    weights["embedding.table"] = np.full_like(weights["embedding.table"], (1 - 2.0**-15) / (1 + 2.0**-8))
    weights["positions.w"] = np.zeros_like(weights["positions.w"])
    quantized = quantize(Program(program.graph, weights), [random_ids(program)])
    assert "positions" in quantized.proven
    off = OPS["embedding"].error_steps * quantized.plan.values["positions"].step
    assert quantized.plan.values["positions"].limit > weights["embedding.table"].max() + off


def test_usual_formats_are_taken_where_half_of_the_margin_is_left():
    program = random_program(length=8, layers=1, every_position=True, **RUNGS["softmax-only"])
    blocks = [random_ids(program, seed) for seed in range(4)]
    own = quantize(program, blocks).plan

    def shifted(bits: int) -> dict:
        return {name: dataclasses.replace(of, bits=of.bits + bits) for name, of in own.values.items()}

    found = [quantize(program, blocks, usual=shifted(bits)).plan for bits in (-2, -1, 0, 1)]
    tightest = quantize(program, blocks, precision=Precision(margin=1)).plan
    assert found[0].values == found[2].values == own.values  # with no margin at all, one's own
    assert found[3].values == shifted(1)
    taken = [name for name, of in found[1].values.items() if of != own.values[name]]
    assert taken == [name for name, of in tightest.values.items() if of != own.values[name]] and taken
    other = {name: dataclasses.replace(of, fraction_bits=of.fraction_bits - 1) for name, of in own.values.items()}
    assert quantize(program, blocks, usual=other).plan == own
    for plan in (found[1], found[3]):  # the rings of products go along
        run = in_fixed_point(plan)
        for ids in blocks:
            assert np.abs(run(program.graph, program.weights, ids) - interpret(program, ids)).max() < 1e-2
