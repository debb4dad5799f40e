"""What a client learns of weights by regression, also behind inner layers: the attack itself.

    python benchmarks/regression_attack.py COMPILED [--outputs 2000] [--without] [--smaller BITS] [--engine]

The client asks for one prompt again and again. It knows the noise e of its own uploads, and nothing of the weights. A
product's results then have the error e * W, and the logits move by J times that, J being what comes after: so what the
regression of a logit on e estimates is the polynomial J(X) W(1/X) modulo X^n + 1. The terms of J stand at multiples of
d1 (aero.kernels.lattice_matmul), so that J is one number at the d1 roots at which X^d1 is the same, and the estimates
for all logits are a matrix of rank one there (of as many as the product has column tiles). Its largest singular vector
is W at these roots, up to a factor, and no knowledge of J is needed. Logits are whitened in their principal components
before, as many as the model is wide. (The last product is left out: its results are opened, and its error is in each
logit by itself; tests/leakage/test_attacks.py has that attack.)

Printed is which part of that vector lies in the space of the true W's, on average over roots: 1 is all. Beside it stand
chance, which is the same for the noise of other runs, and four deviations of the difference.

COMPILED: a folder of `aero compile`. --without: no counter-measures, i.e. the usual modulus for opened products and no
noise of the server's. --smaller: e * W as with moduli that are so many bits smaller, which tells as much as 4^BITS
times as many outputs while that is less than other noise. --engine: through the engine, both parties in this process, a
third of a second for an output. Otherwise the errors of products are drawn, as docs/security/errors.md has them: e * W
as it is, the roundings of both shares, and the server's noise; and the logits follow by derivatives. That is less noise
than there is.
"""

from __future__ import annotations

import argparse
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

from aero.compiler.run import CompiledRun
from aero.engines.planning.step_plans import checked_schedule, embedding_plan, has_row_gains, linear_plan
from aero.engines.reveal import LOGITS
from aero.engines.two_party.engine import TwoPartyEngine
from aero.engines.two_party.weight_store import encoded_matrix
from aero.graph import Program
from aero.graph.graph import INPUT
from aero.graph.interpret import apply
from aero.graph.ring_plan import RingPlan
from aero.kernels.lattice_matmul import MatmulPlan
from aero.kernels.prg import Prg
from aero.kernels.rlwe import DEVIATION, Ciphertexts, SecretKey, Words
from aero.mpc.party import Role
from aero.mpc.protocols import linear, pair
from aero.mpc.protocols.embedding import MAX_BLOCKS, side_by_side
from aero.wire.memory import channel_pair

STRETCH = 250  # outputs at a time
Seen = tuple[list[np.ndarray], np.ndarray]
"""Of a stretch: the noise of uploads, int8 [outputs, uploads n] for each product with weights; logits [outputs, V]."""


@dataclass(frozen=True)
class Target:
    """A product with weights. polynomials: W's, [column tiles, inner tiles, n]. numbers: of its results those that
    count, for each node that has some: fraction bits, and their columns in the product, [rows, columns of the node]."""

    label: str
    product: MatmulPlan
    polynomials: np.ndarray
    numbers: dict[str, tuple[int, np.ndarray]]


