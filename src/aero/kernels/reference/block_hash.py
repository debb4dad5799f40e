"""The tweaked hash and the bit transposition, by definition (see `aero.kernels.block_hash`)."""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def encrypt(key: bytes, x: np.ndarray) -> np.ndarray:
    """AES-128 of blocks uint8 [n, 16]: ECB is the bare permutation on every block."""
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return np.frombuffer(cipher.update(x.tobytes()), np.uint8).reshape(-1, 16)


def hash_blocks(key: bytes, blocks: np.ndarray, tweaks: np.ndarray) -> np.ndarray:
    """pi(pi(x) ^ t) ^ pi(x), pi = AES-128 under `key`: uint8 [n, 16] and uint64 [n] -> uint8 [n, 16]."""
    tweak_blocks = np.zeros((len(blocks), 2), "<u8")
    tweak_blocks[:, 0] = tweaks
    first = encrypt(key, blocks)
    return encrypt(key, first ^ tweak_blocks.view(np.uint8)) ^ first


def transpose_128(rows: np.ndarray) -> np.ndarray:
    """uint8 [128, n / 8], packed lowest bit first -> uint8 [n, 16]: bit r of block c is bit c of row r."""
    bits = np.unpackbits(rows, axis=1, bitorder="little")
    return np.packbits(bits.T, axis=1, bitorder="little")
