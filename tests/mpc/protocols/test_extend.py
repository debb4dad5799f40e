"""Extension of rings and conversion from a field: exact or within one unit, up to the ends of the ranges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero.kernels import slots
from aero.kernels.prg import Prg
from aero.mpc.protocols.extend import extend, extend_cost, from_field, from_field_cost, to_field, to_field_cost
from mpc.ots import run_with_ots, split

P50, P37 = 1256132134125569, 190274191361


@pytest.mark.parametrize("start, end", [(2, 3), (9, 10), (9, 64), (25, 41), (41, 43), (63, 64)])
def test_extension_is_exact_over_its_range(start, end):
    limit = 2 ** (start - 2)
    x = np.random.default_rng(start).integers(-limit, limit, 3000)
    x[:4] = [-limit, limit - 1, 0, -1 if start > 2 else 0]
    outcome = run_with_ots(lambda party: extend(party, split(party, x, start, 1), end))
    np.testing.assert_array_equal(outcome.signed, x)
    assert outcome.cost == extend_cost(x.size, start, end) and outcome.cost.rounds == 1


@pytest.mark.parametrize("start, end", [(25, 25), (1, 9), (30, 65)])
def test_extension_refuses_rings(start, end):
    with pytest.raises(ValueError, match="cannot extend"):
        run_with_ots(lambda party: extend(party, split(party, np.zeros(3, np.int64), start), end))


def field_parts(party, z: np.ndarray, p: int) -> np.ndarray:
    mask = Prg(b"shares".ljust(16), "test/field").uniform_below(z.shape, p)
    return (z.astype(np.uint64) + np.uint64(p) - mask) % np.uint64(p) if party.is_client else mask


def converted(z: np.ndarray, p: int, **settings):
    outcome = run_with_ots(lambda party: from_field(party, field_parts(party, z, p), p, **settings))
    assert outcome.cost == from_field_cost(z.size, settings["bits"]) and outcome.cost.rounds == 1
    return outcome


@pytest.mark.parametrize("p", [P50, P37, 2**61 - 1, 7])
@pytest.mark.parametrize("dropped", [0, 1, 12, 20, 34])
def test_conversion_is_within_one_unit_without_bias(p, dropped):
    top = (p - 1) // 2
    z = np.random.default_rng(dropped).integers(0, top, 20000, np.uint64, endpoint=True)
    z[:5000] >>= np.uint64(7)
    z[:4] = [0, top, 1, top - 1]
    outcome = converted(z, p, bits=63, dropped=dropped)
    error = (outcome.signed.astype(object) * 2**dropped - z.astype(object)) / 2**dropped
    assert max(abs(error)) < 1 and (dropped or not error.any())
    # two roundings, each uniform over a unit: a variance of 1/6, so that 0.02 is seven deviations of the mean
    assert abs(error.mean()) < 0.02 or 2**dropped > p // 50


def test_a_small_ring_keeps_numbers_modulo_it():
    z = np.random.default_rng(0).integers(0, P50 // 2, 2000)
    wide, narrow = (converted(z, P50, bits=bits, dropped=20).total for bits in (40, 13))
    np.testing.assert_array_equal(wide % 2**13, narrow)


@settings(max_examples=20)
@given(st.integers(0, 14), st.integers(1, 2**33))
def test_signed_numbers(dropped, scale):
    v = np.random.default_rng(dropped).integers(-scale, scale, 300, endpoint=True)
    offset = -(-scale >> dropped) << dropped
    outcome = converted(v + offset, P50, bits=40, dropped=dropped, offset=offset, fraction_bits=3)
    assert (np.abs(outcome.signed * 2.0**dropped - v) <= 2.0**dropped).all()
    assert outcome.results[0].fraction_bits == 3


@pytest.mark.parametrize("bits", [2, 14, 25, 41, 64])
@pytest.mark.parametrize("field", [slots.P50, slots.P37], ids=["P50", "P37"])
def test_ring_to_field(bits, field):
    limit = 2 ** (bits - 2)
    x = np.random.default_rng(bits).integers(-limit, limit, (3, 1000))
    x[0, :4] = [-limit, limit - 1, 0, -1]
    outcome = run_with_ots(lambda party: to_field(party, split(party, x, bits), field))
    assert all((part < field.p).all() for part in outcome.results)
    total = sum(part.astype(object) for part in outcome.results) % field.p
    np.testing.assert_array_equal(total, x.astype(object) % field.p)
    assert outcome.cost == to_field_cost(x.size) and outcome.cost.rounds == 1


@pytest.mark.parametrize("bad", [{"p": 2**20}, {"p": 2**63 - 1}, {"dropped": 61}, {"dropped": 4, "offset": 8}])
def test_conversion_refuses(bad):
    given_ = {"p": P37, "bits": 20, "dropped": 0} | bad
    with pytest.raises(ValueError, match=r"odd|drop"):
        run_with_ots(lambda party: from_field(party, np.zeros(2, np.uint64), **given_))
