"""Ring products: equal to NumPy's wrapping integers at every level."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.kernels import native, ring
from aero.kernels.reference import ring as reference

LEVELS = native.available_levels()
levels = pytest.mark.parametrize("level", LEVELS)

# Words whose halves, top twelve bits or low 52 bits are all ones or zero: where a splitting would go wrong.
EDGES = np.array(
    [0, 1, 0xFFF, 2**12, 2**32 - 1, 2**32, 2**52 - 1, 2**52, 2**63, 2**64 - 2**52, 2**64 - 2**32, 2**64 - 1], np.uint64
)


@levels
@pytest.mark.parametrize(
    ("m", "k", "n"),
    # Around the tiles (6 x 16, 2 x 8, 4 x 4) and the blocks (256 deep, 128 wide).
    [
        (1, 1, 1),
        (1, 768, 129),
        (5, 3, 15),
        (6, 256, 16),
        (7, 257, 17),
        (13, 700, 131),
        (128, 64, 128),
        (0, 3, 4),
        (3, 0, 4),
    ],
)
def test_products_equal_their_definition(level, m, k, n):
    rng = np.random.default_rng(m * k + n)
    a = rng.integers(0, 2**64 - 1, (m, k), np.uint64, endpoint=True)
    b = rng.integers(0, 2**64 - 1, (k, n), np.uint64, endpoint=True)
    with native.use_level(level):
        np.testing.assert_array_equal(ring.matmul(a, b), reference.matmul(a, b))


@levels
def test_edge_words_multiply_exactly(level):
    with native.use_level(level):
        # As Python integers: independent of NumPy.
        assert ring.matmul(EDGES[:, None], EDGES[None, :]).tolist() == [
            [int(x) * int(y) % 2**64 for y in EDGES] for x in EDGES
        ]
        # The largest words over more than one block: every accumulator as full as it gets.
        a, b = np.full((7, 1030), 2**64 - 1, np.uint64), np.full((1030, 9), 2**64 - 1, np.uint64)
        np.testing.assert_array_equal(ring.matmul(a, b), np.full((7, 9), 1030, np.uint64))
        a, b = np.full((7, 1030), 2**52 - 1, np.uint64), np.full((1030, 9), 2**52 - 1, np.uint64)
        expected = (2**52 - 1) ** 2 * 1030 % 2**64
        np.testing.assert_array_equal(ring.matmul(a, b), np.full((7, 9), expected, np.uint64))


@given(data=st.data(), level=st.sampled_from(LEVELS))
def test_random_shapes_of_edge_words(data, level):
    m, k, n = (data.draw(st.integers(1, 20)) for _ in range(3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    a, b = rng.choice(EDGES, (m, k)), rng.choice(EDGES, (k, n))
    with native.use_level(level):
        np.testing.assert_array_equal(ring.matmul(a, b), reference.matmul(a, b))


@levels
@pytest.mark.parametrize(
    ("a_batch", "b_batch"),
    [
        ((), ()),
        ((3,), (3,)),
        ((3,), ()),
        ((), (3,)),
        ((2, 3), (2, 3)),
        ((2, 1), (3,)),
        ((2, 3), (1, 1)),
        ((0,), (0,)),
        ((1,), (0,)),
    ],
)
def test_batches_broadcast_as_in_numpy(level, a_batch, b_batch):
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2**64 - 1, (*a_batch, 4, 5), np.uint64)
    b = rng.integers(0, 2**64 - 1, (*b_batch, 5, 6), np.uint64)
    with native.use_level(level):
        product = ring.matmul(a, b)
    np.testing.assert_array_equal(product, reference.matmul(a, b))
    assert product.shape == (a @ b).shape


@levels
def test_views_are_multiplied_by_their_values(level):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2**64 - 1, (12, 10), np.uint64), rng.integers(0, 2**64 - 1, (9, 5), np.uint64)
    with native.use_level(level):
        np.testing.assert_array_equal(ring.matmul(a[::2, ::2], b.T[:, ::-1]), a[::2, ::2] @ b.T[:, ::-1])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((2, 3), np.int64), np.zeros((3, 2), np.uint64)),
        (np.zeros((2, 3), np.uint64), np.zeros((3, 2))),
        (np.zeros((2, 3), np.uint64), np.zeros((2, 3), np.uint64)),
        (np.zeros(3, np.uint64), np.zeros((3, 2), np.uint64)),
        (np.zeros((2, 4, 3), np.uint64), np.zeros((3, 3, 4), np.uint64)),
    ],
)
def test_bad_arguments_are_refused(a, b):
    with pytest.raises(ValueError):
        ring.matmul(a, b)
