"""What errors tell, by the attacks themselves: each works where its counter-measure is left out, and fails with it.

The attackers are semi-honest: they keep their own noise, their own randomness and what was opened, and compute
correlations. Products are opened here by the test; the engine opens the output alone, and refuses graphs that would
open a product of shares. docs/security/errors.md says what each term is.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import pytest

from aero.kernels.lattice_matmul import MatmulPlan
from aero.kernels.prg import Prg
from aero.kernels.rlwe import DEVIATION, SecretKey
from aero.mpc import hints
from aero.mpc.protocols import linear, pair

SEED = bytes(16)


class Tap(Prg):
    """A private stream that keeps the noise it gave: what its owner knows."""

    noise: np.ndarray

    def gaussian(self, shape, deviation):
        self.noise = super().gaussian(shape, deviation)
        return self.noise


def negacyclic(values: np.ndarray) -> np.ndarray:
    n = values.shape[-1]
    return np.fft.fft(values * np.exp(1j * np.pi * np.arange(n) / n))


def coefficients(transforms: np.ndarray) -> np.ndarray:
    n = transforms.shape[-1]
    return (np.fft.ifft(transforms) * np.exp(-1j * np.pi * np.arange(n) / n)).real


def signed(values: np.ndarray, bits: int) -> np.ndarray:
    up = np.uint64(64 - bits)
    return ((values << up).view(np.int64) >> np.int64(64 - bits)).astype(float)


def correlation(guess: np.ndarray, truth: np.ndarray) -> float:
    return float(np.corrcoef(guess.reshape(-1), truth.reshape(-1))[0, 1])


@functools.lru_cache
def keys_of(params, number: int = 0):
    """A secret key, its coefficients, and what is published of it."""
    label = f"secret {number}"
    secret = SecretKey.generate(params, Prg(bytes(32), label))
    drawn = Prg(bytes(32), label).gaussian(params.n, DEVIATION)
    return secret, secret.public_keys(SEED, Prg(bytes(32), "key errors")), drawn


# The server's weights, from an opened product with them


def weights_from_outputs(plan: linear.LinearPlan, w: np.ndarray, outputs: int, noise: float) -> float:
    """How well a client that asks for one input again and again knows W: it correlates what it gets with the noise of
    its own uploads. noise: what the server adds to its share."""
    product, n = plan.product, plan.product.params.n
    secret, public, _ = keys_of(product.params)
    encoded = product.encode_weights(w)
    weights = product.prepare_weights(encoded)
    draws, tap = np.random.default_rng(1), Tap(bytes(32), "client's errors")
    errors, masks, own = (Prg(bytes(32), f"server's {name}") for name in ("errors", "masks", "share noise"))
    x = draws.integers(0, 2**product.ring_bits, (product.rows, product.inner), dtype=np.uint64)
    found, first, mean = np.zeros((product.inner_tiles, n), complex), None, 0.0
    for run in range(outputs):
        part = draws.integers(0, 2**product.ring_bits, x.shape, dtype=np.uint64)
        upload = product.encrypt(secret, part, run.to_bytes(16, "little"), tap)
        packed = product.evaluate(public, product.load(upload, x - part), weights)
        response, fine = product.respond(public, packed, errors, masks)
        shares = product.rounded(product.decrypt(secret, response)), product.rounded(fine, own, noise)
        opened = signed(shares[0] + shares[1], product.output_bits).reshape(-1)
        first = opened if first is None else first
        mean = mean + (opened - first - mean) / (run + 1)
        numbers = np.zeros((product.column_tiles * product.d2,))
        numbers[: product.columns] = opened - first - mean
        # Where a column's number stands in the product with its tile, before packing.
        standing = np.zeros((product.column_tiles, n))
        standing[:, np.arange(product.d2) * product.d1] = numbers.reshape(product.column_tiles, product.d2)
        found += negacyclic(standing[:1]) * np.conj(negacyclic(tap.noise.astype(float)))
    return correlation(coefficients(found)[:, : product.front], encoded[0, 0])


def tile(inner: int, columns: int, deviation: float, *, opened: bool) -> tuple[linear.LinearPlan, np.ndarray]:
    w = np.rint(np.random.default_rng(2).normal(0, deviation * 2**16, (inner, columns))).astype(np.int64)
    return linear.plan_linear(1, inner, columns, 41, 25, opened=opened), w


def test_opened_products_tell_the_weights_unless_their_modulus_is_large():
    plan, w = tile(64, 64, 1.0, opened=True)
    assert linear.load_weights(plan, w).noise.known < linear.OPENED_KNOWN
    assert abs(weights_from_outputs(plan, w, 150, hints.SERVER_NOISE)) < 4 / math.sqrt(w.size)
    plan, w = tile(64, 64, 1.0, opened=False)
    assert weights_from_outputs(plan, w, 150, 0.0) > 0.3


def test_the_servers_noise_hides_weights_by_itself_where_the_modulus_does_not():
    """In inner layers, which are not opened: were they, the noise takes most of the correlation away, and not all."""
    plan, w = tile(64, 64, 1.0, opened=False)
    bare, hidden = (weights_from_outputs(plan, w, 100, noise) for noise in (0.0, hints.SERVER_NOISE))
    bare, hidden = (r**2 / (1 - r**2) for r in (bare, hidden))  # signal to noise
    # Without it the error has a variance of 0.3, with it of 4 more: 14 times as much.
    assert 0.03 * bare < hidden < 0.15 * bare


@pytest.mark.slow
def test_1500_outputs_of_the_vocabulary_projection():
    """The tile that a projection to a vocabulary takes: 768 inner, 128 columns, weights of deviation 0.14."""

    def known(*, opened: bool, noise: float) -> float:
        plan, w = tile(768, 128, 0.14, opened=opened)
        product = MatmulPlan(plan.product.params, 1, 768, 128, 41, 1, 32, 128, 1, 25)
        return weights_from_outputs(dataclasses.replace(plan, product=product), w, 1500, noise)

    assert known(opened=True, noise=hints.SERVER_NOISE) < 0.02
    assert known(opened=False, noise=0.0) > 0.5


# The server's key, from opened products of shares


def key_from_openings(product: MatmulPlan, openings: int, noise: float, number: int = 0) -> np.ndarray:
    """What a client takes the server's key for after so many openings of one product, each time of fresh shares: it
    correlates the results with the roundings of its own responses. One direction alone."""
    n, finer = product.params.n, dataclasses.replace(product, guard_a=product.guard_a + 4)
    rng, errors = np.random.default_rng(number), Prg(bytes(32), "owner's errors")
    owner, keys, _ = keys_of(product.params, number)
    masks, own, bits = Prg(bytes(32), "masks"), Prg(bytes(32), "share noise"), product.ring_bits
    x = rng.integers(0, 2**bits, (product.rows, product.inner), dtype=np.uint64)
    sums, roundings = [], []
    for run in range(openings):
        part = rng.integers(0, 2**bits, x.shape, dtype=np.uint64)
        y = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (product.inner, product.columns))
        upload = product.encrypt(owner, part, run.to_bytes(16, "little"), errors)
        packed = product.evaluate(keys, product.load(upload, x - part), product.encode_weights(y))
        draws = run.to_bytes(32, "little")
        exactly, _ = finer.respond(keys, packed.copy(), Prg(draws, "response"), masks)
        response, fine = product.respond(keys, packed, Prg(draws, "response"), masks)
        total = product.rounded(fine + product.decrypt(owner, response), own, noise)
        exact = x @ y.astype(np.uint64) << np.uint64(64 - bits)
        sums.append(((total << np.uint64(64 - product.output_bits)) - exact).view(np.int64).reshape(-1) * 2.0**-64)
        a_bits = product.response_bits[1]
        apart = (response.a << np.uint64(64 - a_bits)) - (exactly.a << np.uint64(60 - a_bits))
        roundings.append(apart.view(np.int64).reshape(-1) * 2.0**-64)
    opened = np.zeros((openings, n))
    opened[:, product._where().reshape(-1)] = np.array(sums) - np.mean(sums, axis=0)
    found = sum(negacyclic(z) * np.conj(negacyclic(d)) for z, d in zip(opened, roundings, strict=True))
    return coefficients(found)


def key_is_known(product: MatmulPlan, openings: int, noise: float, number: int = 0) -> float:
    return correlation(key_from_openings(product, openings, noise, number), keys_of(product.params, number)[2])


def test_opened_products_of_shares_tell_the_key_without_guard_bits_and_noise():
    [product] = pair.plan_pair(1, 64, 32, 64, 41, 25).products
    assert (product.guard_a, hints.SERVER_NOISE) == (pair.GUARD, 2.0)
    assert key_is_known(dataclasses.replace(product, guard_a=7), 20, 0.0) > 0.6
    assert abs(key_is_known(product, 20, hints.SERVER_NOISE)) < 4 / math.sqrt(product.params.n)


@pytest.mark.slow
def test_60_openings_tell_nothing_of_the_key():
    """Whatever is guessed correlates 1/64 with a key of 4096 coefficients, to either side: what the hints of these
    openings give, 0.0044, is seen over many keys alone, where chance is 1/64 divided by the root of their number."""
    [product] = pair.plan_pair(1, 64, 32, 64, 41, 25).products
    keys, told = 32, math.sqrt(60 * hints.hints(product) * hints.hint_size(product)) * DEVIATION / hints.SERVER_NOISE
    guesses = [key_from_openings(product, 60, hints.SERVER_NOISE, number) for number in range(keys)]
    own, others = (
        np.array([correlation(g, keys_of(product.params, i + apart)[2]) for i, g in enumerate(guesses)])
        for apart in (0, keys)
    )
    chance = 1 / math.sqrt(keys * product.params.n)
    assert told < 0.005 and chance < 0.003
    assert abs(own.mean()) < 0.02
    assert abs(own.mean() - told) < 4 * chance > abs(others.mean())
    # Key by key it scatters as with an unrelated key: a mean of 32 squares is below its double at 4 deviations.
    assert (own**2).mean() < 2 / product.params.n > (others**2).mean()
    assert key_is_known(dataclasses.replace(product, guard_a=7), 60, 0.0) > 0.6
    assert key_is_known(dataclasses.replace(product, guard_a=7), 60, hints.SERVER_NOISE) > 0.6  # noise alone


# The server's share, from one opened product that the client knows


def share_from_known_product(product: MatmulPlan, noise: float) -> float:
    """How well a client knows the server's share of Y after one opening of X Y, both of which it knows: by least
    squares, column tile by column tile, from the noise of its upload."""
    rng, n, bits = np.random.default_rng(3), product.params.n, product.ring_bits
    secret, public, _ = keys_of(product.params)
    tap, errors, masks, own = (
        kind(bytes(32), label)
        for kind, label in ((Tap, "client's errors"), (Prg, "errors"), (Prg, "masks"), (Prg, "share noise"))
    )
    x, part = (rng.integers(0, 2**bits, (product.rows, product.inner), dtype=np.uint64) for _ in range(2))
    y = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (product.inner, product.columns))
    upload = product.encrypt(secret, part, SEED, tap)
    weights = product.encode_weights(y)
    response, fine = product.respond(
        public, product.evaluate(public, product.load(upload, x - part), weights), errors, masks
    )
    total = product.rounded(fine + product.decrypt(secret, response), own, noise)
    exact = x @ y.astype(np.uint64) << np.uint64(64 - bits)
    error = ((total << np.uint64(64 - product.output_bits)) - exact).view(np.int64).reshape(product.rows, -1)
    # The last digit's polynomial counts most; its noise stands in the last upload of a row tile.
    e, back = tap.noise[-1].astype(float), np.arange(product.d1 * product.d2)
    rows, columns = np.arange(product.rows), np.arange(product.d2)
    at = (rows[:, None] * product.d1 * product.d2 + columns * product.d1).reshape(-1, 1) - back
    equations = np.where(at < 0, -1, 1) * e[at % n]
    tiles = error.astype(float).reshape(product.rows, -1, product.d2).transpose(1, 0, 2)
    guesses = [np.linalg.lstsq(equations, numbers.reshape(-1), rcond=None)[0] for numbers in tiles[:4]]
    return correlation(np.array(guesses), weights[0, :4, -1, : product.d1 * product.d2].astype(float))


def test_an_opened_product_that_is_known_tells_the_other_share_without_digits():
    [product] = pair.plan_pair(1, 64, 32, 64, 43, 25).products
    assert product.digits == 2
    assert abs(share_from_known_product(product, hints.SERVER_NOISE)) < 0.25  # 256 numbers: chance is 0.06
    one_digit = MatmulPlan(product.params, 64, 32, 64, 43, 64, 32, 2, 32, 25)
    assert share_from_known_product(one_digit, 0.0) > 0.6


# The server's weights behind an inner layer


def weights_behind_a_layer(outputs: int, noise: float) -> tuple[float, float]:
    """A hidden layer of 64 by 64 and a projection to 64 logits, weights of deviation 0.14, one input again and again.
    The client correlates the opened logits with the noise of its upload to the *hidden* layer. Returned is how its
    guess correlates with what it estimates, the hidden weights through the projection, and with the hidden weights.
    """
    bits, out = 41, 25
    hidden, w1 = tile(64, 64, 0.14, opened=False)
    shown, w2 = tile(64, 64, 0.14, opened=True)
    w2 = w2[::-1].copy()
    draws, own = np.random.default_rng(1), Prg(bytes(32), "share noise")
    errors, masks = Prg(bytes(32), "server's errors"), Prg(bytes(32), "masks")
    taps = [Tap(bytes(32), f"client's errors {layer}") for layer in range(2)]
    prepared = [p.product.prepare_weights(p.product.encode_weights(w)) for p, w in ((hidden, w1), (shown, w2))]

    def layer(index: int, plan: linear.LinearPlan, x: np.ndarray, run: int) -> np.ndarray:
        """The result, signed, of x under both parties' randomness."""
        product, (secret, public, _) = plan.product, keys_of(plan.product.params)
        part = draws.integers(0, 2**bits, x.shape, dtype=np.uint64)
        upload = product.encrypt(secret, part, run.to_bytes(16, "little"), taps[index])
        packed = product.evaluate(public, product.load(upload, x - part), prepared[index])
        response, fine = product.respond(public, packed, errors, masks)
        total = product.rounded(product.decrypt(secret, response)) + product.rounded(fine, own, noise)
        return signed(total, out)

    x, n, logits, noises = draws.integers(-(2**16), 2**16, (1, 64)).view(np.uint64), hidden.product.params.n, [], []
    for run in range(outputs):
        y = layer(0, hidden, x, run).reshape(1, -1).astype(np.int64).view(np.uint64)
        logits.append(layer(1, shown, y, run).reshape(-1))
        noises.append(taps[0].noise[0].astype(float))
    seen = np.array(logits) - np.mean(logits, axis=0)
    guess = np.array(noises).T @ seen  # [n, 64]
    # How much each coefficient of the upload's noise counts in each hidden number.
    polynomial = hidden.product.encode_weights(w1)[0, 0, 0].astype(float)
    at = np.arange(64)[:, None] * hidden.product.d1 - np.arange(n)
    counts = np.where(at < 0, -1, 1) * polynomial[at % n]
    return correlation(guess, counts.T @ w2), correlation(guess[:, :1], counts.T[:, :1])


def test_behind_a_layer_the_servers_noise_hides_most_of_it():
    hidden, alone = weights_behind_a_layer(200, hints.SERVER_NOISE)
    bare, _ = weights_behind_a_layer(200, 0.0)
    # The correlation falls as the error's deviation rises: from 0.5 to 2.
    assert hidden < 0.6 * bare
    assert abs(alone) < 4 / math.sqrt(4096)


@pytest.mark.slow
def test_2000_outputs_behind_a_layer():
    """To a client that knows nothing of the weights, those of the hidden layer are at chance. What is seen of them
    through the projection is not: docs/security/errors.md states it."""
    hidden, alone = weights_behind_a_layer(2000, hints.SERVER_NOISE)
    assert abs(alone) < 4 / math.sqrt(4096)
    assert 0.01 < hidden < 0.05
