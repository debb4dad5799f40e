"""The counts that the choice of tiles rests on."""

from dataclasses import replace

import numpy as np
import pytest

from aero.kernels.lattice_cost import NoTiling, cost_of, plan_matmul
from aero.kernels.lattice_matmul import MatmulPlan
from aero.kernels.rlwe import SHARES, WEIGHTS, Params


def test_counts() -> None:
    plan = MatmulPlan(WEIGHTS, 128, 768, 768, 37, 64, 32, 2, 32, 37)
    cost = cost_of(plan)
    assert (cost.transforms, cost.key_switches) == (24 * 384, 24 * 31)
    assert cost.multiplications == 2 * 128 * 768 * 768
    assert (cost.upload_bytes, cost.response_bytes) == (16 + 48 * 25600, (128 * 768 * 39 + 24 * 4096 * 46) // 8)
    assert cost_of(plan, prepared=True).transforms == 0


def test_key_switches_of_incomplete_groups() -> None:
    # 5 column tiles in groups of 4: 3 steps join four, and the fifth is joined with nothing.
    plan = MatmulPlan(WEIGHTS, 1, 8, 5 * 128, 37, 4, 8, 128, 4, 37)
    assert cost_of(plan).key_switches == 3
    # 2 column tiles of each of 3 products, all in one ciphertext of 8.
    plan = MatmulPlan(WEIGHTS, 1, 8, 2 * 128, 37, 4, 8, 128, 8, 37, batch=3)
    assert plan.packed == 1 and cost_of(plan).key_switches == 5


def test_the_choice_follows_the_network() -> None:
    fast, slow = (plan_matmul(WEIGHTS, 128, 768, 768, 37, bytes_per_second=rate) for rate in (1e10, 1e6))
    assert slow.upload_bytes + slow.response_bytes < fast.upload_bytes + fast.response_bytes
    assert cost_of(slow).compute_seconds > cost_of(fast).compute_seconds


def test_the_choice_obeys_its_limits() -> None:
    assert plan_matmul(WEIGHTS, 1, 768, 5000, 41, max_spacing=8).d1 <= 8
    assert plan_matmul(WEIGHTS, 16, 768, 768, 41, prepared=True).d0 == 1
    plan = plan_matmul(SHARES, 128, 64, 128, 41, output_bits=25, batch=12, digits=2)
    assert (plan.batch, plan.digits, plan.output_bits) == (12, 2, 25)
    with pytest.raises(NoTiling, match="split it"):
        plan_matmul(WEIGHTS, 1, 10**7, 1, 37)
    with pytest.raises(NoTiling, match="split it"):
        plan_matmul(WEIGHTS, 1, 8, 8, 37, suits=lambda _: False)


def test_what_is_no_product_is_another_error() -> None:
    with pytest.raises(ValueError, match="at most 54") as raised:
        plan_matmul(WEIGHTS, 4, 8, 8, 64, output_bits=60)
    assert not isinstance(raised.value, NoTiling)


@pytest.mark.parametrize("rows, inner, columns", [(1, 1, 1), (64, 768, 50257), (1, 3072, 768), (128, 64, 128)])
def test_every_shape_has_a_plan(rows: int, inner: int, columns: int) -> None:
    plan = plan_matmul(WEIGHTS, rows, inner, columns, 37)
    assert plan.row_tiles * plan.d0 >= rows and plan.column_tiles * plan.d2 >= columns
    assert np.unique(plan._where()[:1, :1]).size == columns


@pytest.mark.parametrize("params", [WEIGHTS, SHARES])
@pytest.mark.parametrize(
    "rows, inner, columns, batch, digits", [(1, 64, 192, 1, 1), (37, 65, 2048, 1, 1), (5, 40, 9, 4, 2)]
)
def test_the_choice_is_the_cheapest_of_all_tilings(
    params: Params, rows: int, inner: int, columns: int, batch: int, digits: int
) -> None:
    """Every tiling, priced one by one."""
    found = plan_matmul(params, rows, inner, columns, 41, output_bits=25, batch=batch, digits=digits)
    best = None
    for d1 in (1 << k for k in range((inner - 1).bit_length() + 1)):
        for d0 in (1 << k for k in range((rows - 1).bit_length() + 1) if d1 << k <= params.n):
            for merge in (1 << k for k in range(d1.bit_length())):
                plan = replace(found, d0=d0, d1=d1, d2=params.n // (d0 * d1), merge=merge)
                best = plan if best is None or cost_of(plan).seconds < cost_of(best).seconds else best
    assert found == best
