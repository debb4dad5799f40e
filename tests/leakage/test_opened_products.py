"""Why a product of shares stays shared: opened again and again, its noise tells the owner's key.

Not a check of the engine, which refuses such graphs, but of what docs/security/index.md says an opening would cost. The
evaluator attacks here with what it knows of its own responses and with the opened sums alone. It need not know the
product: for fresh shares of the same factors that is the same each time, and drops out with the mean. Behind linear
layers, where products do reach an output, the same is slower; tests/engines/test_renewed_keys.py has the answer to it.
"""

import dataclasses

import numpy as np

from aero.kernels.lattice_matmul import MatmulPlan
from aero.kernels.prg import Prg
from aero.kernels.rlwe import SHARES, SecretKey

ROWS, INNER, COLUMNS, BITS, OUT = 64, 32, 64, 41, 25
PLAN = MatmulPlan(SHARES, ROWS, INNER, COLUMNS, BITS, 64, 32, 2, 32, OUT)
FINER = dataclasses.replace(PLAN, output_bits=BITS)
"""The same response, its random part cut to 16 bits more."""
OPENINGS = 60


def negacyclic(values: np.ndarray) -> np.ndarray:
    n = len(values)
    return np.fft.fft(values * np.exp(1j * np.pi * np.arange(n) / n))


def test_a_product_that_is_opened_again_and_again_tells_the_key() -> None:
    n, rng = SHARES.n, np.random.default_rng(0)
    key = rng.integers(-1, 2, n).astype(np.int8)
    owner, errors, masks = SecretKey(SHARES, key), Prg(bytes(32), "errors"), Prg(bytes(32), "masks")
    keys = owner.public_keys(bytes(16), errors)
    x = rng.integers(0, 2**BITS, (ROWS, INNER), dtype=np.uint64)
    sums, roundings = [], []
    for run in range(OPENINGS):
        part = rng.integers(0, 2**BITS, x.shape, dtype=np.uint64)
        y = rng.integers(-(2 ** (BITS - 1)), 2 ** (BITS - 1), (INNER, COLUMNS))
        upload = PLAN.encrypt(owner, part, run.to_bytes(16, "little"), errors)
        packed = PLAN.evaluate(keys, PLAN.load(upload, x - part), PLAN.encode_weights(y))
        draws = run.to_bytes(32, "little")
        finer, _ = FINER.respond(keys, packed.copy(), Prg(draws, "response"), masks)
        response, share = PLAN.respond(keys, packed, Prg(draws, "response"), masks)
        exact = (x @ y.astype(np.uint64)) << np.uint64(64 - BITS)
        total = (PLAN.decrypt(owner, response) + share) << np.uint64(64 - OUT)
        # Opened is X Y plus this error, and plus that of the other direction, which is left out here.
        sums.append((total - exact).view(np.int64).reshape(-1) / 2.0 ** (64 - OUT))
        apart = (response.a << np.uint64(64 - OUT - PLAN.guard_a)) - (finer.a << np.uint64(64 - BITS - PLAN.guard_a))
        roundings.append(apart.view(np.int64).reshape(-1) / 2.0 ** (64 - OUT - PLAN.guard_a))
    opened = np.zeros((OPENINGS, n))
    opened[:, PLAN._where.reshape(-1)] = np.array(sums) - np.mean(sums, axis=0)

    def correlation(known: list[np.ndarray]) -> float:
        pairs = zip(opened, known, strict=True)
        found = sum(negacyclic(z) * np.conj(negacyclic(d)) for z, d in pairs)
        guess = (np.fft.ifft(found) * np.exp(-1j * np.pi * np.arange(n) / n)).real
        return float(np.corrcoef(guess, key)[0, 1])

    assert correlation(roundings) > 0.6
    assert abs(correlation(roundings[1:] + roundings[:1])) < 0.1  # those of another response tell nothing
