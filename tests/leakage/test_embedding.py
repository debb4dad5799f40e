"""Private look-up: what the client gets is masked afresh, and what the server gets does not depend on the ids."""

import numpy as np
import pytest

from aero.kernels.prg import Prg
from aero.kernels.rlwe import WEIGHTS
from aero.mpc.dealer import insecure_ots
from aero.mpc.party import Party
from aero.mpc.protocols import embedding
from aero.mpc.protocols.embedding import plan_embedding
from aero.mpc.protocols.keys import exchange_keys
from mpc.parties import run_both
from mpc.tables import load_table

TOKENS, ROWS, COLUMNS, BITS = 64, 40, 32, 16
LIMIT = 15 + 8 * np.sqrt(30)  # 15 degrees of freedom


@pytest.fixture
def plan(monkeypatch):
    monkeypatch.setattr(embedding, "_count_blocks", lambda *_: [4])
    return plan_embedding(TOKENS, ROWS, COLUMNS, BITS)


def looked_up(plan, ids: np.ndarray):
    table, ends = np.full((ROWS, COLUMNS), 1234), insecure_ots()

    def program(party: Party):
        party.ots = ends[party.role]
        exchange_keys(party, [WEIGHTS])
        if party.is_client:
            return plan.run(party, 8, ids)
        return plan.run(party, 8, table=load_table(plan, table))

    return run_both(program)


def uneven(values: np.ndarray) -> float:
    """Chi squared of the top four bits against uniform ones."""
    counts = np.bincount((values >> np.uint64(BITS - 4)).reshape(-1).astype(np.int64), minlength=16)
    expected = values.size / 16
    return float(((counts - expected) ** 2 / expected).sum())


def test_both_shares_are_uniform_for_equal_rows(plan):
    run = looked_up(plan, np.full(TOKENS, 7))
    for share in run.results:
        assert uneven(share.values) < LIMIT


def test_without_the_mask_of_the_result_the_client_sees_the_row(plan, monkeypatch):
    original = Prg.uniform

    def unmasked(self, shape, bits):
        masks = original(self, shape, bits)
        return np.zeros_like(masks) if shape == (TOKENS, COLUMNS) and self.label == "server/masks" else masks

    monkeypatch.setattr(Prg, "uniform", unmasked)
    run = looked_up(plan, np.full(TOKENS, 7))
    assert uneven(run.results[0].values) > LIMIT


def test_sizes_and_order_do_not_depend_on_the_ids(plan):
    runs = [looked_up(plan, ids) for ids in (np.zeros(TOKENS, np.int64), np.arange(TOKENS) % ROWS)]
    sizes = [[[len(frame) for frame in sent] for sent in run.sent] for run in runs]
    assert sizes[0] == sizes[1]


def test_the_servers_view_of_the_block_is_uniform(plan):
    """The corrections of the choice bits: the client's second message after its keys."""
    corrections = []
    for _ in range(8):
        run = looked_up(plan, np.zeros(TOKENS, np.int64))
        corrections.append(np.unpackbits(np.frombuffer(run.sent[0][-1][-TOKENS * 2 // 8 :], np.uint8)))
    ones, total = int(np.sum(corrections)), np.size(corrections)
    assert abs(ones - total / 2) < 6 * np.sqrt(total) / 2
