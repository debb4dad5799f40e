"""[Z] = [X] [Y]: a shared matrix times a shared matrix, for many heads at once: Q K^T and P V.

Both parties have a secret key. X and Y count modulo 2^l, Z modulo 2^m with l - m low bits dropped. As
X Y = X Y_0 + X Y_1, each party answers for its own part of Y, in both directions at the same time (p: this party):

1. Each: c_p = Enc_p(X_p), sent.                                                                     both directions
2. Each: from the other's c: c + X_p, which encrypts X under the other's key; times Y_p, packed.
3. Each: a fresh encryption of zero, the switch of modulus, a uniform R_p on every coefficient that is sent, as in
   linear.py; responds with Enc(X Y_p - R_p).                                                        both directions
4. [Z]: what it decrypts of X Y_(1-p) - R_(1-p), plus R_p; the server adds normal noise of its own; then both round.

2 rounds. Z is off by at most `PairPlan.error` steps of its last place: bounded for whatever shares.

Causal attention: rows are cut into blocks, and columns of scores, or terms of P V, that no row of a block sees are left
out: scores are zero there. Other scores above the diagonal are products that the caller has to drop. The cheapest
number of blocks by `lattice_cost.cost_of` is taken.

Few rows would leave ciphertexts almost empty: then the X of several heads stand side by side, times their Y along the
diagonal of one matrix, which is zero elsewhere.

[Z] must stay shared: its error tells the other party's key and share, to whoever learns Z. The server's noise, and a
modulus and digits that keep the error small, make that slow where Z goes on into what is opened; `aero.mpc.hints`
counts it. docs/security/pair.md has the argument.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aero.kernels.lattice_cost import NoTiling, cost_of, plan_matmul
from aero.kernels.lattice_matmul import MatmulPlan, Response
from aero.kernels.lattice_noise import TAIL, NoRoomError, share_noise
from aero.kernels.rlwe import SHARES, WIDE, Ciphertexts, Params
from aero.mpc.cost import ProtocolCost, message
from aero.mpc.fixed_point import from_ring
from aero.mpc.hints import MAX_KNOWN, MAX_UPLOAD_HINT, SERVER_NOISE, hints, upload_hint, wear
from aero.mpc.party import Party, Role, parse
from aero.mpc.plan import KeyKinds, Plan
from aero.mpc.share import Share, Words
from aero.mpc.work import Work, evaluator_work, owner_work, sum_of

MAX_ERROR = 180.0
"""Steps of the result's last place that noise may cost, both directions together, unless a caller asks for less; the
server's own takes 19."""
GUARD = 16
"""Bits below the last place that responses keep: their rounding, times the key, is what hints are about."""
MIN_GUARD = 15
"""Fewer would make hints so large that a key is worn before they average out: `hints.KEY_ROOM` allows for 5 %."""
MAX_DIGITS = 3
NETWORK_RATE = 6.25e6
"""Bytes per second that plans are made for: bytes weigh more than in linear.py, as both parties compute at once."""


@dataclass(frozen=True)
class Block:
    """Rows start:stop of X, its first `inner` columns, and the first `columns` columns of Y."""

    start: int
    stop: int
    inner: int
    columns: int


@dataclass(frozen=True)
class PairPlan(Plan[[Share, Share], Share]):
    """What both parties must agree on, from shapes and rings alone. `plan_pair` makes it.

    heads, rows, inner, columns: X is [heads, rows, inner], Y [heads, inner, columns]. joined: heads to a product.
    """

    heads: int
    rows: int
    inner: int
    columns: int
    joined: int
    blocks: tuple[Block, ...]
    products: tuple[MatmulPlan, ...]

    @property
    def params(self) -> Params:
        return self.products[0].params

    @property
    def ring_bits(self) -> int:
        return self.products[0].ring_bits

    @property
    def output_bits(self) -> int:
        return self.products[0].output_bits

    @property
    def error(self) -> float:
        """No element is off by more steps of its last place, except with probability 2^-59."""
        return max(_error(product, self.joined) for product in self.products)

    @property
    def hints(self) -> int:
        """On the secrets of either party, from all numbers of the result."""
        return sum(map(hints, self.products))

    @property
    def wear(self) -> float:
        """The part of a key that these hints take."""
        return sum(map(wear, self.products))

    @property
    def client_keys(self) -> KeyKinds:
        return (self.params,)

    @property
    def server_keys(self) -> KeyKinds:
        return (self.params,)

    def cost(self) -> ProtocolCost:
        return pairs_cost([self])

    def check(self, x: Share, y: Share) -> None:
        """x [heads, rows, inner], y [heads, inner, columns], in rings of at least `ring_bits`."""
        if x.shape != (self.heads, self.rows, self.inner) or y.shape != (self.heads, self.inner, self.columns):
            raise ValueError(f"shares of {x.shape} and {y.shape} are not those of the plan")

    def _run(self, party: Party, x: Share, y: Share) -> Share:
        [product] = multiply_pairs(party, [(self, x, y)])
        return product


