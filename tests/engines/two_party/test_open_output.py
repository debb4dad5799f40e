"""What the two-party engine reveals of an output: all of it, the largest, or the largest one's place."""

import re
import threading
from pathlib import Path

import numpy as np
import pytest

from aero.engines.engine import Engine, RunCost
from aero.engines.planning.declared import declared_run
from aero.engines.planning.output import output_costs
from aero.engines.reveal import LOGITS, TOKEN, Reveal
from aero.engines.spu.engine import SpuEngine
from aero.engines.two_party.engine import TwoPartyEngine
from aero.graph import Node, Program
from aero.graph.ring_plan import Format, RingPlan
from aero.mpc.cost import ProtocolCost
from aero.mpc.functions.argmax import TopKPlan
from aero.mpc.party import Role
from aero.wire.memory import channel_pair

WIDTH, COLUMNS, VOCABULARY = 64, 150, 141
INPUT = "x.past"
DOCUMENTATION = Path(__file__).parents[3] / "docs" / "operate" / "serving.md"


def logits_program(rows: int = 1) -> tuple[Program, RingPlan]:
    """Logits of which those beyond the vocabulary are the largest: they are no tokens."""
    w = np.random.default_rng(0).normal(0, WIDTH**-0.5, (WIDTH, COLUMNS))
    w[:, VOCABULARY:] = 3 * w[:, :1]
    nodes = [Node("logits", "linear", (INPUT,), ("w",))]
    program = Program.of(rows, nodes, {"w": w}, "logits", state_in={INPUT: (rows, WIDTH)})
    plan = RingPlan({"x": Format(41, 13), "logits": Format(20, 13)}, {"w": Format(15, 13)}, {})
    return program, plan


def x_of(rows: int = 1) -> np.ndarray:
    w = logits_program()[0].weights["w"]
    return np.random.default_rng(3).normal(0, 0.5, (rows, WIDTH)) + 2 * w[:, 0]


def run(reveals: tuple[Reveal, Reveal], program: Program, plan: RingPlan, x: np.ndarray):
    """The output and both engines, or what the parties raised."""
    engines = [TwoPartyEngine(party, channel, plan) for party, channel in zip(Role, channel_pair(), strict=True)]
    results: list = [None, None]

    def side(index: int) -> None:
        try:
            engines[index].reveal_only(reveals[index], VOCABULARY)
            engines[index].share_state(program.graph, INPUT, None if index else x)
            results[index] = engines[index].run(program.graph, weights=program.weights if index else None)
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=side, args=(index,), daemon=True) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
        assert not thread.is_alive(), "a party hangs"
    return results, engines


@pytest.mark.parametrize("reveal", [LOGITS, TOKEN, Reveal(1), Reveal(6), Reveal(1000)], ids=str)
def test_what_is_revealed_is_what_was_chosen(reveal):
    (program, plan), x = logits_program(), x_of()
    (output, nothing), (client, server) = run((reveal, reveal), program, plan, x)
    assert nothing is None and isinstance(output, np.ndarray), (output, nothing)
    exact = x @ program.weights["w"]
    error = 2e-3  # weights and x rounded to 2^-14 each, 64 terms of up to 1; the logits asked for are farther apart
    tokens = np.sort(exact[0, :VOCABULARY])[::-1]
    assert tokens[0] - tokens[1] > 2 * error and tokens[5] - tokens[6] > 2 * error
    assert exact[0].argmax() >= VOCABULARY
    expected = reveal.of(exact, VOCABULARY)
    np.testing.assert_array_equal(np.isfinite(output), np.isfinite(expected))
    shown = np.isfinite(expected)
    np.testing.assert_allclose(output[shown], expected[shown], rtol=0, atol=error)

    k = min(reveal.k or 0, VOCABULARY)
    ids, values = ("logits: ids", (1, k), 0), ("logits: values", (1, k), 0)
    opened = [("logits", (1, COLUMNS), 0)] if reveal.k is None else [ids, values] if reveal.values else [ids]
    for engine in (client, server):
        assert [(o.what, o.shape, o.to) for o in engine._party.openings] == opened


