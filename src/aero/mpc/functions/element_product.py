"""[x y], number by number, of two shared matrices, rounded to the format of the result.

1. Each value is cut to as many fractional bits as leave room for the product in the field of the OLE. Local.
2. [x] and [y] modulo p (protocols/extend.py).
3. x y = x_0 y_0 + x_1 y_1 + (x_0 y_1 + y_0 x_1): the client encrypts x_0 and y_0, the server multiplies them by y_1 and
   x_1 and adds both up: one ciphertext comes back for two that were sent (protocols/ole.py).
4. To the ring of the result (protocols/extend.py).

Functionality: x y up to `ElementProductPlan.error(x, y)`: of each factor the step to which it was cut times the other
factor, and a unit of the result's last place; for every x and y that fit their formats and whose product fits its own.

4 rounds.
"""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aero.kernels.slots import P50, SLOTS, Field
from aero.mpc.cost import ProtocolCost
from aero.mpc.ot.transfer import products_cost, together
from aero.mpc.party import Party, Role
from aero.mpc.plan import FunctionPlan, KeyKinds, Reads
from aero.mpc.protocols.extend import field_conversion, field_shapes, ring_conversion, ring_shapes
from aero.mpc.protocols.ole import SlotProduct, encrypt_slots, multiply_many, product_cost, upload_cost
from aero.mpc.share import Share, Words


@dataclass(frozen=True)
class ElementProductPlan(FunctionPlan):
    """shape: of x, y and the result. value_bits, input_fraction: the format that x and y fit, both."""

    shape: tuple[int, ...]
    value_bits: int
    input_fraction: int
    output_bits: int
    output_fraction: int

    def __post_init__(self) -> None:
        if not 0 <= self.input_fraction < self.value_bits < 64:
            raise ValueError(
                f"factors of {self.value_bits} bits, {self.input_fraction} of them fractional, do not fit a ring of 64 "
                "bits: use another ring plan"
            )
        if not 0 <= self.output_fraction < self.output_bits or self.dropped < 0:
            raise ValueError(
                f"a product of {self.output_bits} bits, {self.output_fraction} of them fractional, has no room in the "
                f"field, or none of {self.input_fraction} fractional bits of its factors: give it fewer bits"
            )

    @property
    def field(self) -> Field:
        return P50

    @property
    def client_keys(self) -> KeyKinds:
        return (self.field,)

    @property
    def server_keys(self) -> KeyKinds:
        return ()

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def groups(self) -> int:
        """Ciphertexts that come back."""
        return math.ceil(self.count / SLOTS)

    @property
    def slots(self) -> int:
        """Used in each ciphertext; the last may hold zeros."""
        return math.ceil(self.count / self.groups)

    @property
    def offset_bits(self) -> int:
        """The product in the field, a number from -2^this to 2^this, stays positive with 2^this added."""
        return (self.field.p // 2).bit_length() - 2

    @cached_property
    def kept(self) -> tuple[int, int]:
        """Fractional bits of x and of y that are multiplied: what leaves room for the whole bits of the product."""
        room = max(self.offset_bits - (self.output_bits - 1 - self.output_fraction), 0)
        first = min(self.input_fraction, (room + 1) // 2)
        return first, min(self.input_fraction, room - first)

    @property
    def dropped(self) -> int:
        return sum(self.kept) - self.output_fraction

    def error(self, x: float, y: float) -> float:
        """How far a product may be off, of factors with |x| and |y| up to these."""
        cut_x, cut_y = (2.0**-kept if kept < self.input_fraction else 0.0 for kept in self.kept)
        return cut_x * y + cut_y * (x + cut_x) + 2.0**-self.output_fraction

    def cost(self) -> ProtocolCost:
        products = [product_cost(Role.CLIENT, self.field, 1)] * self.groups
        return (
            products_cost(2 * ring_shapes(self.count))
            + upload_cost(Role.CLIENT, self.field, 2 * self.groups)
            + functools.reduce(operator.or_, products)
            + products_cost(field_shapes(self.count, self.output_bits))
        )

    @property
    def reads(self) -> Reads:
        """One bit more than the format has, as ring_conversion wants it."""
        return Reads(self.shape, self.value_bits + 1, self.input_fraction)

    def _run(self, party: Party, x: Share, y: Share) -> Share:
        field = self.field
        cut = [z.reshape(-1).truncated(self.input_fraction - kept) for z, kept in zip((x, y), self.kept, strict=True)]
        factors = together(party, *(ring_conversion(party, z, field) for z in cut))
        mine = np.stack([self._in_slots(z) for z in factors], axis=1)  # [groups, 2, slots]
        given = mine.reshape(-1, self.slots) if party.is_client else None
        upload = encrypt_slots(party, Role.CLIENT, field, given, 2 * self.groups, self.slots)
        pairs = [upload.part(2 * i, 2 * i + 2) for i in range(self.groups)]
        others = [None if party.is_client else swapped for swapped in np.ascontiguousarray(mine[:, ::-1])]
        jobs = [SlotProduct(pair, other, total=True) for pair, other in zip(pairs, others, strict=True)]
        crossed = multiply_many(party, jobs)
        own = field.multiply(mine[:, 0].copy(), mine[:, 1].copy()) + np.stack(crossed)
        offset = 1 << self.offset_bits
        if party.is_client:
            own = own + np.uint64(offset)
        product = field.reduce(own).reshape(-1)[: self.count]
        [result] = together(
            party,
            field_conversion(
                party,
                product,
                field.p,
                bits=self.output_bits,
                dropped=self.dropped,
                fraction_bits=self.output_fraction,
                offset=offset,
            ),
        )
        return result.reshape(*self.shape)

    def _in_slots(self, z: Words) -> Words:
        padded = np.zeros(self.groups * self.slots, np.uint64)
        padded[: self.count] = z
        return padded.reshape(self.groups, self.slots)


def plan_element_product(
    shape: tuple[int, ...], factors: tuple[tuple[int, int], tuple[int, int]], output_bits: int, output_fraction: int
) -> ElementProductPlan:
    """factors: bits and fractional bits of both. ValueError where these differ in fractional bits."""
    (first, fraction), (second, other) = factors
    if fraction != other:
        raise ValueError(f"factors have as many fractional bits as one another, not {fraction} and {other}")
    return ElementProductPlan(shape, max(first, second), fraction, output_bits, output_fraction)
