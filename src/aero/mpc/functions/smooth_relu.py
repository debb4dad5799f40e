"""[f(x)] = [max(x, 0)] - [g(|x|)]: GELU, in both its forms, and SiLU.

As f(-t) = f(t) - t, the same g(t) = t - f(t) is left on both sides, small, and nearly 0 from T on. It is approximated
by two polynomials of the form c_0 + c_1 t + c_2 t^2 + c_3 (t^2 + beta t)^2, one up to the knot M and one from there to
T, so that both need the same two squares: minimax over points, in float64 (Lawson 1961).

1. A coarse [x], to `sign_fraction` bits; [x < -T], [x < -M], [x < 0], [x < M], [x < T] of it, all at once
   (protocols/compare.py). The polynomials hold half a step beyond M, T and 0, where a coarse x decides either way.
2. [t] = [0 <= x < T] x - [-T <= x < 0] x in a small ring, and [x < 0] x: multiplexers, in one round.
3. [t] modulo p (protocols/extend.py).
4. [u] = [t^2] = t_0^2 + t_1^2 + t_0 (2 t_1), the last by one OLE (protocols/ole.py).
5. [w] = [(u + beta t)^2] likewise.
6. [u], [w] to a ring, [t] to the same ring.
7. [y] = [max(x, 0)] - [G] - [M <= |x| < T] [G' - G]: G and G' are both polynomials, local; one multiplexer.

Functionality: y with |y - f(x)| <= `SmoothReluPlan.max_error`, for every x that fits the plan's input format.

10 rounds for |x| up to 32, 12 for up to 2^13.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aero.kernels.slots import P50, SLOTS, Field
from aero.mpc.cost import ProtocolCost
from aero.mpc.ot.transfer import products_cost, together
from aero.mpc.party import Party, Role
from aero.mpc.plan import FunctionPlan, KeyKinds, Reads
from aero.mpc.protocols.compare import DIGIT_BITS, negative, negative_cost
from aero.mpc.protocols.extend import (
    extension,
    extension_shapes,
    field_conversion,
    field_shapes,
    to_field,
    to_field_cost,
)
from aero.mpc.protocols.ole import multiply_once, multiply_once_cost
from aero.mpc.protocols.select import multiplex, multiplexing, multiplexing_shapes
from aero.mpc.share import Share, Words, known

Reals = NDArray[np.float64]

MIN_SIGN_FRACTION, MAX_SIGN_FRACTION = 2, 4
WORK_FRACTION = 32
"""Fractional bits of polynomials before they are cut to the output's."""

Coefficients = tuple[int, int, int, int]


@dataclass(frozen=True)
class Form:
    """How one function is approximated.

    reference: in float64. knot, end, beta: M, T and beta. t_bits: the ring of t, a quarter of which holds it.
    t_fraction: its fractional bits: four times as many, and the whole bits of the largest w, fit the field.
    u_fraction, w_fraction: fractional bits of u and w in the ring.
    coefficients: for each number of bits that decide, c_0 to c_3 in units of 2^-`units`, of the inner and of the outer
    polynomial. Both parties multiply their shares by these, and would get nonsense if theirs differed in a last place:
    so they are written down, not computed by a library.
    """

    reference: Callable[[Reals], Reals]
    knot: float
    end: float
    beta: float
    t_bits: int
    t_fraction: int
    u_fraction: int
    w_fraction: int
    coefficients: Mapping[int, tuple[Coefficients, Coefficients]]

    @property
    def thresholds(self) -> tuple[float, ...]:
        return -self.end, -self.knot, 0.0, self.knot, self.end

    @property
    def units(self) -> NDArray[np.int64]:
        return WORK_FRACTION - np.array([0, self.t_fraction, self.u_fraction, self.w_fraction])

    def basis(self, t: Reals) -> Reals:
        """1, t, t^2 and (t^2 + beta t)^2: [points, 4]."""
        return np.stack([np.ones_like(t), t, t**2, (t**2 + self.beta * t) ** 2], axis=1)