def plan_scores(
    heads: int,
    queries: int,
    keys: int,
    width: int,
    ring_bits: int,
    output_bits: int,
    *,
    group: int = 1,
    max_error: float = MAX_ERROR,
) -> PairPlan:
    """Q K^T of causal attention: Q [heads, queries group, width], K^T [heads, width, keys], keys >= queries. group: so
    many rows of Q, one after the other, have the same position, as heads of queries do that share keys. `plan_pair` is
    for attention without a mask, here and in P V."""
    rings, past = (ring_bits, output_bits), keys - queries
    return _cheapest(heads, queries * group, width, keys, *rings, "columns", past, max_error, group)


def plan_attend(
    heads: int,
    queries: int,
    keys: int,
    width: int,
    ring_bits: int,
    output_bits: int,
    *,
    group: int = 1,
    max_error: float = MAX_ERROR,
) -> PairPlan:
    """P V of causal attention: P [heads, queries group, keys], zero above the diagonal, V [heads, keys, width]."""
    rings, past = (ring_bits, output_bits), keys - queries
    return _cheapest(heads, queries * group, keys, width, *rings, "inner", past, max_error, group)


def plan_pair(
    heads: int, rows: int, inner: int, columns: int, ring_bits: int, output_bits: int, *, max_error: float = MAX_ERROR
) -> PairPlan:
    """All of X Y: X [heads, rows, inner], Y [heads, inner, columns]."""
    return _cheapest(heads, rows, inner, columns, ring_bits, output_bits, None, 0, max_error)


def pair_params(ring_bits: int) -> tuple[Params, ...]:
    """The parameters that products from this ring may take; which, the plan says."""
    return (SHARES, WIDE) if ring_bits <= 45 else (WIDE,)


def pairs_cost(plans: Sequence[PairPlan]) -> ProtocolCost:
    """Of products in the same two rounds."""
    products = [product for plan in plans for product in plan.products]
    uploads, responses = ([getattr(p, name) for p in products] for name in ("upload_bytes", "response_bytes"))
    first, second = (message(Role.CLIENT, *sizes) | message(Role.SERVER, *sizes) for sizes in (uploads, responses))
    work: Work = {}
    for product in products:
        work = sum_of(work, sum_of(owner_work(product), evaluator_work(product, shared=True)))
    return first + second | ProtocolCost(client_work=work, server_work=work)


def multiply_pairs(party: Party, jobs: Sequence[tuple[PairPlan, Share, Share]]) -> list[Share]:
    """[X Y] of several plans, all in the same two rounds. ValueError unless each x and y are as its plan wants them."""
    for plan, x, y in jobs:
        plan.check(x, y)
    products = [_Multiplication(party, *job) for job in jobs]
    plans = [product.plan for product in products]
    arrived = _exchange(party, [product.uploads() for product in products], plans, "upload_bytes")
    responses = [product.responses(uploads) for product, uploads in zip(products, arrived, strict=True)]
    arrived = _exchange(party, responses, plans, "response_bytes")
    return [product.finish(parts) for product, parts in zip(products, arrived, strict=True)]


def _exchange(
    party: Party, outgoing: Sequence[list[bytes]], plans: Sequence[PairPlan], size: str
) -> list[list[NDArray[np.uint8]]]:
    """One message from each party: what goes out, by plan, and what arrives."""
    party.channel.send(*(part for parts in outgoing for part in parts))
    sizes = [getattr(product, size) for plan in plans for product in plan.products]
    arrived = iter(party.channel.recv_many(*((count, np.uint8) for count in sizes)))
    return [[next(arrived) for _ in plan.products] for plan in plans]


class _Multiplication:
    """This party's side of one [X Y], between the messages."""

    def __init__(self, party: Party, plan: PairPlan, x: Share, y: Share) -> None:
        self.party, self.plan, bits = party, plan, plan.ring_bits
        self.fraction_bits = x.fraction_bits + y.fraction_bits - (bits - plan.output_bits)
        self.secret, self.keys = party.secret_key(plan.params), party.keys_of_peer(plan.params)
        x_values, self.y_values = x.reduced(bits).values, from_ring(y.reduced(bits).values, bits)
        self.own = [_side_by_side(x_values[:, b.start : b.stop, : b.inner], plan.joined) for b in plan.blocks]
        self.masks: list[Words] = []

    def uploads(self) -> list[bytes]:
        errors, parts = self.party.stream("errors"), zip(self.own, self.plan.products, strict=True)
        return [p.encrypt(self.secret, part, self.party.fresh_seed(), errors).to_bytes() for part, p in parts]

    def responses(self, uploads: list[NDArray[np.uint8]]) -> list[bytes]:
        plan, keys, out = self.plan, self.keys, []
        errors, masks = self.party.stream("errors"), self.party.stream("masks")
        for block, product, part, data in zip(plan.blocks, plan.products, self.own, uploads, strict=True):
            upload = parse(Ciphertexts.from_bytes, plan.params, data.data, product.uploads)
            y_values = self.y_values[:, : block.inner, : block.columns]
            weights = product.encode_weights(y_values, joined=plan.joined)
            packed = product.evaluate(keys, product.load(upload, part), weights)
            response, fine = product.respond(keys, packed, errors, masks)
            out.append(response.to_bytes(product))
            self.masks.append(fine)
        return out

    def finish(self, responses: list[NDArray[np.uint8]]) -> Share:
        plan = self.plan
        out = np.zeros((plan.heads, plan.rows, plan.columns), dtype=np.uint64)
        noise, deviation = self.party.stream("share noise"), 0.0 if self.party.is_client else SERVER_NOISE
        for block, product, mask, data in zip(plan.blocks, plan.products, self.masks, responses, strict=True):
            response = parse(Response.from_bytes, product, data.data)
            joined = product.rounded(mask + product.decrypt(self.secret, response), noise, deviation)
            out[:, block.start : block.stop, : block.columns] = _apart(joined, plan.joined)
        return Share(out, plan.output_bits, self.fraction_bits)


