"""[Y] = [X] W: the server's weights times shared activations.

The client has X_0 and a secret key, the server X_1 and W. X counts modulo 2^l, Y modulo 2^m: l - m low bits dropped.

1. Client: c = Enc(X_0) under its own key, sent with the seed of c's random part.                    client -> server
2. Server: c' = c + X_1 in the clear, which encrypts X; Enc(X W) by products with W's polynomials, packed.
3. Server: adds a fresh public-key encryption of zero, switches to a modulus q' = 2^(m + guard), draws R uniform modulo
   q' on every coefficient that it sends, and responds with Enc(X W - R).                           server -> client
4. [Y]: the client decrypts and rounds to m bits; the server adds normal noise to R and rounds to m bits.

The noise hides, from whoever learns Y later, the term e W of the error: e is the noise of the client's own upload.
Where Y is opened, or compared with a view to opening, a larger modulus makes that term vanish besides (`opened`).

2 rounds. Y is off by at most `LinearPlan.max_error` steps of its last place, except with probability 2^-60 for each
element: `load_weights` refuses weights for which the noise could be larger. docs/security/linear.md has the argument.

Encoding and packing: Cheetah (Huang et al. 2022), section 4, and BumbleBee (Lu et al. 2023), section 4;
`aero.kernels.lattice_matmul`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from aero.kernels.lattice_cost import DEFAULT_RATE, cost_of, plan_matmul
from aero.kernels.lattice_matmul import Columns, MatmulPlan, Response
from aero.kernels.lattice_noise import ColumnSizes, Noise, require_noise, weight_noise
from aero.kernels.rlwe import DEVIATION, SHARES, WEIGHTS, WIDE, Ciphertexts, Params
from aero.mpc.cost import ProtocolCost, message
from aero.mpc.hints import SERVER_NOISE
from aero.mpc.party import Party, Role, parse
from aero.mpc.plan import KeyKinds, Plan
from aero.mpc.share import Share, Words
from aero.mpc.work import evaluator_work, owner_work

MAX_ERROR = 52.0
"""Steps of the result's last place that noise may cost, unless a caller asks for less; the server's own takes 19."""
OPENED_KNOWN = 2.0**-20
"""Standard deviation, in steps, of the client's own noise times the weights where a product is opened, at most."""
NARROW_RING_BITS = 43
"""Up to here the modulus of `rlwe.WEIGHTS` leaves room for weights of about 16 bits."""
PARAMS = (WEIGHTS, SHARES, WIDE)
"""What products with weights may take, by their modulus: the larger it is, the less noise large weights add."""


@dataclass(frozen=True)
class LinearPlan(Plan[[Share, int, "LoadedWeights | None"], Share]):
    """What both parties must agree on: shapes, rings and tiles; nothing of it depends on the weights.

    product: the product's plan. prepared: the server may keep the weights' transforms, cut as for a single row.
    max_error: steps of the result's last place that noise may cost. opened: whether the client learns the result.
    """

    product: MatmulPlan
    prepared: bool
    max_error: float = MAX_ERROR
    opened: bool = False

    def __post_init__(self) -> None:
        if not self.max_error > 0:
            raise ValueError(f"an allowed error of {self.max_error} steps; give a positive number")

    @property
    def client_keys(self) -> KeyKinds:
        return (self.product.params,)

    @property
    def server_keys(self) -> KeyKinds:
        return ()

    def cost(self) -> ProtocolCost:
        return product_cost(self)

    def check(self, x: Share, weight_fraction_bits: int, weights: LoadedWeights | None = None) -> None:
        """x [rows, inner] in a ring of at least `ring_bits`; `weights` is given by the server alone."""
        product = self.product
        if x.shape != (product.rows, product.inner) or x.bits < product.ring_bits:
            raise ValueError(
                f"the plan is for [{product.rows}, {product.inner}] in {product.ring_bits} bits, not {list(x.shape)} "
                f"in {x.bits}"
            )

    def _run(self, party: Party, x: Share, weight_fraction_bits: int, weights: LoadedWeights | None = None) -> Share:
        product = self.product
        x = x.reduced(product.ring_bits)
        if party.is_client:
            ask(party, self, x)
            values = read_answer(party, self)
        else:
            response, values = prepare_answer(party, self, x, weights)
            party.channel.send(response)
        dropped = product.ring_bits - product.output_bits
        return Share(values, product.output_bits, x.fraction_bits + weight_fraction_bits - dropped)