def test_a_place_that_is_no_token_does_not_end_the_session(monkeypatch):
    """A server whose share of the place is not what the protocol gave it would learn of the token by an error."""

    run_plan = TopKPlan.run

    def moved(plan, party, x, begin):
        largest, places = run_plan(plan, party, x, begin)
        return largest, places.of(np.full_like(places.values, party.role * 255))

    monkeypatch.setattr(TopKPlan, "run", moved)
    (program, plan), x = logits_program(), x_of()
    (output, nothing), _ = run((TOKEN, TOKEN), program, plan, x)
    assert nothing is None and np.flatnonzero(np.isfinite(output[0])).tolist() == [VOCABULARY - 1]


@pytest.mark.parametrize("reveal", [LOGITS, TOKEN, Reveal(6)], ids=str)
def test_traffic_is_what_was_declared(reveal):
    (program, plan), x = logits_program(), x_of()
    _, (client, server) = run((reveal, reveal), program, plan, x)
    lines = declared_run(program.graph, plan, reveal=reveal, vocabulary=VOCABULARY).lines
    for label in {line.label for line in lines}:
        traffic, costs = client.traffic.by_op[label], [line.cost for line in lines if line.label == label]
        found = traffic.bytes_sent, traffic.bytes_received, traffic.messages
        if label == "ots":  # counted with the set-up of OTs
            assert found[0] >= sum(c.bytes_client_to_server for c in costs)
            continue
        assert found == (
            sum(c.bytes_client_to_server for c in costs),
            sum(c.bytes_server_to_client for c in costs),
            sum(c.messages for c in costs),
        )
    assert not any("/" in label for label in client.traffic.by_op)
    assert {r.label for r in client.report} >= {line.label for line in lines}
    assert isinstance(client.cost, RunCost) and client.cost.messages == server.cost.messages


def test_a_client_cannot_ask_for_more():
    (program, plan), x = logits_program(), x_of()
    told, _ = run((LOGITS, TOKEN), program, plan, x)
    for error in told:
        assert isinstance(error, ValueError) and "do not have the same output revealed" in str(error)


@pytest.mark.parametrize("reveal", [TOKEN, Reveal(3)], ids=str)
def test_the_largest_of_each_row(reveal):
    (program, plan), x = logits_program(rows=2), x_of(2)
    (output, _), (client, _) = run((reveal, reveal), program, plan, x)
    exact = x @ program.weights["w"]
    expected = reveal.of(exact, VOCABULARY)
    shown = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(output), shown)
    np.testing.assert_allclose(output[shown], expected[shown], rtol=0, atol=2e-3)
    assert client._party.openings[0].shape == (2, reveal.k)


def test_an_engine_that_reveals_all_says_so():
    class Bare(Engine):
        name, insecure = "bare", True
        run = cost = close = forget = None  # type: ignore[assignment]

    Bare().reveal_only(LOGITS, 10)
    with pytest.raises(ValueError, match="'bare' reveals all logits"):
        Bare().reveal_only(TOKEN, 10)
    assert SpuEngine.reveal_only is Engine.reveal_only


def test_the_costs_that_the_documentation_states():
    rows = re.findall(r"^\| `(.+)` \| ([\d.]+) \| (\d+) \| ([\d,]+) \|$", DOCUMENTATION.read_text(), re.MULTILINE)
    assert len(rows) == 5
    for reveal, megabytes, rounds, ots in rows:
        costs = output_costs((1, 50257), Format(25, 16), Reveal.parse(reveal), 50257)
        cost = sum(costs, ProtocolCost())
        assert (f"{cost.total_bytes / 1e6:.2f}", cost.rounds) == (megabytes, int(rounds))
        assert f"{cost.ots_from_client + cost.ots_from_server:,}" == ots


@pytest.mark.parametrize("text", ["logits", "top-k:1", "top-k:40", "token"])
def test_a_choice_is_written_as_it_is_read(text):
    assert str(Reveal.parse(text)) == text and Reveal.parse(text).described


@pytest.mark.parametrize("text", ["", "Logits", "top-k", "top-k:0", "top-k:-1", "top-k:1025", "token:2", "top-k:1e3"])
def test_no_other_choice_is_read(text):
    with pytest.raises(ValueError, match="reveal"):
        Reveal.parse(text)