def _gelu_tanh(x: Reals) -> Reals:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def _gelu_erf(x: Reals) -> Reals:
    return 0.5 * x * (1 + np.array([math.erf(v) for v in x / math.sqrt(2)]))


def _silu(x: Reals) -> Reals:
    return x * np.where(x < 0, np.exp(-np.abs(x)), 1.0) / (1.0 + np.exp(-np.abs(x)))


# M, T and beta: the best of a search over multiples of 1/8 and 1/2, for both forms of GELU; of 1/4, 1/2 and 1 for SiLU.
_gelu = partial(Form, knot=1.5, end=3.5, beta=2.5, t_bits=14, t_fraction=10, u_fraction=14, w_fraction=8)
FORMS = {
    "tanh": _gelu(
        _gelu_tanh,
        coefficients={
            2: ((3134108, 2080064, -131434, 225173), (1918003912, -1417004, 20934, -9186)),
            3: ((2746845, 2089511, -133093, 230538), (1974715024, -1480108, 22340, -10178)),
            4: ((2450732, 2094221, -133900, 233165), (2001725463, -1510083, 23009, -10654)),
        },
    ),
    "erf": _gelu(
        _gelu_erf,
        coefficients={
            2: ((3161678, 2080817, -131634, 225749), (1915404947, -1418147, 21074, -9367)),
            3: ((2739713, 2090383, -133299, 231116), (1971480461, -1480842, 22479, -10366)),
            4: ((2426086, 2095148, -134108, 233742), (1998139156, -1510576, 23147, -10845)),
        },
    ),
    "silu": Form(
        _silu,
        knot=2.25,
        end=8.5,
        beta=1.0,
        t_bits=15,
        t_fraction=9,
        u_fraction=12,
        w_fraction=6,
        coefficients={
            2: ((1769649, 4084536, -255126, 438588), (2397778968, -1657789, 21474, -3674)),
            3: ((4238475, 4082819, -256184, 446285), (2406153379, -1667873, 21682, -3741)),
            4: ((5437174, 4081889, -256686, 450052), (2409612844, -1672041, 21769, -3770)),
        },
    ),
}


class Fit(NamedTuple):
    """inner, outer: c_0 to c_3 of both polynomials. error: of f, from them alone, on a fine grid."""

    inner: Reals
    outer: Reals
    error: float


@lru_cache
def fit(form: str, sign_fraction: int) -> Fit:
    """Polynomials for g that hold half a coarse step, 2^-sign_fraction / 2, beyond the ends of their intervals."""
    of = FORMS[form]
    inner, outer = (np.array(c) / 2.0**of.units for c in of.coefficients[sign_fraction])
    slack = 2.0 ** -(sign_fraction + 1)
    errors = []
    for c, start, stop in ((inner, -slack, of.knot + slack), (outer, of.knot - slack, of.end + slack)):
        t = np.linspace(start, stop, 2000)
        errors.append(np.abs(of.basis(t) @ c - (np.maximum(t, 0) if start > 0 else t) + of.reference(t)).max())
    # From T on, t is 0, and so is what should be -f(-t), but for c_0.
    t = np.linspace(of.end - slack, of.end + 4, 400)
    outside = np.abs(-of.reference(-t) - inner[0]).max()
    return Fit(inner, outer, float(max(*errors, outside)))