def targets(program: Program, plan: RingPlan, ids: np.ndarray) -> list[Target]:
    """In the order of their uploads."""
    found = []
    for stage in checked_schedule([program.graph], plan, [{}], LOGITS).stages:
        group = stage.groups[0]
        if stage.op not in ("linear", "gain", "embedding") or has_row_gains(group[0]):
            continue
        matrices = [encoded_matrix(plan, step, program.weights[step.node.weights[0]]) for step in group]
        matrix = np.concatenate(matrices, axis=1)
        numbers, start = {}, 0
        if stage.op == "embedding":
            looked_up = embedding_plan(group[0])
            product, width = looked_up.product.product, matrix.shape[1]
            blocks = side_by_side(looked_up, np.pad(matrix, ((0, MAX_BLOCKS - 1), (0, 0))).T)
            matrix = np.concatenate(blocks.parts).T
            columns = (ids // looked_up.positions * width)[:, None] + np.arange(width)
            numbers[group[0].node.name] = group[0].output.fraction_bits, columns
        else:
            product = linear_plan(group).product
            for step in group:
                rows, width = program.graph.shapes[step.node.name]
                columns = np.broadcast_to(start + np.arange(width), (rows, width))
                numbers[step.node.name] = step.output.fraction_bits, columns
                start += width
        encoded = product.encode_weights(matrix)[0]
        padded = np.zeros((*encoded.shape[:2], product.params.n))
        padded[..., : encoded.shape[-1]] = encoded
        found.append(Target(stage.label, product, padded, numbers))
    return found


def from_engine(program: Program, plan: RingPlan, ids: np.ndarray, outputs: int) -> Iterator[Seen]:
    channels = channel_pair(timeout=600)
    client, server = (TwoPartyEngine(party, c, plan) for party, c in zip(Role, channels, strict=True))

    class Tap(Prg):
        """The client's errors, which it keeps."""

        def gaussian(self, shape: int | tuple[int, ...], deviation: float) -> np.ndarray:
            self.drawn = super().gaussian(shape, deviation)
            return self.drawn

    tap, uploaded, encrypt = Tap.from_os("client/errors"), list[np.ndarray](), MatmulPlan.encrypt
    client._party._streams["errors"] = tap  # there is no other way in: a party draws its own seeds

    def tapped(self: MatmulPlan, secret: SecretKey, x: Words, seed: bytes, errors: Prg) -> Ciphertexts:
        found = encrypt(self, secret, x, seed, errors)
        if errors is tap and self.guard_a < pair.GUARD:  # products of shares have more guard bits
            uploaded.append(tap.drawn.reshape(-1))
        return found

    def serve() -> None:
        for _ in range(outputs):
            server.run(program.graph, weights=program.weights)

    threading.Thread(target=serve, daemon=True).start()
    with mock.patch.object(MatmulPlan, "encrypt", tapped):
        for done in range(0, outputs, STRETCH):
            noises, logits = [], []
            for _ in range(min(STRETCH, outputs - done)):
                output = client.run(program.graph, ids=ids)
                assert output is not None
                logits.append(output[0])
                noises.append(uploaded.copy())
                uploaded.clear()
            yield [np.array(one) for one in zip(*noises, strict=True)], np.array(logits)


def from_errors(
    program: Program, found: list[Target], ids: np.ndarray, outputs: int, own: float, smaller: int
) -> Iterator[Seen]:
    """own: deviation of the server's noise. smaller: bits that moduli lack."""
    draws, errors = Prg.from_os("errors"), np.random.default_rng()
    exact, derivatives = computed(program, ids, {})[0], [derivative(program, ids, one) for one in found]
    for done in range(0, outputs, STRETCH):
        count = min(STRETCH, outputs - done)
        noises, logits = [], np.repeat(exact[None], count, axis=0)
        for one, moves in zip(found, derivatives, strict=True):
            p = one.product
            noises.append(draws.gaussian((count, p.uploads * p.params.n), DEVIATION))
            error = known(one, noises[-1]) * 2.0**smaller
            # The roundings of both shares and of both parts of the response, and the server's own.
            error += errors.normal(0, math.hypot(0.29, 0.29, 0.14, 0.07, own), error.shape)
            logits += error @ moves
        yield noises, logits


def known(one: Target, noise: np.ndarray) -> np.ndarray:
    """unit e * W in each number that counts, in steps: [outputs, numbers]."""
    p, n = one.product, one.product.params.n
    e = negacyclic(noise.reshape(len(noise), p.row_tiles, p.inner_tiles, n))
    tiles = np.unique(np.concatenate([columns // p.d2 for _, columns in one.numbers.values()], axis=None))
    by_tile = np.einsum("orif,tif->ortf", e, negacyclic(one.polynomials[tiles]))
    back = np.exp(-1j * np.pi * np.arange(n) / n) * (2.0**p.output_bits / p.params.modulus)
    products, parts = (np.fft.ifft(by_tile) * back).real, []
    for _, columns in one.numbers.values():
        rows = np.arange(len(columns))[:, None]
        where = rows % p.d0 * p.d1 * p.d2 + columns % p.d2 * p.d1
        found = products[:, rows // p.d0, np.searchsorted(tiles, columns // p.d2), where]
        parts.append(found.reshape(len(noise), -1))
    return np.concatenate(parts, axis=1)


def computed(program: Program, ids: np.ndarray, added: dict[str, np.ndarray]) -> np.ndarray:
    """The output, with something added to the values of these nodes."""
    values = {INPUT: ids}
    for node in program.graph.nodes:
        inputs = [values[name] for name in node.inputs]
        values[node.name] = apply(node, inputs, [program.weights[name] for name in node.weights])
        values[node.name] = values[node.name] + added.get(node.name, 0.0)
    return values[program.graph.output]


def derivative(program: Program, ids: np.ndarray, one: Target) -> np.ndarray:
    """How a step of each number moves the logits: [numbers, V]."""
    rows = []
    for name, (fraction_bits, columns) in one.numbers.items():
        for index in np.ndindex(columns.shape):
            if name == program.graph.output:
                rows.append(np.eye(columns.shape[1])[index[1]] * 2.0**-fraction_bits)
                continue
            change = np.zeros(columns.shape)
            change[index] = 1e-3
            there, back = (computed(program, ids, {name: sign * change})[0] for sign in (1, -1))
            rows.append((there - back) / 2e-3 * 2.0**-fraction_bits)
    return np.array(rows)


def negacyclic(values: np.ndarray) -> np.ndarray:
    n = values.shape[-1]
    return np.fft.fft(values * np.exp(1j * np.pi * np.arange(n) / n))


def part_found(one: Target, estimates: np.ndarray) -> np.ndarray:
    """For each set of roots, which part of the largest singular vector lies where the true weights do. estimates: sums
    of noise times whitened logits, [uploads n, width]."""
    p = one.product
    n, sets = p.params.n, p.params.n // p.d1

    def by_root(values: np.ndarray) -> np.ndarray:
        """[a, inner tiles, n] -> [sets, a, inner tiles d1]; half of the sets, as others are their conjugates."""
        found = negacyclic(values).reshape(len(values), -1, p.d1, sets)[..., : sets // 2]
        return np.moveaxis(found, -1, 0).reshape(sets // 2, len(values), -1)

    ordered = estimates.reshape(p.row_tiles, p.inner_tiles, n, -1).transpose(0, 3, 1, 2)
    guess = by_root(ordered.reshape(-1, p.inner_tiles, n))
    largest = np.linalg.eigh(np.einsum("sva,svb->sab", guess, guess.conj()))[1][..., -1]
    basis = np.linalg.qr(by_root(one.polynomials).conj().transpose(0, 2, 1))[0]
    return (np.abs(np.einsum("sat,sa->st", basis.conj(), largest)) ** 2).sum(-1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("compiled", type=Path)
    parser.add_argument("--outputs", type=int, default=2000)
    parser.add_argument("--length", type=int, default=2, help="tokens of the prompt")
    parser.add_argument("--without", action="store_true")
    parser.add_argument("--engine", action="store_true")
    parser.add_argument("--smaller", type=int, default=0, help="bits that moduli lack, without --engine")
    options = parser.parse_args()
    if options.without:
        for module in (linear, pair):
            mock.patch.object(module, "SERVER_NOISE", 0.0).start()
        mock.patch.object(linear, "OPENED_KNOWN", math.inf).start()
    run = CompiledRun.load(options.compiled)
    if run.plan is None:
        raise SystemExit(f"{options.compiled} has no ring plan: compile it with text to calibrate on")
    program = run.compiled.prefill(options.length)
    vocabulary, width = program.graph.weight_shapes["embedding.table"]
    ids = np.random.default_rng(0).integers(vocabulary, size=options.length)
    found = targets(program, run.plan, ids)
    if options.engine:
        stretches = from_engine(program, run.plan, ids, options.outputs)
    else:
        stretches = from_errors(program, found, ids, options.outputs, linear.SERVER_NOISE, options.smaller)
    basis, mean = None, 0.0
    sums, chance = ([np.zeros(())] * len(found) for _ in range(2))
    for noises, logits in stretches:
        if basis is None:  # of the first stretch, which has more outputs than components
            mean = logits.mean(0)
            _, sizes, right = np.linalg.svd(logits - mean, full_matrices=False)
            basis = (right[:width] / sizes[:width, None]).T * math.sqrt(len(logits))
        seen = ((logits - mean) @ basis).astype(np.float32)
        for i, noise in enumerate(noises):
            e = noise.T.astype(np.float32)
            sums[i] = sums[i] + e @ seen
            chance[i] = chance[i] + e @ np.roll(seen, 1, axis=0)
    for one, own, other in zip(found[:-1], sums, chance, strict=False):
        ours, theirs = part_found(one, own), part_found(one, other)
        spread = 4 * math.sqrt((ours.var() + theirs.var()) / len(ours))
        print(f"{one.label}: {ours.mean():.4f}; chance {theirs.mean():.4f}, {spread:.4f}")


if __name__ == "__main__":
    main()