def plan_linear(
    rows: int,
    inner: int,
    columns: int,
    ring_bits: int,
    output_bits: int,
    *,
    max_error: float = MAX_ERROR,
    modulus_bits: int = 0,
    opened: bool = False,
    weight_bits: int = 16,
) -> LinearPlan:
    """[rows, inner] times [inner, columns], from the ring of 2^ring_bits to that of 2^output_bits. modulus_bits: of
    the modulus, at least. opened: whether the client learns the result, or the largest of it; then the modulus is so
    large that it learns nothing of any weights of so many bits by its own noise."""
    usual = linear_params(ring_bits, modulus_bits)
    shown = weight_bits if opened else None
    product, prepared = plan_product((rows, inner, columns), ring_bits, output_bits, usual, shown)
    return LinearPlan(product, prepared, max_error, opened)


def plan_product(
    shape: tuple[int, int, int],
    ring_bits: int,
    output_bits: int,
    usual: Params,
    shown: int | None,
    bytes_per_second: float = DEFAULT_RATE,
    kept: bool = True,
) -> tuple[MatmulPlan, bool]:
    """Under the usual parameters, or larger ones where the result is shown to the client: `shown`, the bits of the
    weights then. And whether it reads the weights' transforms, as a single row does, cut as for that: several rows read
    them, too, where that is cheaper than to make their own, unless the transforms of a single row are others (`kept`).
    ValueError where no parameters are large enough."""
    rows, inner, columns = shape
    for params in PARAMS[PARAMS.index(usual) :]:
        single = _single_row(params, inner, columns, ring_bits, output_bits, bytes_per_second)
        product, prepared = replace(single, rows=rows), True
        if rows > 1:
            own = plan_matmul(params, *shape, ring_bits, output_bits=output_bits, bytes_per_second=bytes_per_second)
            reading = cost_of(product, prepared=True, bytes_per_second=bytes_per_second).seconds
            if not kept or cost_of(own, bytes_per_second=bytes_per_second).seconds <= reading:
                product, prepared = own, False
        if shown is None or known_at_most(product, shown) <= OPENED_KNOWN:
            return product, prepared
    raise ValueError(
        f"no modulus hides weights of {shown} bits in an opened result of {output_bits} bits: use fewer of either"
    )


@lru_cache(maxsize=1024)
def _single_row(
    params: Params, inner: int, columns: int, ring_bits: int, output_bits: int, bytes_per_second: float
) -> MatmulPlan:
    return plan_matmul(
        params,
        1,
        inner,
        columns,
        ring_bits,
        output_bits=output_bits,
        prepared=True,
        bytes_per_second=bytes_per_second,
    )


def known_at_most(product: MatmulPlan, weight_bits: int) -> float:
    """The deviation, in steps, of the client's own noise times any weights of so many bits."""
    weights = product.inner_tiles * product.d1 * product.d2
    return math.sqrt(weights) * DEVIATION * 2.0 ** (weight_bits - 1 + product.output_bits) / product.params.modulus


def linear_params(ring_bits: int, modulus_bits: int = 0) -> Params:
    """The parameters that products from this ring take, with a modulus of so many bits at least."""
    return smallest_params(WEIGHTS if ring_bits <= NARROW_RING_BITS else WIDE, modulus_bits)