@dataclass(frozen=True)
class SmoothReluPlan(FunctionPlan):
    """shape: of x. value_bits, input_fraction: the format that x fits. form: a key of `FORMS`."""

    shape: tuple[int, ...]
    value_bits: int
    input_fraction: int
    output_bits: int
    output_fraction: int
    form: str

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"the form {self.form!r} is none of {', '.join(FORMS)}")
        if not MIN_SIGN_FRACTION < self.input_fraction < self.value_bits or self.input_bits > 64:
            raise ValueError(
                f"{self.form} reads numbers of more than {MIN_SIGN_FRACTION} fractional bits, not "
                f"{self.input_fraction} of {self.value_bits}: use another ring plan"
            )
        if not 0 <= self.output_fraction < self.output_bits or self.output_fraction > WORK_FRACTION:
            raise ValueError(
                f"{self.form} cannot give {self.output_bits} bits with {self.output_fraction} fractional ones"
            )
        if self.work_bits > 64:
            raise ValueError(f"a result of {self.output_bits} bits is too wide: give it fewer whole bits")

    @property
    def of(self) -> Form:
        return FORMS[self.form]

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
    def ciphertexts(self) -> int:
        return math.ceil(self.count / SLOTS)

    @property
    def slots(self) -> int:
        """Used in each ciphertext; the last may hold zeros."""
        return math.ceil(self.count / self.ciphertexts)

    @cached_property
    def sign_fraction(self) -> int:
        """As many as two digits of the comparisons hold, and no fewer than the least."""
        most = min(MAX_SIGN_FRACTION, self.input_fraction - 1)
        fitting = [f for f in range(MIN_SIGN_FRACTION, most + 1) if self._sign_bits(f) - 1 <= 2 * DIGIT_BITS]
        return max(fitting, default=MIN_SIGN_FRACTION)

    def _sign_bits(self, fraction: int) -> int:
        """The ring of x minus any threshold, in coarse steps."""
        largest = (2.0 ** (self.value_bits - 1 - self.input_fraction) + self.of.end) * 2**fraction + 2
        return math.ceil(math.log2(largest)) + 1

    @property
    def sign_bits(self) -> int:
        return self._sign_bits(self.sign_fraction)

    @property
    def input_bits(self) -> int:
        """The ring in which x is wanted."""
        coarse = self.sign_bits + self.input_fraction - self.sign_fraction
        argument = self.of.t_bits + self.input_fraction - self.of.t_fraction
        return max(self.value_bits, coarse, argument, self.output_bits + self.input_fraction - self.output_fraction)

    @property
    def work_bits(self) -> int:
        """The ring of the polynomials: cut to the output's format, it is the output's ring."""
        return self.output_bits - self.output_fraction + WORK_FRACTION

    @property
    def fit(self) -> Fit:
        return fit(self.form, self.sign_fraction)

    @property
    def max_error(self) -> float:
        """The fit's; of t, one step, at slopes of g below 0.6; of roundings in the ring; of the output, two units."""
        of, largest = self.of, np.abs([self.fit.inner, self.fit.outer]).max(axis=0)
        ring = largest[2] * 2.0**-of.u_fraction + largest[3] * 2.0**-of.w_fraction
        argument = 0.6 * 2.0**-of.t_fraction if self.input_fraction > of.t_fraction else 0.0
        return float(self.fit.error + argument + ring + 2 * 2.0**-self.output_fraction)

    def cost(self) -> ProtocolCost:
        count, field = self.count, self.field
        selected = multiplexing_shapes(count, self.output_bits)
        square = multiply_once_cost(Role.CLIENT, field, self.ciphertexts)
        to_ring = 2 * field_shapes(count, self.work_bits) + extension_shapes(count, self.of.t_bits, self.work_bits)
        return (
            negative_cost(len(self.of.thresholds) * count, self.sign_bits)
            + products_cost(2 * multiplexing_shapes(count, self.of.t_bits) + selected)
            + to_field_cost(count)
            + square
            + square
            + products_cost(to_ring)
            + products_cost(selected)
        )

    @property
    def reads(self) -> Reads:
        return Reads(self.shape, self.input_bits, self.input_fraction)

    def _run(self, party: Party, x: Share) -> Share:
        x, field, of = x.reshape(-1), self.field, self.of
        low, low_knot, sign, knot, high = _below_thresholds(party, self, x)
        value, argument = (
            _in_format(x, self.output_bits, self.output_fraction),
            _in_format(x, of.t_bits, of.t_fraction),
        )
        negative_part, right, left = together(
            party,
            multiplexing(party, sign, value),
            multiplexing(party, sign ^ high, argument),
            multiplexing(party, low ^ sign, argument),
        )
        t = right - left
        t_field = to_field(party, t, field)
        u_field = _squared(party, self, t_field)
        shift = np.full(t_field.shape, np.uint64(of.beta * 2**of.t_fraction))
        w_field = _squared(party, self, field.reduce_once(u_field + field.multiply(t_field, shift)))
        bits = self.work_bits
        to_ring = [
            field_conversion(party, z, field.p, bits=bits, dropped=n * of.t_fraction - kept, fraction_bits=kept)
            for z, n, kept in ((u_field, 2, of.u_fraction), (w_field, 4, of.w_fraction))
        ]
        t, u, w = together(party, extension(party, t, bits), *to_ring)
        inner, outer = (_polynomial(party, self, c, t, u, w) for c in (self.fit.inner, self.fit.outer))
        correction = multiplex(party, low ^ low_knot ^ knot ^ high, outer - inner)
        return (value - negative_part - inner - correction).reshape(*self.shape)


