"""Measured noise against the bounds, with random and with the worst operands."""

import numpy as np
import pytest

from aero.kernels.gaussian import largest
from aero.kernels.lattice_matmul import Columns, MatmulPlan, packed_integers
from aero.kernels.lattice_noise import ColumnSizes, NoRoomError, require_noise, share_noise, weight_noise
from aero.kernels.prg import Prg
from aero.kernels.rlwe import SHARES, WEIGHTS, Params, SecretKey

SEED = bytes(range(16))


def stream(label: str) -> Prg:
    return Prg(b"test seed of 16.", label)


class WorstErrors(Prg):
    """Every error term as large as the sampler gives it."""

    def gaussian(self, shape: int | tuple[int, ...], deviation: float) -> np.ndarray:
        return np.full(shape, largest(deviation), dtype=np.int8)


def measured(plan: MatmulPlan, w: np.ndarray, upload_errors: Prg, x: np.ndarray) -> np.ndarray:
    """Errors in units of the output's last place."""
    secret = SecretKey.generate(plan.params, stream("secret"))
    public = secret.public_keys(SEED, stream("key errors"))
    loaded = plan.load(plan.encrypt(secret, x, SEED, upload_errors))
    packed = plan.evaluate(public, loaded, plan.encode_weights(w))
    response, own = plan.respond(public, packed, stream("errors"), stream("masks"))
    total = plan.rounded(plan.decrypt(secret, response)) + plan.rounded(own) << np.uint64(
        plan.ring_bits - plan.output_bits
    )
    difference = (total - x @ w.astype(np.uint64)).astype(np.int64)
    rest = np.int64(64 - plan.ring_bits)
    return (difference << rest >> rest) / 2.0 ** (plan.ring_bits - plan.output_bits)


def random_operands(plan: MatmulPlan, weight_bits: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 1 << plan.ring_bits, (plan.batch, plan.rows, plan.inner), dtype=np.uint64)
    half = 1 << weight_bits
    return x, rng.integers(-half, half, (plan.batch, plan.inner, plan.columns), dtype=np.int64)


PLANS = [
    (MatmulPlan(WEIGHTS, 128, 256, 128, 41, 64, 32, 2, 32, 41), 12),  # fresh noise dominates
    (MatmulPlan(WEIGHTS, 64, 64, 64, 37, 64, 64, 1, 64, 37), 0),  # key switches dominate
    (MatmulPlan(WEIGHTS, 64, 64, 64, 37, 64, 64, 1, 1, 37), 0),  # the encryption of zero and rounding
    (MatmulPlan(SHARES, 128, 64, 128, 37, 128, 16, 2, 16, 30), 36),
    (MatmulPlan(WEIGHTS, 128, 64, 64, 41, 128, 16, 2, 16, 41, digits=2), 40),
]


@pytest.mark.parametrize("plan, weight_bits", PLANS)
def test_random_operands(plan: MatmulPlan, weight_bits: int) -> None:
    x, w = random_operands(plan, weight_bits)
    errors = measured(plan, w, stream("upload errors"), x)
    noise = (
        share_noise(plan)
        if weight_bits + 1 == plan.ring_bits
        else weight_noise(plan, ColumnSizes.of(*plan.digits_of(w)))
    )
    assert np.abs(errors).max() <= noise.total
    assert 0.7 * noise.deviation < errors.std() < 1.2 * noise.deviation  # the model, not only the bound


def test_weights_along_a_diagonal() -> None:
    """Zeros add no noise: the bound that counts 16 weights to a column holds, is met, and is below that for all 64."""
    plan = MatmulPlan(SHARES, 1, 64, 96, 41, 1, 64, 64, 32, 25)
    rng = np.random.default_rng(7)
    x, w = rng.integers(0, 1 << 41, (1, 1, 64), dtype=np.uint64), np.zeros((1, 64, 96), dtype=np.int64)
    for head in range(4):
        part = slice(16 * head, 16 * head + 16), slice(24 * head, 24 * head + 24)
        w[0][part] = rng.integers(-(1 << 40), 1 << 40, (16, 24))
    errors = measured(plan, w, stream("upload errors"), x)
    noise = share_noise(plan, nonzero=16)
    assert np.abs(errors).max() <= noise.total < share_noise(plan).total
    assert 0.7 * noise.deviation < errors.std() < 1.3 * noise.deviation


@pytest.mark.parametrize("sign", [1, -1])
def test_worst_operands(sign: int) -> None:
    """All errors at their limit, all weights at theirs and of one sign: |w|_1 is reached, and not exceeded."""
    plan = MatmulPlan(WEIGHTS, 64, 256, 64, 37, 64, 32, 2, 32, 37)
    w = np.full((1, 256, 64), sign * 4095, dtype=np.int64)
    x = np.full((1, 64, 256), (1 << 37) - 1, dtype=np.uint64)
    errors = measured(plan, w, WorstErrors(b"test seed of 16.", "worst"), x)
    noise = weight_noise(plan, ColumnSizes.of(*plan.digits_of(w)))
    slack = noise.message_rounding + noise.packing + noise.zero + noise.response + noise.shares
    assert np.abs(errors).max() <= noise.fresh_always + slack
    assert np.abs(errors).max() >= noise.fresh_always - slack
    assert slack < 0.1 * noise.fresh_always


def test_a_model_that_does_not_fit_is_refused() -> None:
    plan = MatmulPlan(WEIGHTS, 128, 768, 768, 41, 64, 32, 2, 32, 25)
    fits = np.full((768, 768), 1 << 10, dtype=np.int64)
    require_noise(weight_noise(plan, ColumnSizes.of(fits)), limit=4)
    with pytest.raises(NoRoomError, match="last place"):
        require_noise(weight_noise(plan, ColumnSizes.of(fits << 8)), limit=4)


def test_the_bound_falls_with_the_modulus() -> None:
    wide = Params(8192, (50, 50), 50)
    large = share_noise(MatmulPlan(wide, 128, 64, 128, 41, 64, 64, 2, 64, 41)).total
    small = share_noise(MatmulPlan(SHARES, 128, 64, 128, 41, 64, 64, 1, 64, 41)).total
    assert large < small / 2**15


def test_sizes_of_a_matrix_by_its_columns_are_those_of_its_numbers() -> None:
    w = np.random.default_rng(3).integers(-(2**15), 2**15, (300, 70))
    w[0, 0] = -(2**15)
    expected = ColumnSizes.of(w)
    cut = (w[:, :50], w[:, 50:])
    for found in (
        ColumnSizes.of_columns(Columns.of(w)),
        ColumnSizes.of_columns(Columns(tuple(part.T for part in cut))),
        ColumnSizes.of_columns(Columns((packed_integers(w.T, 3),))),
        ColumnSizes.joined([ColumnSizes.of_columns(Columns.of(part)) for part in cut]),
    ):
        assert np.array_equal(found.l1, expected.l1) and np.array_equal(found.l2_squared, expected.l2_squared)
        assert found.largest == expected.largest == 2**15
