"""Published vectors for the primitives that the protocols take from libraries, and for AES of our own at every level.

Only what the code calls: HKDF-SHA-256 and Ed25519 of `cryptography`, SHA-256 and SHA-512 of Python, edwards25519 of
libsodium. TLS chooses its own ciphers. `csrc/tests` has more vectors of AES, with other plaintexts than counters.
"""

import hashlib
import hmac
from itertools import pairwise

import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from nacl import bindings

from aero.kernels import native
from aero.kernels.native import _native
from aero.kernels.prg import derive_key

# The AES Algorithm Validation Suite, appendix E (VarKey): the plaintext is zero, which is the counter's first block.
AES_KEYS = {
    "80000000000000000000000000000000": "0edd33d3c621e546455bd8ba1418bec8",
    "c0000000000000000000000000000000": "4bc3f883450c113c64ca42e1112a9e87",
    "e0000000000000000000000000000000": "72a1da770f5d7ac4c9ef94d822affd97",
}


@pytest.mark.parametrize("level", native.available_levels())
@pytest.mark.parametrize("key", AES_KEYS)
def test_aes(key, level):
    out = np.empty(16, np.uint8)
    with native.use_level(level):
        _native.sample_bytes(bytes.fromhex(key), 0, out)
    assert out.tobytes().hex() == AES_KEYS[key]


def test_sha_2():
    """FIPS 180-4's examples, one block and two."""
    two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
    assert hashlib.sha256(b"abc").hexdigest() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hashlib.sha256(two_blocks).hexdigest() == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    assert hashlib.sha512(b"abc").hexdigest() == (
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
    )


# RFC 5869, appendix A.1 to A.3: key, salt, info, length, result.
HKDF_CASES = [
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        "0b" * 22,
        "",
        "",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


def hkdf(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, section 2, written out."""
    extracted = hmac.digest(salt or bytes(32), key, "sha256")
    out, block = b"", b""
    while len(out) < length:
        block = hmac.digest(extracted, block + info + bytes([len(out) // 32 + 1]), "sha256")
        out += block
    return out[:length]


@pytest.mark.parametrize("case", HKDF_CASES)
def test_hkdf(case):
    key, salt, info, expected = (bytes.fromhex(part) for part in case)
    assert hkdf(key, salt, info, len(expected)) == expected
    assert HKDF(hashes.SHA256(), len(expected), salt or None, info).derive(key) == expected


def test_keys_of_streams_are_hkdf():
    seed = bytes(range(32))
    assert derive_key(seed, "masks") == hkdf(seed, b"", b"aero/prg/v1/masks", 16)


# RFC 8032, section 7.1: secret, public key, message, signature.
ED25519 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
]


def clamped(secret: bytes) -> tuple[bytes, bytes]:
    """Section 5.1.5: the scalar, and the prefix for the nonce."""
    digest = bytearray(hashlib.sha512(secret).digest())
    digest[0] &= 248
    digest[31] = (digest[31] & 127) | 64
    return bytes(digest[:32]), bytes(digest[32:])


@pytest.mark.parametrize("case", ED25519)
def test_ed25519(case):
    """Certificates' keys; and the group of the base OTs, by a signature made of its operations (section 5.1.6)."""
    secret, public, message, signature = (bytes.fromhex(part) for part in case)
    key = Ed25519PrivateKey.from_private_bytes(secret)
    assert key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) == public
    assert key.sign(message) == signature

    scalar, prefix = clamped(secret)
    reduced = bindings.crypto_core_ed25519_scalar_reduce
    assert bindings.crypto_scalarmult_ed25519_base_noclamp(scalar) == public
    nonce = reduced(hashlib.sha512(prefix + message).digest())
    point = bindings.crypto_scalarmult_ed25519_base_noclamp(nonce)
    challenge = reduced(hashlib.sha512(point + public + message).digest())
    product = bindings.crypto_core_ed25519_scalar_mul(challenge, reduced(scalar + bytes(32)))
    assert point + bindings.crypto_core_ed25519_scalar_add(nonce, product) == signature
    # The equation that a verifier checks, through the operations on points: s B - h A = R.
    shadow = bindings.crypto_scalarmult_ed25519_noclamp(challenge, public)
    assert (
        bindings.crypto_core_ed25519_sub(bindings.crypto_scalarmult_ed25519_base_noclamp(signature[32:]), shadow)
        == point
    )


def test_multiples_of_the_base_point_add_up():
    """RFC 8032, section 5.1: B is the point with y = 4/5; n B + B = (n + 1) B."""
    base = bindings.crypto_scalarmult_ed25519_base_noclamp((1).to_bytes(32, "little"))
    assert int.from_bytes(base, "little") == 4 * pow(5, -1, 2**255 - 19) % (2**255 - 19)
    multiples = [bindings.crypto_scalarmult_ed25519_base_noclamp(n.to_bytes(32, "little")) for n in range(1, 9)]
    assert all(bindings.crypto_core_ed25519_add(a, base) == b for a, b in pairwise(multiples))
