"""Private look-up of rows: the right rows, at the declared cost, and 1-of-N transfers."""

import numpy as np
import pytest

from aero.mpc.dealer import insecure_ots
from aero.mpc.fixed_point import reduce_ring
from aero.mpc.ot.one_of import one_of_cost, receive_one_of, send_one_of
from aero.mpc.party import Party, Role
from aero.mpc.protocols import embedding
from aero.mpc.protocols.embedding import plan_embedding
from mpc.parties import run_both
from mpc.tables import assert_looks_up


def with_ots(program):
    ends = insecure_ots()

    def run(party: Party):
        party.ots = ends[party.role]
        return program(party)

    return run


SIZES = [(5, 37, 6), (1, 300, 16), (9, 256, 4), (3, 1, 5), (16, 1000, 8)]


@pytest.mark.parametrize("blocks", [1, 2, 4])
@pytest.mark.parametrize("tokens, rows, columns", SIZES)
def test_the_rows_of_the_ids(tokens, rows, columns, blocks, monkeypatch):
    monkeypatch.setattr(embedding, "_count_blocks", lambda *_: [min(blocks, rows)])
    plan = plan_embedding(tokens, rows, columns, 22)
    assert plan.blocks == min(blocks, rows)
    rng = np.random.default_rng(rows)
    table = rng.integers(-(1 << 18), 1 << 18, (rows, columns))
    ids = rng.integers(rows, size=tokens)
    ids[[0, -1]] = rows - 1, 0
    assert_looks_up(plan, table, ids)


def test_more_rows_are_cut_into_more_blocks():
    counts = [plan_embedding(32, rows, 768, 22).blocks for rows in (2, 4096, 50_000)]
    assert counts == sorted(counts) and counts[0] < counts[-1]


def test_ids_outside_the_table_are_refused():
    plan = plan_embedding(2, 10, 4, 22)
    party = Party(Role.CLIENT, None)
    for ids in (np.array([0, 10]), np.array([-1, 0]), np.array([0]), None):
        with pytest.raises(ValueError, match="2 ids from 0 to 9"):
            plan.run(party, 16, ids)


@pytest.mark.parametrize("options, words, bits", [(2, 1, 1), (4, 7, 22), (16, 3, 64)])
def test_one_of_n_gives_the_chosen_message(options, words, bits):
    rng = np.random.default_rng(options)
    messages = reduce_ring(rng.integers(0, 2**64, (50, options, words), dtype=np.uint64), bits)
    choices = rng.integers(options, size=50)

    def program(party: Party):
        if party.is_client:
            return receive_one_of(party, choices, options, words, bits), party.channel.traffic
        return send_one_of(party, messages, bits)

    run = run_both(with_ots(program))
    received, traffic = run.results[0]
    assert (received == messages[np.arange(50), choices]).all()
    cost = one_of_cost(Role.SERVER, 50, options, words, bits)
    assert (traffic.bytes_sent, traffic.bytes_received) == (cost.bytes_client_to_server, cost.bytes_server_to_client)
    assert (traffic.messages, traffic.rounds) == (cost.messages, cost.rounds)
    assert cost.ots_from_server == 50 * (options.bit_length() - 1)


def test_what_was_not_chosen_stays_hidden():
    """The other messages arrive under pads: uniform, whatever they are."""
    options, words, bits = 4, 512, 8
    messages = np.zeros((40, options, words), dtype=np.uint64)

    def program(party: Party):
        if party.is_client:
            return receive_one_of(party, np.zeros(40, dtype=np.int64), options, words, bits)
        return send_one_of(party, messages, bits)

    run = run_both(with_ots(program))
    data = np.frombuffer(run.sent[1][-1][-40 * options * words :], np.uint8)
    counts = np.bincount(data, minlength=256)
    expected = data.size / 256
    assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * np.sqrt(2 * 255)