def _side_by_side(x: np.ndarray, joined: int) -> np.ndarray:
    """[heads, rows, inner] -> [heads / joined, rows, joined inner]."""
    heads, rows, inner = x.shape
    parted = x.reshape(heads // joined, joined, rows, inner).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(parted.reshape(heads // joined, rows, joined * inner))


def _apart(z: np.ndarray, joined: int) -> np.ndarray:
    """[heads / joined, rows, joined columns] -> [heads, rows, columns]."""
    products, rows, columns = z.shape
    parted = z.reshape(products, rows, joined, columns // joined).transpose(0, 2, 1, 3)
    return parted.reshape(products * joined, rows, columns // joined)


def _cheapest(
    heads: int,
    rows: int,
    inner: int,
    columns: int,
    ring_bits: int,
    output_bits: int,
    cut: str | None,
    past: int,
    max_error: float,
    group: int = 1,
) -> PairPlan:
    """`cut`: which dimension is cut at the position of a block's last row plus `past`. group: rows of each position."""
    best: tuple[float, PairPlan] | None = None
    guard = min(GUARD, 63 - output_bits)
    if guard < MIN_GUARD:
        raise NoRoomError(f"a product of shares of {output_bits} bits: drop more, to {63 - MIN_GUARD} at most")
    for params, (count, joined) in itertools.product(
        pair_params(ring_bits), _cuts(heads, rows, inner, 4 if cut else 1)
    ):
        if best is not None and params is not best[1].params:
            break  # larger parameters only cost more
        blocks = []
        for i in range(count):
            start, stop = rows * i // count, rows * (i + 1) // count
            whole = {"inner": inner, "columns": columns}
            blocks.append(Block(start, stop, **(whole | ({cut: -(-stop // group) + past} if cut else {}))))
        for digits in range(1, min(MAX_DIGITS, ring_bits) + 1):
            try:
                products = tuple(
                    plan_matmul(
                        params,
                        block.stop - block.start,
                        joined * block.inner,
                        joined * block.columns,
                        ring_bits,
                        output_bits=output_bits,
                        batch=heads // joined,
                        digits=digits,
                        guard_a=guard,
                        bytes_per_second=NETWORK_RATE,
                        suits=lambda product, joined=joined: _suits(product, joined, max_error),  # type: ignore[misc]
                    )
                    for block in blocks
                )
            except NoTiling:
                continue
            seconds = sum(cost_of(p, bytes_per_second=NETWORK_RATE).seconds for p in products)
            if best is None or seconds < best[0]:
                best = seconds, PairPlan(heads, rows, inner, columns, joined, tuple(blocks), products)
            break  # more digits only cost more
    if best is None:
        raise NoRoomError(
            f"no parameters multiply shares of {ring_bits} bits to {output_bits} bits within {max_error:g} steps: "
            "use a smaller ring, drop more bits, or allow more"
        )
    return best[1]


def _cuts(heads: int, rows: int, inner: int, most: int) -> Iterator[tuple[int, int]]:
    """(blocks of rows, heads joined) to choose from: rows are cut, or heads joined where they fit one ciphertext."""
    yield from ((count, 1) for count in (1, 2, 4) if count <= min(rows, most))
    yield from ((1, n) for n in range(2, heads + 1) if heads % n == 0 and rows * inner * n <= SHARES.n)


def _error(product: MatmulPlan, joined: int) -> float:
    return 2 * share_noise(product, nonzero=product.inner // joined).total + TAIL * SERVER_NOISE


def _suits(product: MatmulPlan, joined: int, max_error: float) -> bool:
    known = share_noise(product, nonzero=product.inner // joined).known
    is_quiet = known <= MAX_KNOWN and upload_hint(product, known) <= MAX_UPLOAD_HINT
    return is_quiet and _error(product, joined) <= max_error
