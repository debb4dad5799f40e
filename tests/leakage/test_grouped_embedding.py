"""Look-ups in groups: what the client gets is masked afresh, and what the server gets does not depend on the ids."""

import numpy as np
import pytest

from aero.kernels.prg import Prg
from aero.kernels.rlwe import WEIGHTS
from aero.mpc.protocols import embedding, grouped_embedding
from aero.mpc.protocols.embedding import MAX_ERROR
from aero.mpc.protocols.grouped_embedding import GroupedPlan, plan_grouped
from aero.mpc.protocols.linear import LinearPlan, prepare_answer, read_answer
from leakage.uneven import LIMIT, uneven
from mpc.tables import looked_up

TOKENS, ROWS, COLUMNS, BITS = 64, 300, 32, 16


@pytest.fixture(scope="module")
def plan() -> GroupedPlan:
    found = plan_grouped(TOKENS, ROWS, COLUMNS, BITS, WEIGHTS, MAX_ERROR, embedding.NETWORK_RATE)
    assert found is not None
    return found[1]


TABLE = np.full((ROWS, COLUMNS), 1234)


def test_both_shares_are_uniform_for_equal_rows(plan):
    run = looked_up(plan, TABLE, np.arange(TOKENS))
    for share, _ in run.results:
        assert uneven(share.values, BITS) < LIMIT


def test_places_that_hold_nothing_are_shares_as_any_others(plan, monkeypatch):
    """The client's part of them, where a single id takes one place of all."""
    found = []

    def read(party, product):
        found.append(read_answer(party, product))
        return found[-1]

    monkeypatch.setattr(grouped_embedding, "read_answer", read)
    looked_up(plan, TABLE, np.full(TOKENS, 7))
    assert len(found) == 2 * plan.half + 1
    assert uneven(np.concatenate(found[:-1]), BITS) < LIMIT


def test_without_the_masks_the_client_sees_rows(plan, monkeypatch):
    original = Prg.uniform

    def unmasked(self, shape, bits):
        masks = original(self, shape, bits)
        return np.zeros_like(masks) if self.label == "server/masks" else masks

    monkeypatch.setattr(Prg, "uniform", unmasked)
    run = looked_up(plan, TABLE, np.arange(TOKENS))
    assert uneven(run.results[0][0].values, BITS) > LIMIT


def test_sizes_and_order_do_not_depend_on_the_ids(plan):
    runs = [looked_up(plan, TABLE, ids) for ids in (np.zeros(TOKENS, np.int64), np.arange(TOKENS) * 3)]
    sizes = [[[len(frame) for frame in sent] for sent in run.sent] for run in runs]
    assert sizes[0] == sizes[1]


def test_what_the_server_multiplies_does_not_depend_on_the_ids(plan, monkeypatch):
    """One product for each group and one for the order, whatever the ids."""
    asked: list[list[LinearPlan]] = []

    def answer(party, product, x, weights):
        asked[-1].append(product)
        return prepare_answer(party, product, x, weights)

    monkeypatch.setattr(grouped_embedding, "prepare_answer", answer)
    for ids in (np.zeros(TOKENS, np.int64), np.arange(TOKENS) * 3):
        asked.append([])
        looked_up(plan, TABLE, ids)
    assert asked[0] == asked[1] == [plan.product] * (2 * plan.half) + [plan.order]
