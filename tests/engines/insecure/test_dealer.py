"""The dealer engine against the plain one: at most a step for each truncated product, and shares that are shares."""

import numpy as np
import pytest

from aero.engines import on_shares
from aero.engines.engine import Engine
from aero.engines.insecure.dealer import InsecureDealerEngine
from aero.engines.insecure.plain import Arithmetic, InsecurePlainEngine
from aero.engines.planning.steps import plan_steps
from aero.graph.ring_plan import Format, RingPlan
from aero.mpc.fixed_point import from_ring, reduce_ring, to_ring
from aero.mpc.party import Role
from engines.linear_program import INPUT, error_bound, linear_program, plan_without_extensions, source_program
from programs import RUNGS, random_ids, random_program

SUMS = ("add", "bias")


def mixed_formats(graph) -> RingPlan:
    """Fractional bits of its own for every tensor, so that every change of format happens somewhere."""
    rng = np.random.default_rng(len(graph.nodes))

    def some() -> Format:
        return Format(34, int(rng.integers(9, 20)))

    values = {node.name: some() for node in graph.nodes if node.op not in ("rows", "concat_rows", "concat_columns")}
    return RingPlan(values, {name: some() for name in graph.weight_shapes}, {})


def small_rings(graph, fraction_bits: int = 12) -> RingPlan:
    """Values in rings of 25 bits, as the recommended plan has them: every product needs an extension first."""
    values = {node.name: Format(25, fraction_bits) for node in graph.nodes}
    return RingPlan(values, {name: Format(24, 14) for name in graph.weight_shapes}, {})


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("rings", ["uniform", "small", "mixed"])
def test_each_operation_is_the_plain_one_up_to_one_step(rung, rings, monkeypatch):
    """Every value, computed from the very shares that the engine read: a product or a change of format is off by at
    most one step for each truncation, everything else is exact."""
    program = random_program(**RUNGS[rung])
    graph, ids = program.graph, random_ids(program)
    plan = {"uniform": RingPlan.uniform(graph, 16), "small": small_rings(graph), "mixed": mixed_formats(graph)}[rings]
    seen: dict[tuple[str, Role], tuple] = {}
    original = on_shares._compute

    def keeping(party, stage, protocols, inputs, given):
        values = original(party, stage, protocols, inputs, given)
        seen.update(
            {(s.node.name, party.role): (inputs[0], v) for s, v in zip(stage.groups[0], values[0], strict=True)}
        )
        return values

    monkeypatch.setattr(on_shares, "_compute", keeping)
    InsecureDealerEngine(plan).run(graph, weights=program.weights, ids=ids)

    def join(client, server):
        return from_ring(reduce_ring(client.values + server.values, client.bits), client.bits)

    for step in plan_steps([graph], plan)[0]:
        node = step.node
        (own, value), (theirs, other) = (seen[node.name, role] for role in Role)
        inputs = [join(*pair) for pair in zip(own, theirs, strict=True)] if node.op != "embedding" else [ids]
        arithmetic = Arithmetic(graph, node, plan)
        tensors = [arithmetic.weight_format(name).encode(program.weights[name], name) for name in node.weights]
        difference = np.abs(join(value, other) - arithmetic.apply(inputs, tensors))
        if node.op in ("linear", "gain", "scale", "rotary", "scores", "attend"):
            steps = int(step.dropped > 0)
        else:
            steps = sum(f.fraction_bits > step.output.fraction_bits for f in step.inputs) if node.op in SUMS else 0
        assert difference.max() <= steps, node
    assert {name for name, _ in seen} == {node.name for node in graph.nodes}


def test_parts_are_uniform_whatever_the_value():
    """The client's and the server's part of one value, over many runs: chi squared over 16 classes."""
    program = random_program(layers=1)
    ids = random_ids(program)
    parts: dict[Role, list] = {role: [] for role in Role}
    from aero.mpc import dealer

    original = dealer.InsecureDealer.deal

    def keeping(self, party, mine, function, bits, fraction_bits):
        share = original(self, party, mine, function, bits, fraction_bits)
        parts[party.role].append((share.values >> np.uint64(bits - 4)).reshape(-1))
        return share

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dealer.InsecureDealer, "deal", keeping)
        for _ in range(4):
            InsecureDealerEngine(Format(64, 16)).run(program.graph, weights=program.weights, ids=ids)
    for drawn in parts.values():
        counts = np.bincount(np.concatenate(drawn).astype(int), minlength=16)
        expected = counts.sum() / 16
        assert ((counts - expected) ** 2 / expected).sum() < 60  # 15 degrees of freedom: probability 2e-7


def test_state_is_carried_in_shares():
    program = linear_program()
    plan = plan_without_extensions(program.graph, 11, 9)
    x = np.random.default_rng(2).normal(0, 1, program.graph.state_in[INPUT])
    source, ids = source_program(program, x), np.arange(len(x))
    held = plan.values["x"]
    both = RingPlan({**plan.values, "one": held}, {**plan.weights, "table": held}, {})
    outputs = []
    for engine in (InsecurePlainEngine(both), InsecureDealerEngine(both)):
        engine.run(source.graph, weights=source.weights, ids=ids)
        outputs.append(engine.run(program.graph, weights=program.weights, ids=ids))
    products = {s.node.name: 1.0 for s in plan_steps([program.graph], plan)[0] if s.factor is not None}
    assert (np.abs(outputs[0] - outputs[1]) <= error_bound(program, plan, x, products)).all()
    with pytest.raises(ValueError, match="run what leaves it"):
        InsecureDealerEngine(both).run(program.graph, weights=program.weights, ids=ids)


def test_a_failure_ends_both_threads():
    program = random_program()
    with pytest.raises(OverflowError, match="does not fit"):
        large = {**program.weights, "logits.w": program.weights["logits.w"] * 1e12}
        InsecureDealerEngine(Format(64, 30)).run(program.graph, weights=large, ids=random_ids(program))


def test_it_says_that_it_is_insecure_and_is_nobodys_default():
    assert InsecureDealerEngine.insecure and InsecureDealerEngine.name == "insecure-dealer"
    assert issubclass(InsecureDealerEngine, Engine)
    with pytest.raises(ValueError, match="weights and the ids"):
        InsecureDealerEngine().run(random_program().graph, ids=np.arange(6))
    assert to_ring(np.array([-1]), 3)[0] == 7