def plan_smooth_relu(
    shape: tuple[int, ...],
    input_bits: int,
    input_fraction: int,
    output_bits: int,
    output_fraction: int,
    *,
    form: str,
) -> SmoothReluPlan:
    return SmoothReluPlan(shape, input_bits, input_fraction, output_bits, output_fraction, form)


def _below_thresholds(party: Party, plan: SmoothReluPlan, x: Share) -> list[NDArray[np.uint8]]:
    """XOR shares of [x < c] for each threshold c, up to half a coarse step."""
    dropped = plan.input_fraction - plan.sign_fraction
    coarse = x.reduced(plan.sign_bits + dropped)
    half = known(party, Role.CLIENT, np.full(x.shape, np.uint64(1 << (dropped - 1))), coarse.bits, x.fraction_bits)
    coarse = (coarse + half).truncated(dropped)
    ends = [int(c * 2**plan.sign_fraction) + 1 for c in plan.of.thresholds]
    ends_mod = np.array([[end % 2**coarse.bits] for end in ends], np.uint64)
    moved = coarse.values - ends_mod if party.is_client else np.tile(coarse.values, (len(ends), 1))
    return list(negative(party, coarse.of(moved)))


def _in_format(x: Share, bits: int, fraction_bits: int) -> Share:
    """[x] with other fractional bits, modulo a small enough ring."""
    gained = fraction_bits - x.fraction_bits
    if gained > 0:  # x modulo 2^l, times 2^gained, counts modulo 2^(l + gained)
        return x.of(x.values << np.uint64(gained), bits=bits, fraction_bits=fraction_bits)
    return x.truncated(-gained).reduced(bits)


def _squared(party: Party, plan: SmoothReluPlan, z: Words) -> Words:
    """[z^2] modulo p."""
    field = plan.field
    slots = np.zeros(plan.ciphertexts * plan.slots, np.uint64)
    slots[: z.size] = z
    slots = slots.reshape(plan.ciphertexts, plan.slots)
    given = slots if party.is_client else field.reduce_once(slots + slots)
    crossed = multiply_once(party, Role.CLIENT, field, given)
    return field.reduce_once(field.multiply(slots, slots) + crossed).reshape(-1)[: z.size]


def _polynomial(party: Party, plan: SmoothReluPlan, c: Reals, t: Share, u: Share, w: Share) -> Share:
    """[c_0 + c_1 t + c_2 u + c_3 w] in the output's format."""
    total = known(party, Role.CLIENT, np.full(t.shape, np.uint64(round(c[0] * 2**WORK_FRACTION) % 2**64)), t.bits)
    values = total.values
    for coefficient, term in zip(c[1:], (t, u, w), strict=True):
        factor = round(float(coefficient) * 2 ** (WORK_FRACTION - term.fraction_bits))
        values = values + term.values * np.uint64(factor % 2**64)
    return t.of(values, fraction_bits=WORK_FRACTION).truncated(WORK_FRACTION - plan.output_fraction)
