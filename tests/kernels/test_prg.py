"""Streams and samplers: equal to their NumPy definitions at every level, and never the same block twice."""

import copy
import os
import pickle
import threading

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from aero.kernels import gaussian, native
from aero.kernels.native import _native
from aero.kernels.prg import MAX_BLOCKS, Prg, derive_key
from aero.kernels.reference import prg as reference

SEED = bytes(range(32))
LEVELS = native.available_levels()
levels = pytest.mark.parametrize("level", LEVELS)

# (sampler, parameters, dtype): every sampler with its edge parameters.
SAMPLERS = [
    ("sample_bytes", (), np.uint8),
    *(("sample_ring", (bits,), np.uint64) for bits in (1, 7, 25, 37, 63, 64)),
    *(("sample_below", (q,), np.uint64) for q in (1, 2, 3, 2**33 + 1, 2**50 - 27, 2**61 + 1, 2**62)),
    ("sample_ternary", (), np.int8),
    *(("sample_binomial", (eta,), np.int8) for eta in (1, 21, 32)),
    *(("sample_table", (gaussian.table(deviation),), np.int8) for deviation in (1.0, 4.0, 12.0)),
    ("sample_bits", (), np.uint8),
]
# Around the kernels' batches (8 and 32 blocks) and stretches (4096 bytes).
COUNTS = [0, 1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 511, 512, 513, 1000, 4095, 4096, 4097, 33000]


@levels
@pytest.mark.parametrize(("name", "parameters", "dtype"), SAMPLERS, ids=str)
def test_samplers_equal_their_definition(level, name, parameters, dtype):
    key = derive_key(SEED, name)
    for count in COUNTS:
        out = np.empty(count, dtype)
        with native.use_level(level):
            following = getattr(_native, name)(key, 5, *parameters, out)
        expected, expected_following = getattr(reference, name)(key, 5, count, *parameters)
        np.testing.assert_array_equal(out, expected)
        assert following == expected_following, count


@levels
def test_the_cipher_gives_the_published_vector(level):
    # The AES Algorithm Validation Suite, appendix E: the key with its first bit set, the plaintext zero.
    key = bytes.fromhex("80000000000000000000000000000000")
    out = np.empty(16, np.uint8)
    with native.use_level(level):
        _native.sample_bytes(key, 0, out)
    assert out.tobytes().hex() == "0edd33d3c621e546455bd8ba1418bec8"


@given(
    key=st.binary(min_size=16, max_size=16),
    block=st.one_of(st.integers(0, 2**60 - 1), st.integers(2**32 - 40, 2**32 + 40)),
    count=st.integers(0, 5000),
    level=st.sampled_from(LEVELS),
)
def test_the_stream_is_aes_ctr(key, block, count, level):
    out = np.empty(count, np.uint8)
    with native.use_level(level):
        _native.sample_bytes(key, block, out)
    cipher = Cipher(algorithms.AES(key), modes.CTR(block.to_bytes(16, "big"))).encryptor()
    assert out.tobytes() == cipher.update(bytes(count))


@levels
@pytest.mark.parametrize(
    "block, blocks",
    [(0, 1024), (255, 1024), (128, 2049), (2**32 - 77, 1500), (2**40 - 1200, 1200), (2**40 - 500, 1500), (300, 40_000)],
)
def test_long_streams_are_aes_ctr(block, blocks, level):
    """Counters that share their first rounds: over carries, from the middle of a batch, and too many for one table."""
    key, out = SEED[:16], np.empty(16 * blocks - 7, np.uint8)
    with native.use_level(level):
        _native.sample_bytes(key, block, out)
    cipher = Cipher(algorithms.AES(key), modes.CTR(block.to_bytes(16, "big"))).encryptor()
    assert out.tobytes() == cipher.update(bytes(len(out)))


def test_calls_continue_one_stream():
    prg = Prg(SEED, "test")
    whole = reference.stream(derive_key(SEED, "test"), 0, 16 * 1000).tobytes()
    assert prg.random_bytes(33) == whole[:33]  # three blocks
    assert prg.uniform((2, 3), 64).tobytes() == whole[48:96]  # three more
    assert prg.bits(1).tolist() == [whole[96] & 1]
    assert prg.random_bytes(16) == whole[112:128]


def test_streams_differ_by_seed_and_label():
    drawn = {
        Prg(SEED, "masks").random_bytes(16),
        Prg(SEED, "errors").random_bytes(16),
        Prg(SEED[:16], "masks").random_bytes(16),
        Prg.from_os("masks").random_bytes(16),
        Prg.from_os("masks").random_bytes(16),
    }
    assert len(drawn) == 5


@levels
def test_the_distributions_are_what_they_say(level):
    # Bounds of six standard deviations: the seed is fixed, so this passes always or never.
    count = 2**16
    with native.use_level(level):
        prg = Prg(SEED, f"distribution {level}")
        ternary, noise, bits = prg.ternary(count), prg.noise(count), prg.bits(count)
        below, ring = prg.uniform_below(count, 3 * 2**40), prg.uniform(count, 25)
    shares = np.bincount(ternary + 1, minlength=3) / count
    assert np.abs(shares - 1 / 3).max() < 6 * np.sqrt(2 / 9 / count)
    assert abs(noise.mean()) < 6 * np.sqrt(10.5 / count)
    assert abs(noise.astype(float).var() - 10.5) < 6 * 10.5 * np.sqrt(2 / count)
    assert np.abs(noise).max() <= 21
    assert abs(bits.mean() - 0.5) < 3 / np.sqrt(count)
    assert below.max() < 3 * 2**40
    assert abs(below.mean() / (3 * 2**40) - 0.5) < 6 / np.sqrt(12 * count)
    assert ring.max() < 2**25
    assert abs(ring.mean() / 2**25 - 0.5) < 6 / np.sqrt(12 * count)


def test_threads_never_share_a_block():
    prg, drawn = Prg(SEED, "threads"), []

    def draw():
        for _ in range(200):
            drawn.append(prg.random_bytes(16))

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(drawn)) == 800


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_is_refused():
    prg = Prg(SEED, "fork")
    child = os.fork()
    if child == 0:
        try:
            prg.random_bytes(1)
        except RuntimeError:
            os._exit(7)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    prg.random_bytes(1)


def test_copies_are_refused_and_the_key_is_not_printed():
    prg = Prg(SEED, "secret")
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="copied"):
            duplicate(prg)
    assert repr(prg) == "Prg(label='secret')"


def test_an_exhausted_stream_is_refused():
    prg = Prg(SEED, "long")
    prg._next_block = MAX_BLOCKS - 1
    with pytest.raises(RuntimeError, match="used up"):
        prg.uniform(3, 64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda prg: Prg(b"short", "x"), "16 or 32 bytes"),
        (lambda prg: Prg(SEED, ""), "label"),
        (lambda prg: prg.uniform(1, 0), "1 to 64"),
        (lambda prg: prg.uniform(1, 65), "1 to 64"),
        (lambda prg: prg.uniform_below(1, 0), "2\\^62"),
        (lambda prg: prg.uniform_below(1, 2**62 + 1), "2\\^62"),
        (lambda prg: prg.noise(1, eta=0), "eta"),
        (lambda prg: prg.noise(1, eta=33), "eta"),
        (lambda prg: prg.bits(-1), "negative"),
        (lambda prg: prg.ternary((2, -3)), "negative"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(Prg(SEED, "x"))
