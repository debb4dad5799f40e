import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.mpc.fixed_point import FixedPoint


@given(st.integers(1, 30), st.floats(-1000, 1000))
def test_codec_rounds_to_the_nearest_step(bits, x):
    fixed = FixedPoint(bits)
    assert abs(fixed.decode(fixed.encode(np.array([x])))[0] - x) <= fixed.step / 2


@given(st.floats(-100, 100), st.floats(-100, 100))
def test_a_truncated_product_is_below_the_exact_one_by_less_than_a_step(x, y):
    fixed = FixedPoint(18)
    a, b = fixed.encode(np.array([x])), fixed.encode(np.array([y]))
    exact = fixed.decode(a)[0] * fixed.decode(b)[0]
    assert 0 <= exact - fixed.decode(fixed.truncate(a * b))[0] < fixed.step


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        FixedPoint(18).encode(np.array([2.0**45]))
    with pytest.raises(ValueError, match="does not fit"):
        FixedPoint(18).encode(np.array([np.nan]))
    with pytest.raises(ValueError, match="1 to 30"):
        FixedPoint(31)
