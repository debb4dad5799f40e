"""GF(2^128): equal to the definition at every level, and to the GHASH of another library's AES-GCM."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aero.kernels import gf128, native
from aero.kernels.reference import gf128 as reference

levels = pytest.mark.parametrize("level", native.available_levels())


@levels
@pytest.mark.parametrize("rows, n", [(0, 3), (2, 0), (1, 1), (3, 2), (2, 3), (5, 4), (2, 67), (40, 5)])
def test_equals_its_definition(level, rows, n):
    rng = np.random.default_rng(n)
    x, y = (rng.integers(0, 256, shape, np.uint8) for shape in ((n, 16), (rows, n, 16)))
    x[: n // 3], y[:, -n // 3 :] = 255, 255
    with native.use_level(level), native.use_threads(2):
        found = gf128.dot(x, y)
    for result, expected in zip(found, reference.dot(x, y), strict=True):
        np.testing.assert_array_equal(result, expected)


@levels
def test_every_power_of_x_times_every_other(level):
    """All columns of a product, each with one term, and the reduction of each."""
    with native.use_level(level):
        for i, power in enumerate(gf128.POWERS):
            found = gf128.dot(gf128.POWERS[i : i + 1], gf128.POWERS[:, None])[0]
            numbers = [int.from_bytes(block.tobytes(), "little") for block in found]
            assert numbers == [reference.multiply(1 << i, 1 << j) for j in range(128)]
            assert int.from_bytes(power.tobytes(), "little") == 1 << i


@levels
def test_is_the_field_of_aes_gcm(level):
    """The tag of one block A of associated data is E(J_0) ^ (A H + L) H = E(J_0) ^ A H^2 + L H (NIST SP 800-38D), whose
    field is this one with the bits of each byte in the other order."""
    key, nonce, text = bytes(range(16)), bytes(range(12)), bytes(range(100, 116))
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    mask, h = (cipher.update(block) for block in (nonce + bytes([0, 0, 0, 1]), bytes(16)))
    lengths = (128).to_bytes(8, "big") + bytes(8)
    mask, h, text, lengths = (reflected(block) for block in (mask, h, text, lengths))
    with native.use_level(level):
        square = gf128.dot(h[None], h[None, None])[0][0]
        tag = gf128.dot(np.stack([text, lengths]), np.stack([square, h])[None])[0][0] ^ mask
    expected = AESGCM(key).encrypt(nonce, b"", bytes(range(100, 116)))
    np.testing.assert_array_equal(tag, reflected(expected))


def reflected(block: bytes) -> np.ndarray:
    return np.packbits(np.unpackbits(np.frombuffer(block, np.uint8)), bitorder="little")


def test_other_shapes_and_types_are_refused():
    blocks = np.zeros((3, 16), np.uint8)
    for x, y in ((blocks, blocks), (blocks, blocks[None, :2]), (blocks[:, :8], blocks[None, :, :8])):
        with pytest.raises(ValueError, match="rows, n, 16"):
            gf128.dot(x, y)
    with pytest.raises(ValueError, match="uint8"):
        gf128.dot(blocks.astype(np.int8), blocks[None])
