"""How far the shares of an RLWE matrix product may be from the exact product, from the actual weights.

Every term is in units of the output's last place, that is of Q / 2^output_bits in the phase b + a s. Errors are sums
of independent terms, so a bound of `TAIL` standard deviations of a sub-Gaussian majorant holds except with probability
2 exp(-TAIL^2 / 2) < 2^-64 for one result. Fresh noise has a bound that always holds as well, 37 |w|_1; the smaller
counts. Rounding errors are taken as uniform, as usual. docs/understand/kernels-lattice.md derives each line.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from aero.kernels.lattice_matmul import Columns, MatmulPlan, unpacked_integers
from aero.kernels.rlwe import LARGEST, NOISE_VARIANCE

TAIL = 9.5
SECRET_NORM = 1.21
"""|s|^2 of a Gaussian secret is at most so many times its mean, n NOISE_VARIANCE, but for probability 2^-60."""
_COLUMNS_AT_ONCE = 32  # of a matrix, so that no second copy of a large one is made


class NoRoomError(ValueError):
    """Noise could be larger than what a product may be off by."""


@dataclass(frozen=True)
class Noise:
    """Bounds on one result's error, in units of the output's last place."""

    fresh: float
    """Encryption noise times the weights."""
    fresh_always: float
    """The same by 37 |w|_1, which no draw exceeds."""
    message_rounding: float
    """Rounding of Q/2^l m times the weights."""
    packing: float
    """Key switches."""
    zero: float
    """The encryption of zero in the response."""
    response: float
    """The switch to the modulus 2^(output_bits + guard_a) and the shortened b."""
    shares: float
    """Rounding of both shares to output_bits, and the noise that a party adds to its own before."""
    known: float
    """The standard deviation of those terms that are a product of something secret of the evaluator's and of noise that
    the owner of the key knows: of its upload, of its keys, of rounding its messages."""
    deviation: float
    """The standard deviation that is to be expected, all of the above together."""

    @property
    def total(self) -> float:
        """No result is further off, except with probability below 2^-60."""
        fresh = min(self.fresh, self.fresh_always)
        return fresh + self.message_rounding + self.packing + self.zero + self.response + self.shares

    def __add__(self, other: "Noise") -> "Noise":
        """Of a sum of two results: bounds add up, and the squares of deviations."""
        added = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        both = {name: math.hypot(getattr(self, name), getattr(other, name)) for name in ("known", "deviation")}
        return Noise(**{**added, **both})


@dataclass(frozen=True)
class ColumnSizes:
    """What noise depends on of W [batch, inner, columns]: the sums of |w| and of w^2 in each column, float64 [batch,
    columns], and the largest |w|."""

    l1: NDArray[np.float64]
    l2_squared: NDArray[np.float64]
    largest: float

    @classmethod
    def of(cls, *digits: NDArray[np.int64]) -> "ColumnSizes":
        """Of W, int64 [inner, columns] or [batch, inner, columns]; or of its digits, by `MatmulPlan.digits_of`."""
        parts = [np.abs(part.reshape(-1, *part.shape[-2:]).astype(np.float64)) for part in digits]
        l1, l2_squared = sum(part.sum(axis=1) for part in parts), sum((part * part).sum(axis=1) for part in parts)
        return cls(np.asarray(l1), np.asarray(l2_squared), max(float(part.max()) for part in parts))

    @classmethod
    def of_columns(cls, w: Columns) -> "ColumnSizes":
        """Of a matrix by its columns, however large."""
        l1, l2_squared, largest = [], [], 0.0
        for part in w.parts:
            for start in range(0, len(part), _COLUMNS_AT_ONCE):
                some = np.abs(unpacked_integers(part[start : start + _COLUMNS_AT_ONCE]).astype(np.float64))
                l1.append(some.sum(axis=1))
                l2_squared.append(np.einsum("mk,mk->m", some, some))
                largest = max(largest, float(some.max()))
        return cls(np.concatenate(l1)[None], np.concatenate(l2_squared)[None], largest)

    @classmethod
    def joined(cls, sizes: Sequence["ColumnSizes"]) -> "ColumnSizes":
        """Of matrices side by side."""
        l1, l2_squared = (
            np.concatenate(parts, axis=1) for parts in zip(*((s.l1, s.l2_squared) for s in sizes), strict=True)
        )
        return cls(l1, l2_squared, max(s.largest for s in sizes))


def weight_noise(plan: MatmulPlan, sizes: ColumnSizes, *, nonzero: int | None = None, own: float = 0.0) -> Noise:
    """Bounds for weights of these sizes: all polynomials of a column tile, of `plan.d2` columns, count in full.

    own: deviation of the noise that a party adds to its share, in steps. nonzero: of one row tile, how many of the
    owner's messages are not zero, where the evaluator's all are: zero needs no rounding. None for any messages.
    """
    firsts = np.arange(0, plan.columns, plan.d2)
    l1, l2 = (float(np.add.reduceat(part, firsts, axis=1).max()) for part in (sizes.l1, sizes.l2_squared))
    return _noise(plan, l1, l2, 2 * l1 if nonzero is None else min(l1, nonzero * sizes.largest), own)


def share_noise(plan: MatmulPlan, *, nonzero: int | None = None, own: float = 0.0) -> Noise:
    """Bounds for any weights modulo 2^ring_bits, such as shares; the deviations are those for uniform ones.

    own: as in `weight_noise`. nonzero: of each column of W, how many weights may be other than zero; None for all.
    """
    count = min(plan.inner_tiles * plan.d1, plan.digits * (plan.inner if nonzero is None else nonzero)) * plan.d2
    largest = 2.0 ** (plan.digit_bits - 1)
    worst = _noise(plan, count * largest, count * largest**2, 2 * count * largest, own)
    uniform = _noise(plan, count * largest / 2, count * largest**2 / 3, count * largest, own)
    return Noise(**{**worst.__dict__, "known": uniform.known, "deviation": uniform.deviation})


def require_noise(noise: Noise, limit: float) -> None:
    """NoRoomError unless results are off by at most `limit` units of the last place, but for probability 2^-60."""
    if noise.total > limit:
        raise NoRoomError(
            f"the noise may reach {noise.total:.3g} units of the last place, and {limit:.3g} are allowed: "
            "use parameters with a larger modulus, more digits, a smaller ring, or smaller weights"
        )


def _noise(plan: MatmulPlan, l1: float, l2_squared: float, rounded: float, own: float) -> Noise:
    """Given the largest |w|_1 and |w|_2^2 of the polynomials of one column tile together; rounded: the largest sum of
    |w| over what is multiplied by a rounded message, the owner's or the evaluator's."""
    p, n = plan.params, plan.params.n
    unit = 2.0**plan.output_bits / p.modulus  # of the last place, of one in the phase
    secret = NOISE_VARIANCE * n  # |s|^2
    switch_bound = NOISE_VARIANCE * n * sum((q / 2) ** 2 for q in p.primes) / p.special**2 + SECRET_NORM * secret / 12
    switch_variance = NOISE_VARIANCE * n * sum(q**2 / 12 for q in p.primes) / p.special**2 + secret / 12
    after = 2.0**-plan.guard_a
    shortened = 0.5 * 2.0**-plan.guard_b
    known = (NOISE_VARIANCE + 1 / 12) * l2_squared + (plan.merge**2 - 1) / 3 * switch_variance
    variance = (known + l2_squared / 12 + NOISE_VARIANCE * (2 * secret + 1)) * unit**2
    variance += (secret + 1) / 12 * after**2 + (2 * shortened) ** 2 / 12 + 2 / 12 + own**2
    return Noise(
        fresh=TAIL * math.sqrt(NOISE_VARIANCE * l2_squared) * unit,
        fresh_always=LARGEST * l1 * unit,
        message_rounding=0.5 * rounded * unit,
        packing=(plan.merge - 1) * TAIL * math.sqrt(switch_bound) * unit,
        zero=TAIL * math.sqrt(NOISE_VARIANCE * (2 * SECRET_NORM * secret + 1)) * unit,
        response=(TAIL * math.sqrt(SECRET_NORM * secret / 12) + 0.5) * after + shortened,
        shares=1.0 + TAIL * own,
        known=math.sqrt(known) * unit,
        deviation=math.sqrt(variance),
    )
