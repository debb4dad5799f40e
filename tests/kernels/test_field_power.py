"""Powers of two in prime fields: equal to their definition, and near the real powers."""

import numpy as np
import pytest

from aero.kernels import native
from aero.kernels.field_power import field_power
from aero.kernels.reference import field_power as reference

P50, P37 = 1256132134125569, 190274191361


@pytest.mark.parametrize("level", native.available_levels())
@pytest.mark.parametrize("p", [P50, P37])
@pytest.mark.parametrize("fraction_bits, mantissa_bits", [(14, 12), (0, 1), (32, 16), (20, 11)])
def test_equals_its_definition(level, p, fraction_bits, mantissa_bits):
    rng = np.random.default_rng(fraction_bits)
    top = 2 ** (13 + fraction_bits) - 1
    x = np.concatenate(
        [rng.integers(0, top, 500, np.uint64, endpoint=True), np.array([0, 1, top, 2**64 - 1], np.uint64)]
    )
    with native.use_level(level):
        found = field_power(x.reshape(2, -1), fraction_bits, mantissa_bits, p)
    np.testing.assert_array_equal(found, reference.field_power(x, fraction_bits, mantissa_bits, p).reshape(2, -1))


@pytest.mark.parametrize("mantissa_bits", [8, 12, 16])
def test_mantissas_are_rounded_powers(mantissa_bits):
    x = np.arange(2**14, dtype=np.uint64)
    found = field_power(x, 14, mantissa_bits, P50).astype(np.float64)
    assert np.abs(found - 2.0 ** (x.astype(np.float64) / 2**14 + mantissa_bits)).max() <= 0.5 + 2.0 ** (
        mantissa_bits - 27
    )


def test_the_exponent_counts_modulo_the_order_of_two():
    """2^a 2^b = 2^(a+b) for whole exponents, also where a + b wraps: what makes shares of exponents work."""
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 2**13, (2, 300), dtype=np.uint64)
    left, right, both = (field_power(x, 0, 1, P50) for x in (a, b, (a + b) % np.uint64(2**13)))
    product = [int(x) * int(y) % P50 for x, y in zip(left, right, strict=True)]
    assert product == [2 * int(z) % P50 for z in both]


@pytest.mark.parametrize(
    "exponents, fraction_bits, mantissa_bits, p, message",
    [
        (np.zeros(3, np.int64), 14, 12, P50, "uint64"),
        (np.zeros(3, np.uint64), 33, 12, P50, "0 to 32"),
        (np.zeros(3, np.uint64), 14, 17, P50, "1 to 16"),
        (np.zeros(3, np.uint64), 14, 12, 2**31 - 1, "order"),
    ],
)
def test_what_it_refuses(exponents, fraction_bits, mantissa_bits, p, message):
    with pytest.raises(ValueError, match=message):
        field_power(exponents, fraction_bits, mantissa_bits, p)
