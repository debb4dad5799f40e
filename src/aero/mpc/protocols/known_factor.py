"""[x w], number by number: x shared, w the server's, in the clear, of `factor_bits` bits with its sign.

x w = x_1 w + x_0 w, the first the server's own. With the bits of w in two's complement,
x_0 w = sum over j of +-2^j (bit j of w) x_0, minus for the last: products of a bit of the server's and a word of the
client's, the j-th modulo 2^(l-j) (ot/transfer.py), all in one round.

Exact modulo 2^l. As many OTs for each number as w has bits. Gilboa 1999, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aero.mpc.cost import ProtocolCost
from aero.mpc.fixed_point import reduce_ring
from aero.mpc.ot.transfer import BitProduct, ProductShape, multiply_bits, products_cost
from aero.mpc.party import Party, Role
from aero.mpc.plan import TransfersAlone
from aero.mpc.share import Share


@dataclass(frozen=True)
class KnownFactorPlan(TransfersAlone[[Share, int, NDArray[np.int64] | None], Share]):
    """shape: of x and w. ring_bits: l, the ring of the product. factor_bits: of w, from 2 up to l."""

    shape: tuple[int, ...]
    ring_bits: int
    factor_bits: int

    def __post_init__(self) -> None:
        if not 2 <= self.factor_bits <= self.ring_bits <= 64:
            raise ValueError(f"a factor of {self.factor_bits} bits does not fit a product of {self.ring_bits}")

    def cost(self) -> ProtocolCost:
        count = math.prod(self.shape)
        sizes = [self.ring_bits - j for j in range(self.factor_bits)]
        return products_cost([ProductShape(Role.SERVER, count, bits) for bits in sizes])

    def check(self, x: Share, factor_fraction_bits: int, factor: NDArray[np.int64] | None = None) -> None:
        """x in a ring of at least `ring_bits`; `factor` is given by the server alone, from -2^(factor_bits - 1) on."""
        if x.shape != self.shape or x.bits < self.ring_bits:
            raise ValueError(f"the plan is for {self.shape} in {self.ring_bits} bits, not {x.shape} in {x.bits}")
        if factor is not None and not (factor.shape == self.shape and _fits(factor, self.factor_bits)):
            raise ValueError(f"the server gives factors {self.shape} of {self.factor_bits} bits")

    def _run(self, party: Party, x: Share, factor_fraction_bits: int, factor: NDArray[np.int64] | None = None) -> Share:
        x = x.reduced(self.ring_bits)
        total = np.zeros(self.shape, dtype=np.uint64)
        if party.is_client:
            jobs = [
                BitProduct(Role.SERVER, bits, reduce_ring(x.values, bits))
                for bits in range(self.ring_bits, self.ring_bits - self.factor_bits, -1)
            ]
        else:
            if factor is None:
                raise ValueError("the server gives the factors")
            total = x.values * factor.view(np.uint64)
            jobs = [
                BitProduct(Role.SERVER, self.ring_bits - j, (factor >> j & 1).astype(np.uint8))
                for j in range(self.factor_bits)
            ]
        for j, share in enumerate(multiply_bits(party, jobs)):
            term = share.reshape(self.shape) << np.uint64(j)
            total = total - term if j == self.factor_bits - 1 else total + term
        return Share(reduce_ring(total, self.ring_bits), self.ring_bits, x.fraction_bits + factor_fraction_bits)


def _fits(factor: NDArray[np.int64], bits: int) -> bool:
    half = 1 << (bits - 1)
    return bool((-half <= factor).all() and (factor < half).all())
