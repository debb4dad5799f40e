"""LayerNorm and RMSNorm of rows: y = z / sqrt(mean of z^2 + eps), z = x - mean(x) or x. No gain, no bias.

1. z, of a row of n numbers. Centred: n x - sum(x), an exact integer, is 2^k (x - mean) times n 2^-k, 2^k the next power
   of two; the norm does not see the factor when eps takes its square. Each party cuts its part twice: to
   `fine_fraction` fractional bits for the result, to `square_fraction` for the sum of squares. Local.
2. [z] of both modulo p, the field of the OLE (protocols/extend.py).
3. [sum of z^2] = sum of z_0^2 + z_1^2 + z_0 (2 z_1): the client encrypts z_0, the server multiplies by 2 z_1 and adds
   ciphertexts up: one comes back (protocols/ole.py). Sums of what is left of a row are local.
4. V = the sum + n eps, to a ring; r = 1 / sqrt(V) (functions/inverse_sqrt.py); r modulo p.
5. [z r] = z_0 r_0 + z_1 r_1 + z_1 r_0 + z_0 r_1: each party encrypts its part of r, in one ciphertext, each row's in
   all slots of the row; the other multiplies all of its z by it. Both directions at once.
6. To the ring of the output (protocols/extend.py).

Functionality: y up to `NormPlan.error(y, deviation)`: a relative error of 1 / sqrt, the step of z times r, and a unit
of the output's last place. Every x that fits the plan's input format is in range, rows of zeros too; |y| <= sqrt(n).

17 rounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_

import numpy as np

from aero.kernels.slots import P50, SLOTS, Field
from aero.mpc.cost import ProtocolCost
from aero.mpc.functions.inverse_sqrt import MAX_RELATIVE_ERROR, InverseSqrtPlan
from aero.mpc.ot.transfer import products_cost, together
from aero.mpc.party import Party, Role
from aero.mpc.plan import FunctionPlan, KeyKinds, Reads
from aero.mpc.protocols.extend import (
    field_conversion,
    field_shapes,
    from_field,
    ring_conversion,
    ring_shapes,
    to_field,
    to_field_cost,
)
from aero.mpc.protocols.ole import (
    Encryption,
    SlotProduct,
    encrypt_many,
    encrypt_slots,
    multiply_many,
    product_cost,
    upload_cost,
)
from aero.mpc.share import Share, Words

SIGNIFICANT_BITS = 15
"""Of the smallest V: it keeps no more."""


@dataclass(frozen=True)
class NormPlan(FunctionPlan):
    """rows, columns: of x. value_bits, input_fraction: the format that x fits. centred: LayerNorm, else RMSNorm."""

    rows: int
    columns: int
    value_bits: int
    input_fraction: int
    output_bits: int
    output_fraction: int
    eps: float
    centred: bool

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"a norm has at least 1 row and 1 column, not {self.rows} and {self.columns}")
        if not 0 <= self.input_fraction < self.value_bits or self.input_bits > 64:
            raise ValueError(
                f"a norm of {self.columns} columns cannot read {self.value_bits} bits with {self.input_fraction} "
                "fractional ones: give x fewer bits"
            )
        if not self.eps > 0:
            raise ValueError(f"eps is a positive number, not {self.eps}")
        if self.square_fraction < 1 or self.fine_fraction < 1 or self.dropped < 0:
            raise ValueError(
                f"x below {self.limit:g} in {self.columns} columns, or {self.output_fraction} fractional bits of the "
                "result, leave no room in the field: give x a smaller range"
            )
        if self.output_bits <= self.output_fraction + self._sqrt_bits:
            raise ValueError(f"a norm of {self.columns} columns reaches their square root: give its result more bits")

    @property
    def field(self) -> Field:
        return P50

    @property
    def client_keys(self) -> KeyKinds:
        return (self.field,)

    @property
    def server_keys(self) -> KeyKinds:
        return (self.field,)

    @property
    def limit(self) -> float:
        """|x| does not exceed this."""
        return 2.0 ** (self.value_bits - 1 - self.input_fraction)

    @property
    def scale_bits(self) -> int:
        """k."""
        return (self.columns - 1).bit_length() if self.centred else 0

    @property
    def scale(self) -> float:
        """z is x - mean, or x, times this, with `input_fraction` + k fractional bits."""
        return self.columns / 2.0**self.scale_bits if self.centred else 1.0

    @property
    def input_bits(self) -> int:
        """The ring in which x is wanted: n x - sum(x) lies within half of it, on either side of zero."""
        return self.value_bits + 1 + (self.scale_bits + 1 if self.centred else 0)

    @property
    def blocks(self) -> int:
        """Of rows, which have ciphertexts of their own: a ciphertext has slots for so many rows at most."""
        return math.ceil(self.rows / SLOTS)

    @property
    def rows_of_block(self) -> int:
        """The last may have rows of zeros."""
        return math.ceil(self.rows / self.blocks)

    @property
    def groups(self) -> int:
        """Ciphertexts over which each row is spread."""
        return math.ceil(self.columns / (SLOTS // self.rows_of_block))

    @property
    def slots_of_row(self) -> int:
        return math.ceil(self.columns / self.groups)

    @cached_property
    def square_fraction(self) -> int:
        """As many as leave room for the sum of squares in the field."""
        found = self.input_fraction
        while found > 0 and self._largest(found) > self.field.p // 2:
            found -= 1
        return found

    def _largest(self, fraction: int) -> int:
        """V cannot exceed this: of n numbers, each off by one step at most."""
        longest = math.sqrt(self.columns) * (self.limit * self.scale * 2.0**fraction + 1)
        return math.ceil(longest**2) + self._added(fraction)

    def _added(self, fraction: int) -> int:
        """n eps, in the units of V."""
        return max(1, round(self.columns * self.eps * self.scale**2 * 4.0**fraction))

    @property
    def added(self) -> int:
        return self._added(self.square_fraction)

    @property
    def v_dropped(self) -> int:
        """Low bits of V that are not kept."""
        return max(0, self.added.bit_length() - SIGNIFICANT_BITS - 1)

    @cached_property
    def inverse(self) -> InverseSqrtPlan:
        """r 2^(its fraction) = factor / sqrt(V 2^-v_dropped), factor 2^exponent = sqrt(n) 2^(-v_dropped / 2)."""
        lowest, highest = self.added >> self.v_dropped, (self._largest(self.square_fraction) >> self.v_dropped) + 1
        factor = math.sqrt(self.columns) * 2.0 ** (-self.v_dropped / 2)
        return InverseSqrtPlan(self.rows, lowest - (self.v_dropped > 0), highest, factor / 2.0**self._exponent)

    @property
    def _exponent(self) -> int:
        return math.floor(math.log2(self.columns) / 2 - self.v_dropped / 2)

    @property
    def r_fraction(self) -> int:
        """Fractional bits of r, that z is multiplied by."""
        return self.inverse.fraction_bits - self.square_fraction - self._exponent

    @property
    def _sqrt_bits(self) -> int:
        """|y|, its error included, is below 2 to this."""
        return math.floor(math.log2(self.columns) / 2) + 1

    @cached_property
    def fine_fraction(self) -> int:
        """As many as leave room for z r."""
        room = (self.field.p // 2).bit_length() - 1 - (self._sqrt_bits + 1)
        return min(self.input_fraction + self.scale_bits, room - self.r_fraction)

    @property
    def dropped(self) -> int:
        return self.fine_fraction + self.r_fraction - self.output_fraction

    def error(self, y: float, deviation: float) -> float:
        """How far |y| may be off, in a row with sqrt(mean of z^2 + eps) = deviation (before the factor n 2^-k)."""
        units = deviation * self.scale
        coarse = 2.0**-self.square_fraction / units
        relative = MAX_RELATIVE_ERROR + coarse + coarse**2
        return relative * y + 2.0**-self.fine_fraction / units * (1 + relative) + 2.0**-self.output_fraction

    def cost(self) -> ProtocolCost:
        field, count, slots = self.field, self.rows * self.columns, self.rows
        client, server = Role
        blocks = range(self.blocks)
        total = products_cost(ring_shapes(count) * (1 + (self.square_fraction != self.fine_fraction)))
        total += upload_cost(client, field, self.blocks * self.groups)
        total += reduce(or_, [product_cost(client, field, self.groups, total=True) for _ in blocks])
        total += products_cost(field_shapes(slots, self.inverse.input_bits)) + self.inverse.cost()
        total += to_field_cost(slots)
        total += upload_cost(client, field, self.blocks) | upload_cost(server, field, self.blocks)
        total += reduce(or_, [product_cost(role, field, self.groups) for role in (client, server) for _ in blocks])
        return total + products_cost(field_shapes(count, self.output_bits))

    @property
    def reads(self) -> Reads:
        return Reads((self.rows, self.columns), self.input_bits, self.input_fraction)

    def _run(self, party: Party, x: Share) -> Share:
        z = x
        if self.centred:
            n_x = x.values * np.uint64(self.columns) - x.values.sum(axis=1, keepdims=True, dtype=np.uint64)
            z = x.of(n_x, fraction_bits=self.input_fraction + self.scale_bits)
        cuts = dict.fromkeys((self.fine_fraction, self.square_fraction))
        cut = together(party, *(ring_conversion(party, z.truncated(z.fraction_bits - f), self.field) for f in cuts))
        in_field = dict(zip(cuts, cut, strict=True))

        squares = _sum_of_squares(party, self, in_field[self.square_fraction])
        v = from_field(party, squares, self.field.p, bits=self.inverse.input_bits, dropped=self.v_dropped)
        r = to_field(party, self.inverse.run(party, v), self.field)
        y = _scaled_rows(party, self, in_field[self.fine_fraction], r)
        offset = 1 << (self._sqrt_bits + self.fine_fraction + self.r_fraction)
        if party.is_client:
            y = self.field.reduce(y + np.uint64(offset))
        [result] = together(
            party,
            field_conversion(
                party,
                y,
                self.field.p,
                bits=self.output_bits,
                dropped=self.dropped,
                fraction_bits=self.output_fraction,
                offset=offset,
            ),
        )
        return result


def plan_norm(
    rows: int,
    columns: int,
    input_bits: int,
    input_fraction: int,
    output_bits: int,
    output_fraction: int,
    *,
    eps: float,
    centred: bool,
) -> NormPlan:
    """`centred`: LayerNorm; otherwise RMSNorm. x fits the ring of 2^input_bits."""
    return NormPlan(rows, columns, input_bits, input_fraction, output_bits, output_fraction, eps, centred)


def _sum_of_squares(party: Party, plan: NormPlan, z: Words) -> Words:
    """[V] modulo p, [rows]."""
    field, slots = plan.field, _spread(plan, z)
    upload = encrypt_slots(party, Role.CLIENT, field, slots if party.is_client else None, *slots.shape)
    twice = field.reduce_once(slots + slots)
    jobs = [
        SlotProduct(upload.part(*block), None if party.is_client else twice[slice(*block)], total=True)
        for block in _blocks(plan)
    ]
    crossed = np.stack(multiply_many(party, jobs))
    squares = field.multiply(slots, slots).reshape(plan.blocks, plan.groups, -1).sum(axis=1, dtype=np.uint64)
    parts = (field.reduce(squares) + crossed).reshape(plan.blocks * plan.rows_of_block, -1)[: plan.rows]
    return field.reduce(parts.sum(axis=1, dtype=np.uint64) + np.uint64(plan.added if party.is_client else 0))


def _scaled_rows(party: Party, plan: NormPlan, z: Words, r: Words) -> Words:
    """[z r] modulo p, [rows, columns]."""
    field, slots = plan.field, _spread(plan, z)
    width, padded = slots.shape[1], np.zeros(plan.blocks * plan.rows_of_block, np.uint64)
    padded[: plan.rows] = r
    everywhere = np.repeat(padded, plan.slots_of_row).reshape(plan.blocks, width)
    uploads = encrypt_many(
        party,
        [Encryption(role, field, plan.blocks, width, everywhere if party.role is role else None) for role in Role],
    )
    jobs = [
        SlotProduct(
            upload.part(i, i + 1), None if upload.owner is party.role else slots[slice(*block)], groups=plan.groups
        )
        for upload in uploads
        for i, block in enumerate(_blocks(plan))
    ]
    crossed = np.concatenate(multiply_many(party, jobs)).reshape(2, *slots.shape)
    own = field.multiply(slots, np.repeat(everywhere, plan.groups, axis=0))
    return _gathered(plan, field.reduce(own + crossed[0] + crossed[1]))


def _blocks(plan: NormPlan) -> list[tuple[int, int]]:
    """Of the ciphertexts of all rows, those of each block."""
    return [(start, start + plan.groups) for start in range(0, plan.blocks * plan.groups, plan.groups)]


def _spread(plan: NormPlan, rows: Words) -> Words:
    """[rows, columns] -> [blocks * groups, slots]: each row keeps its slots in all ciphertexts of its block."""
    padded = np.zeros((plan.blocks * plan.rows_of_block, plan.groups * plan.slots_of_row), np.uint64)
    padded[: plan.rows, : plan.columns] = rows
    by_group = padded.reshape(plan.blocks, plan.rows_of_block, plan.groups, plan.slots_of_row).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(by_group).reshape(plan.blocks * plan.groups, -1)


def _gathered(plan: NormPlan, slots: Words) -> Words:
    by_row = slots.reshape(plan.blocks, plan.groups, plan.rows_of_block, plan.slots_of_row).transpose(0, 2, 1, 3)
    whole = np.ascontiguousarray(by_row).reshape(plan.blocks * plan.rows_of_block, -1)
    return np.ascontiguousarray(whole[: plan.rows, : plan.columns])
