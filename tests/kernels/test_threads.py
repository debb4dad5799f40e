"""Kernels that split their work give the same bytes for any number of threads, also after a fork."""

import os
from functools import partial

import numpy as np
import pytest

from aero.kernels import native, ot, ring
from aero.kernels.lattice_matmul import MatmulPlan
from aero.kernels.prg import Prg
from aero.kernels.rlwe import SHARES, WEIGHTS, SecretKey
from aero.kernels.slots import P37, SLOTS, SlotSecret

SEED = bytes(range(16))

# One window of columns and many, results that share a packed ciphertext, prepared weights; fewer runs of results than
# threads, of one row and of several, the last of them not full.
PRODUCTS = {
    "many columns": (MatmulPlan(WEIGHTS, 64, 96, 200, 41, 64, 32, 2, 16, 25), False),
    "prepared": (MatmulPlan(WEIGHTS, 1, 200, 300, 41, 1, 64, 64, 2, 25), True),
    "two primes, a batch": (MatmulPlan(SHARES, 40, 64, 70, 41, 16, 32, 8, 4, 25, batch=3), False),
    "one run": (MatmulPlan(WEIGHTS, 1, 200, 300, 41, 1, 64, 64, 8, 25), True),
    "two runs, transformed on use": (MatmulPlan(WEIGHTS, 1, 600, 830, 41, 1, 64, 64, 8, 25), False),
    "four runs a row": (MatmulPlan(WEIGHTS, 128, 96, 200, 41, 64, 32, 2, 32, 25), False),
    "few columns, a batch": (MatmulPlan(SHARES, 128, 64, 16, 41, 16, 32, 8, 32, 25, batch=6), False),
}


def stream(label: str) -> Prg:
    return Prg(b"test seed of 16.", label)


def product(plan: MatmulPlan, prepared: bool) -> list[bytes]:
    rng = np.random.default_rng(0)
    secret = SecretKey.generate(plan.params, stream("secret"))
    keys = secret.public_keys(SEED, stream("key errors"), max_spacing=64)
    x = rng.integers(0, 2**41, (plan.batch, plan.rows, plan.inner), dtype=np.uint64)
    w = rng.integers(-(2**12), 2**12, (plan.batch, plan.inner, plan.columns))
    upload = plan.encrypt(secret, x, SEED, stream("errors"))
    weights = plan.encode_weights(w)
    packed = plan.evaluate(keys, plan.load(upload, x), plan.prepare_weights(weights) if prepared else weights)
    results = [upload.to_bytes(), packed.tobytes()]
    response, share = plan.respond(keys, packed, stream("response errors"), stream("masks"))
    own = plan.rounded(plan.decrypt(secret, response))
    return [*results, response.to_bytes(plan), plan.rounded(share).tobytes(), own.tobytes()]


def slots() -> list[bytes]:
    secret = SlotSecret.generate(P37, stream("secret"))
    key = secret.public_key(SEED, stream("key errors"))
    u, v = (stream(label).uniform_below((5, SLOTS), P37.p) for label in "uv")
    upload = secret.encrypt(u, SEED, stream("errors"))
    results = [upload.to_bytes()]
    for total in (False, True):
        response, share = key.respond(upload, v, stream("response errors"), total=total)
        results += [response.tobytes(), share.tobytes(), secret.decrypt(response).tobytes()]
    return results


def matmul() -> list[bytes]:
    rng = np.random.default_rng(1)
    pairs = [((3, 50, 300), (3, 300, 140)), ((1, 300), (300, 5000)), ((130, 70), (70, 90))]
    return [
        ring.matmul(*(rng.integers(0, 2**64, shape, dtype=np.uint64) for shape in pair)).tobytes() for pair in pairs
    ]


def transfers() -> list[bytes]:
    def blocks(label: str, *shape: int) -> np.ndarray:
        count = int(np.prod(shape)) * 16
        return np.frombuffer(stream(label).random_bytes(count), np.uint8).reshape(*shape, 16).copy()

    roots, delta = blocks("roots", 50), blocks("delta")
    sums = ot.tree_sums(SEED, 0, 3, 11, delta, roots)
    code = ot.LocalCode(SEED, blocks("table", 1 << 10))
    leaves = ot.tree_leaves(SEED, 0, 3, 11, delta, roots, code).reshape(-1, 16)
    punctured = ot.punctured_leaves(SEED, 0, 3, stream("bits").bits((50, 11)), sums, code)
    received = ot.receiver_pads(SEED, 1, 100, leaves)
    arrays = [sums, punctured, leaves, ot.sender_pads(SEED, 1, 100, delta, leaves), *received]
    return [array.tobytes() for array in arrays]


CASES = {
    **{name: partial(product, *plan) for name, plan in PRODUCTS.items()},
    "slots": slots,
    "matmul": matmul,
    "oblivious transfers": transfers,
}


@pytest.mark.parametrize("name", CASES)
def test_results_are_the_same_for_any_number_of_threads(name: str) -> None:
    with native.use_threads(1):
        expected = CASES[name]()
    for count in (2, 7):
        with native.use_threads(count):
            assert CASES[name]() == expected


def test_threads_work_in_a_forked_child() -> None:
    with native.use_threads(3):
        expected = matmul()
        child = os.fork()
        if child == 0:
            os._exit(0 if matmul() == expected else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
