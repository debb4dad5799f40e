"""The inner loops of oblivious transfer: equal to their definitions at every level."""

import numpy as np
import pytest

from aero.kernels import native, ot
from aero.kernels.reference import ot as reference

levels = pytest.mark.parametrize("level", native.available_levels())
SESSION = bytes(range(16))


def blocks(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 16), np.uint8)


def odd(delta: np.ndarray) -> np.ndarray:
    delta[0] |= 1
    return delta


@levels
@pytest.mark.parametrize("k, row_bytes", [(1, 16), (4, 16), (4, 1024), (4, 1040), (8, 2064), (2, 0)])
def test_leaf_sums(level, k, row_bytes):
    leaves = blocks(k, 3, 1 << k)
    with native.use_level(level):
        found = ot.leaf_sums(leaves, 7, row_bytes)
    for result, expected in zip(found, reference.leaf_sums(leaves, 7, row_bytes), strict=True):
        np.testing.assert_array_equal(result, expected)


@levels
@pytest.mark.parametrize(
    "first, n", [(0, 0), (0, 1), (255, 2), (100, 600), (512, 48), (240, 32), (256, 256), (2**40 - 3, 300)]
)
def test_pads(level, first, n):
    k, delta = blocks(n, n), odd(blocks(1))
    with native.use_level(level):
        both = ot.sender_pads(SESSION, 3, first, delta, k)
        bits, one = ot.receiver_pads(SESSION, 3, first, k)
    np.testing.assert_array_equal(both[:, 0], reference.pads(SESSION, 3, first, k))
    np.testing.assert_array_equal(both[:, 1], reference.pads(SESSION, 3, first, k ^ delta))
    np.testing.assert_array_equal(one, both[:, 0])
    np.testing.assert_array_equal(bits, k[:, 0] & 1)


def test_pads_of_other_domains_sessions_and_numbers_differ():
    x = np.zeros((1, 16), np.uint8)
    pads = [
        ot.receiver_pads(session, domain, first, x)[1].tobytes()
        for session in (SESSION, bytes(16))
        for domain in range(4)
        for first in (0, 1, 255, 256, 512)
    ]
    assert len(set(pads)) == len(pads)


@levels
@pytest.mark.parametrize("depth", [2, 3, 5, 11])
def test_trees(level, depth):
    delta, roots, first = odd(blocks(2)), blocks(3, 3), 5
    trees = [reference.tree(SESSION, 2, first + i, depth, delta, root) for i, root in enumerate(roots)]
    with native.use_level(level):
        sums = ot.tree_sums(SESSION, 2, first, depth, delta, roots)
        leaves = ot.tree_leaves(SESSION, 2, first, depth, delta, roots)
    for i, tree in enumerate(trees):
        for depth_, nodes in enumerate(tree):
            np.testing.assert_array_equal(sums[i, depth_], np.bitwise_xor.reduce(nodes[::2]))
            np.testing.assert_array_equal(np.bitwise_xor.reduce(nodes), delta)
        expected = tree[-1].copy()
        expected[:, 0] &= 0xFE
        np.testing.assert_array_equal(leaves[i], expected)


@levels
@pytest.mark.parametrize("depth", [2, 3, 5, 11])
def test_punctured_trees_lack_one_leaf(level, depth):
    delta, roots = odd(blocks(2)), blocks(3, 4)
    bits = np.random.default_rng(depth).integers(0, 2, (4, depth)).astype(np.uint8)
    with native.use_level(level):
        leaves = ot.tree_leaves(SESSION, 2, 9, depth, delta, roots)
        sums = ot.tree_sums(SESSION, 2, 9, depth, delta, roots) ^ delta * bits[:, :, None]
        found = ot.punctured_leaves(SESSION, 2, 9, bits, sums)
    unknown = (1 - bits.astype(int)) @ (1 << np.arange(depth)[::-1])
    expected = leaves.copy()
    expected[np.arange(4), unknown] ^= delta
    np.testing.assert_array_equal(found, expected)


@levels
@pytest.mark.parametrize("depth, first_tree, trees", [(2, 0, 1), (2, 7, 3), (9, 3, 2), (11, 2**40, 1)])
def test_the_code(level, depth, first_tree, trees):
    code = ot.LocalCode(bytes(range(16, 32)), blocks(4, 1 << 7))
    delta, roots = odd(blocks(2)), blocks(5, trees)
    bits = np.random.default_rng(depth).integers(0, 2, (trees, depth)).astype(np.uint8)
    with native.use_level(level):
        leaves = ot.tree_leaves(SESSION, 2, first_tree, depth, delta, roots)
        coded = ot.tree_leaves(SESSION, 2, first_tree, depth, delta, roots, code)
        punctured = ot.punctured_leaves(SESSION, 2, first_tree, bits, roots[:, None].repeat(depth, 1))
        out = np.zeros((trees + 1 << depth, 16), np.uint8)
        ot.punctured_leaves(SESSION, 2, first_tree, bits, roots[:, None].repeat(depth, 1), code, out[: trees << depth])
    first = first_tree << depth
    for found, plain in ((coded, leaves), (out[: trees << depth], punctured)):
        expected = reference.add_code(code.key, first, code.table, plain.reshape(-1, 16))
        np.testing.assert_array_equal(found.reshape(-1, 16), expected)
    assert not out[trees << depth :].any()


def test_derived_keys():
    assert ot.derived_key(SESSION, 5, 12) == reference.derived_key(SESSION, 5, 12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: ot.leaf_sums(blocks(0, 2, 3), 0, 16),
        lambda: ot.leaf_sums(blocks(0, 2, 4), 0, 15),
        lambda: ot.sender_pads(SESSION, 256, 0, blocks(0), blocks(0, 2)),
        lambda: ot.sender_pads(SESSION, 0, 2**56 - 2, blocks(0), blocks(0, 2)),
        lambda: ot.sender_pads(SESSION[:15], 0, 0, blocks(0), blocks(0, 2)),
        lambda: ot.receiver_pads(SESSION, 0, 0, np.zeros((2, 15), np.uint8)),
        lambda: ot.tree_sums(SESSION, 0, 0, 17, blocks(0), blocks(0, 1)),
        lambda: ot.punctured_leaves(SESSION, 0, 0, np.full((1, 3), 2, np.uint8), blocks(0, 1, 3)),
        lambda: ot.punctured_leaves(SESSION, 0, 0, np.zeros((1, 3), np.uint8), blocks(0, 1, 2)),
        lambda: ot.punctured_leaves(SESSION, 0, 0, np.zeros((1, 1), np.uint8), blocks(0, 1, 1)),
        lambda: ot.tree_leaves(SESSION, 0, 0, 3, blocks(0), blocks(0, 1), ot.LocalCode(SESSION, blocks(0, 100))),
        lambda: ot.tree_leaves(SESSION, 0, 0, 3, blocks(0), blocks(0, 1), ot.LocalCode(SESSION, blocks(0, 1 << 22))),
        lambda: ot.tree_leaves(SESSION, 0, 2**53, 3, blocks(0), blocks(0, 1), ot.LocalCode(SESSION, blocks(0, 128))),
        lambda: ot.tree_leaves(SESSION, 0, 0, 3, blocks(0), blocks(0, 1), out=blocks(0, 9)),
        lambda: ot.tree_leaves(SESSION, 0, 0, 3, blocks(0), blocks(0, 1), out=blocks(0, 16)[::2]),
    ],
)
def test_wrong_arguments_are_refused(call):
    with pytest.raises(ValueError):
        call()