def smallest_params(usual: Params, modulus_bits: int) -> Params:
    """These parameters, or the next in `PARAMS` that have a modulus of so many bits. ValueError where none have."""
    for params in PARAMS[PARAMS.index(usual) :]:
        if params.modulus.bit_length() >= modulus_bits:
            return params
    raise ValueError(
        f"no parameters have a modulus of {modulus_bits} bits; the largest has {WIDE.modulus.bit_length()}"
    )


@dataclass(frozen=True)
class LoadedWeights:
    """A weight matrix as the server multiplies by it under one plan, known to fit its noise budget: by its columns, or
    their transforms."""

    plan: LinearPlan
    encoded: Columns | Words
    noise: Noise


def product_noise(plan: LinearPlan, sizes: ColumnSizes, *, nonzero: int | None = None) -> Noise:
    """Of a product with weights of these sizes, the server's own noise included. nonzero: as in `weight_noise`."""
    return weight_noise(plan.product, sizes, nonzero=nonzero, own=SERVER_NOISE)


def load_weights(plan: LinearPlan, w: NDArray[np.int64] | Columns, *, nonzero: int | None = None) -> LoadedWeights:
    """Encode W: int64 [inner, columns], fixed-point numbers, perhaps by its columns. NoRoomError where the noise from
    these very weights could exceed `plan.max_error`. nonzero: as in `weight_noise`."""
    columns = w if isinstance(w, Columns) else Columns.of(w)
    noise = product_noise(plan, ColumnSizes.of_columns(columns), nonzero=nonzero)
    require_noise(noise, plan.max_error)
    return LoadedWeights(plan, plan.product.prepare_weights(columns) if plan.prepared else columns, noise)


def product_cost(*plans: LinearPlan) -> ProtocolCost:
    """Of products that are all asked for before the first is answered."""
    total = ProtocolCost()
    for plan in plans:
        total += message(Role.CLIENT, plan.product.upload_bytes)
    for plan in plans:
        total += message(Role.SERVER, plan.product.response_bytes)
        evaluated = evaluator_work(plan.product, prepared=plan.prepared)
        total |= ProtocolCost(client_work=owner_work(plan.product), server_work=evaluated)
    return total


def ask(party: Party, plan: LinearPlan, x: Share) -> None:
    """The client's step 1."""
    product = plan.product
    upload = product.encrypt(party.secret_key(product.params), x.values, party.fresh_seed(), party.stream("errors"))
    party.channel.send(upload.to_bytes())


def read_answer(party: Party, plan: LinearPlan) -> Words:
    """The client's step 4: its part of [Y]."""
    product = plan.product
    while party.has_ots and not party.channel.arrived and party.ots.work_ahead():
        pass
    data = party.channel.recv(product.response_bytes, np.uint8)
    response = parse(Response.from_bytes, product, data.data)
    share = product.rounded(product.decrypt(party.secret_key(product.params), response))
    return share.reshape(product.rows, product.columns)


def prepare_answer(
    party: Party, plan: LinearPlan, x: Share | None, weights: LoadedWeights | None
) -> tuple[bytes, Words]:
    """The server's steps 2 and 3: what is to be sent, and its part of [Y]. x: None where its part of [X] is zero."""
    product = plan.product
    if weights is None or weights.plan != plan:
        raise ValueError("the server brings the weights, loaded for this plan: use load_weights")
    keys = party.keys_of_peer(product.params)
    packed = product.evaluate(keys, _uploaded(party, product, x), weights.encoded)
    response, fine = product.respond(keys, packed, party.stream("errors"), party.stream("masks"))
    share = product.rounded(fine, party.stream("share noise"), SERVER_NOISE)
    return response.to_bytes(product), share.reshape(product.rows, product.columns)


def _uploaded(party: Party, product: MatmulPlan, x: Share | None) -> Words:
    """What the client sends, plus this party's own part, as `evaluate` reads it, and in no other form any more."""
    data = party.channel.recv(product.upload_bytes, np.uint8)
    upload = parse(Ciphertexts.from_bytes, product.params, data.data, product.uploads)
    return product.load(upload, None if x is None else x.values)
