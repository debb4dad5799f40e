"""The inner loops of oblivious transfer, by definition (see `aero.kernels.ot`)."""

import numpy as np

from aero.kernels.reference.block_hash import encrypt, hash_blocks
from aero.kernels.reference.prg import stream

BLOCK_BYTES = 16


def derived_key(session: bytes, domain: int, index: int) -> bytes:
    return stream(session, (domain << 56) + index, BLOCK_BYTES).tobytes()


def leaf_sums(leaves: np.ndarray, first_block: int, row_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    groups, count = leaves.shape[:2]
    streams = np.array([[stream(leaf.tobytes(), first_block, row_bytes) for leaf in group] for group in leaves])
    rows = [
        np.bitwise_xor.reduce(streams[g][[x for x in range(count) if x >> b & 1]])
        for g in range(groups)
        for b in range(count.bit_length() - 1)
    ]
    return np.bitwise_xor.reduce(streams, axis=1), np.array(rows)


def pads(session: bytes, domain: int, first: int, blocks: np.ndarray) -> np.ndarray:
    """H(block) of OT first, first + 1, ...: [n, 16] -> [n, 16]."""
    out = np.empty_like(blocks)
    for i, block in enumerate(blocks):
        key = derived_key(session, domain, (first + i) // 256)
        out[i] = hash_blocks(key, block[None], np.array([(domain << 56) + first + i], np.uint64))[0]
    return out


def tree(session: bytes, domain: int, number: int, depth: int, delta: np.ndarray, root: np.ndarray) -> list[np.ndarray]:
    """All levels of one tree, from the first: [2, 16], [4, 16], ..."""
    key = derived_key(session, domain, number)
    levels = [np.stack([root, root ^ delta])]
    for _ in range(depth - 1):
        low, high = levels[-1][:, :8], levels[-1][:, 8:]
        mixed = np.concatenate([high, low ^ high], axis=1)
        hashed = encrypt(key, mixed) ^ mixed
        levels.append(np.stack([hashed, hashed ^ levels[-1]], axis=1).reshape(-1, BLOCK_BYTES))
    return levels


def add_code(key: bytes, first: int, table: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """The new outputs."""
    words = stream(key, 2 * first, 32 * len(outputs)).view("<u8").reshape(-1, 4)
    places = np.stack([words[:, i // 3] >> np.uint64(21 * (i % 3)) for i in range(10)], axis=1) % np.uint64(len(table))
    return outputs ^ np.bitwise_xor.reduce(table[places], axis=1)
