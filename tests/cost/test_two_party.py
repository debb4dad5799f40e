"""The profile "two-party" predicts what a run sends: every byte and every round."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from aero.compiler.positions import prefill
from aero.compiler.quantize import quantize
from aero.cost import estimate
from aero.cost.two_party import TwoPartyProfile
from aero.engines.reveal import LOGITS, TOKEN, Reveal
from aero.engines.two_party.engine import TwoPartyEngine
from aero.models.notation import parse
from aero.models.presets import SIZES
from aero.mpc.party import Role
from aero.structure import lowered
from aero.wire.memory import channel_pair
from programs import RUNGS, random_ids, random_program


@pytest.mark.parametrize(
    ("rung", "reveal"),
    [
        ("softmax-only", LOGITS),
        ("relu", LOGITS),
        ("rotary, parallel, layer norm, gelu", LOGITS),
        ("softmax-only", TOKEN),
        ("softmax-only", Reveal(3)),
    ],
)
def test_a_run_sends_what_was_predicted(rung, reveal):
    full = random_program(every_position=True, **RUNGS[rung])
    plan = quantize(full, [random_ids(full, seed) for seed in range(4)]).plan
    program, ids = prefill(full, full.graph.length), random_ids(full, 9)
    client, server = (TwoPartyEngine(p, c, plan) for p, c in zip(Role, channel_pair(), strict=True))

    for engine in (client, server):
        engine.reveal_only(reveal, program.graph.shapes[program.graph.output][1])

    def both(ours, theirs):
        with ThreadPoolExecutor(2) as pool:
            jobs = pool.submit(ours), pool.submit(theirs)
            return [job.result(240) for job in jobs]

    both(lambda: client.prepare(program.graph), lambda: server.prepare(program.graph, program.weights))
    both(lambda: client.run(program.graph, ids=ids), lambda: server.run(program.graph, weights=program.weights))

    found = estimate(program.graph, TwoPartyProfile(program.graph, plan, reveal))
    for predicted, measured in ((found.set_up, client.set_up_cost), (found.total, client.cost)):
        for name in ("bytes_client_to_server", "bytes_server_to_client", "rounds", "messages"):
            assert getattr(predicted, name) == getattr(measured, name), name
    for line in found.lines:
        traffic = client.traffic.by_op.get(line.label)
        seen = traffic.rounds if traffic is not None else 0
        assert (line.cost.rounds or 0) >= seen  # with the refill before it


def test_an_architecture_is_priced_without_a_model():
    graph = lowered(parse("SM+LN+G"), SIZES["demo"])
    found = estimate(graph, TwoPartyProfile(graph))
    assert found.total.bytes_both_ways > 1e6 and found.total.rounds > 100
    assert [line.label for line in found.lines if "blocks.0.q" in line.label] == [
        "blocks.0.q blocks.0.k blocks.0.v",
        "blocks.0.q.scale",
    ]


def test_a_profile_is_for_its_graph():
    graph, other = (lowered(parse(name), SIZES["demo"]) for name in ("SM", "SM+R"))
    with pytest.raises(ValueError, match="another graph"):
        estimate(other, TwoPartyProfile(graph))
