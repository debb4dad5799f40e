"""Private look-up: what the client gets is masked afresh, and what the server gets does not depend on the ids."""

import numpy as np
import pytest

from aero.kernels.prg import Prg
from aero.mpc.protocols import embedding
from aero.mpc.protocols.embedding import plan_embedding
from leakage.uneven import LIMIT, uneven
from mpc.tables import looked_up

TOKENS, ROWS, COLUMNS, BITS = 64, 40, 32, 16


@pytest.fixture
def plan(monkeypatch):
    monkeypatch.setattr(embedding, "_count_blocks", lambda *_: [4])
    return plan_embedding(TOKENS, ROWS, COLUMNS, BITS)


TABLE = np.full((ROWS, COLUMNS), 1234)


def test_both_shares_are_uniform_for_equal_rows(plan):
    run = looked_up(plan, TABLE, np.full(TOKENS, 7))
    for share, _ in run.results:
        assert uneven(share.values, BITS) < LIMIT


def test_without_the_mask_of_the_result_the_client_sees_the_row(plan, monkeypatch):
    original = Prg.uniform

    def unmasked(self, shape, bits):
        masks = original(self, shape, bits)
        return np.zeros_like(masks) if shape == (TOKENS, COLUMNS) and self.label == "server/masks" else masks

    monkeypatch.setattr(Prg, "uniform", unmasked)
    run = looked_up(plan, TABLE, np.full(TOKENS, 7))
    assert uneven(run.results[0][0].values, BITS) > LIMIT


def test_sizes_and_order_do_not_depend_on_the_ids(plan):
    runs = [looked_up(plan, TABLE, ids) for ids in (np.zeros(TOKENS, np.int64), np.arange(TOKENS) % ROWS)]
    sizes = [[[len(frame) for frame in sent] for sent in run.sent] for run in runs]
    assert sizes[0] == sizes[1]


def test_the_servers_view_of_the_block_is_uniform(plan):
    """The corrections of the choice bits: the client's second message after its keys."""
    corrections = []
    for _ in range(8):
        run = looked_up(plan, TABLE, np.zeros(TOKENS, np.int64))
        corrections.append(np.unpackbits(np.frombuffer(run.sent[0][-1][-TOKENS * 2 // 8 :], np.uint8)))
    ones, total = int(np.sum(corrections)), np.size(corrections)
    assert abs(ones - total / 2) < 6 * np.sqrt(total) / 2
