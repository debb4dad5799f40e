"""The steps of a softmax, as both parties run them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from aero.mpc.functions.rows import LOG2_SCALE, plus
from aero.mpc.ot.transfer import Bits, together
from aero.mpc.party import Party, Role
from aero.mpc.protocols.compare import negative
from aero.mpc.protocols.ole import Encryption, SlotProduct, encrypt_many, multiply_many
from aero.mpc.protocols.select import arithmetic, multiplex, multiplexing, not_bits
from aero.mpc.share import Share, Words

if TYPE_CHECKING:
    from aero.mpc.functions.softmax.plan import SoftmaxPlan

FACTOR_FRACTION = 18
"""Of log2 e, by which scores in base e are multiplied."""


def probabilities(party: Party, plan: SoftmaxPlan, scores: Share) -> Share:
    """Of scores of `plan.rows.shape`; 0 in both shares where a query does not see a key."""
    rows, power, shape = plan.rows, plan.power, plan.rows.shape
    s = _entries(scores.reshape(-1), rows.place)
    if plan.base != 2.0:
        s = s.times(round(math.log2(plan.base) * 2**FACTOR_FRACTION), FACTOR_FRACTION)
    if plan.dropped < 0:  # x modulo 2^l, times 2^k, counts modulo 2^(l + k)
        s = s.of(s.values << np.uint64(-plan.dropped), bits=plan.held_bits, fraction_bits=power.fraction_bits)
    else:
        s = s.truncated(plan.dropped)

    counts, x, lifted = (below_maxima if plan.window is None else below_tops)(party, plan, s)
    logs = log_sums(party, plan, lifted)
    residues = powers(party, plan, x - _entries(logs, rows.row), plan.largest, total=False)
    found = power.to_ring(
        party,
        [plan.slots.gather(of_prime) for of_prime in residues],
        bits=plan.output_bits,
        dropped=plan.result_bits - plan.output_fraction,
        fraction_bits=plan.output_fraction,
    )
    chosen = multiplex(party, counts, found)
    out = np.zeros(math.prod(shape), np.uint64)
    out[rows.place] = chosen.values
    return chosen.of(out.reshape(shape))


def _entries(x: Share, places: np.ndarray) -> Share:
    return x.of(x.values[places])


def below_maxima(party: Party, plan: SoftmaxPlan, s: Share) -> tuple[Bits, Share, Share]:
    """Steps 1 to 3: which scores count, [x], and [x'], each [entries]."""
    rows, coarse = plan.rows, s.truncated(plan.coarse_dropped)
    tops = _entries(plan.tournament.run(party, coarse), rows.row)
    below = plus(party, (coarse - tops).reduced(plan.reach_bits), plan.reach[rows.row])
    counts = not_bits(party, negative(party, below))
    highest = s.of(tops.values << np.uint64(plan.coarse_dropped))
    x = plus(party, (s - highest).reduced(plan.power.ring_bits), -plan.step)
    lifted = plus(party, multiplex(party, counts, plus(party, x, plan.lowest)), -plan.lowest)
    return counts, x, lifted


def below_tops(party: Party, plan: SoftmaxPlan, s: Share) -> tuple[Bits, Share, Share]:
    """The same with a window: [c] = [s - top >= -R] and [a] = [s - top > 0], coarsely, in the same rounds; [x'] = 0 for
    what is above, and is [x] for what counts as well. The only score of a row gives way to a public one: whatever it
    is, its probability is 1."""
    assert plan.window is not None
    rows, f, lowest = plan.rows, plan.power.fraction_bits, plan.lowest
    tops = np.asarray(plan.window.tops)[rows.head[rows.row]]
    alone = rows.lengths[rows.row] == 1
    s = plus(party, s.of(np.where(alone, np.uint64(0), s.values)), np.where(alone, tops - 1, 0.0))
    coarse = s.truncated(plan.coarse_dropped).reduced(plan.coarse_bits)
    ends = np.stack([tops - plan.reach[rows.row], tops + plan.step])
    both = coarse.of(np.broadcast_to(coarse.values, ends.shape))
    counts, above = not_bits(party, negative(party, plus(party, both, -ends)))

    # Whatever is above counts: XOR shares of what counts and is not above.
    from_lowest = plus(party, s.reduced(plan.power.ring_bits), lowest - plan.step - tops)
    inside, raised = together(
        party, multiplexing(party, counts ^ above, from_lowest), arithmetic(party, above, plan.whole_bits)
    )
    top = inside.of((raised.values * np.uint64(lowest)) << np.uint64(f))
    lifted = plus(party, inside + top, -lowest)
    return counts, lifted, lifted


def powers(party: Party, plan: SoftmaxPlan, exponents: Share, offset: float, *, total: bool) -> list[Words]:
    """Shares of 2^(x + offset), scaled, modulo each prime: [banks, groups, used slots], or summed over groups [banks,
    used]."""
    slots, fields = plan.slots, plan.power.fields
    banks, groups, used = len(slots.banks), slots.groups, slots.used
    cells = [slots.spread(power) for power in plan.power.power(party, plus(party, exponents, offset).values)]
    flat = [cell.reshape(-1, used) for cell in cells]
    own = flat if party.is_client else [None] * len(fields)
    uploads = encrypt_many(
        party, [Encryption(Role.CLIENT, f, banks * groups, used, v) for f, v in zip(fields, own, strict=True)]
    )
    theirs = [None] * len(fields) if party.is_client else flat
    if not total:
        products = multiply_many(party, [SlotProduct(u, v) for u, v in zip(uploads, theirs, strict=True)])
        return [product.reshape(banks, groups, used) for product in products]
    jobs = [
        SlotProduct(u.part(i, i + groups), None if v is None else v[i : i + groups], total=True)
        for u, v in zip(uploads, theirs, strict=True)
        for i in range(0, banks * groups, groups)
    ]
    return list(np.stack(multiply_many(party, jobs)).reshape(len(fields), banks, used))


def log_sums(party: Party, plan: SoftmaxPlan, exponents: Share) -> Share:
    """[log2 of the sum of 2^x] of each row, [rows]."""
    slots = plan.slots
    sums = powers(party, plan, exponents, plan.largest_term + math.log2(LOG2_SCALE), total=True)
    parts = plan.power.to_ring(
        party,
        [residues.reshape(-1) for residues in sums],
        bits=plan.log.input_bits,
        dropped=plan.largest_term + plan.power.scale_bits - plan.log.input_fraction,
        fraction_bits=plan.log.input_fraction,
    )
    return plan.log.run(party, parts.of(slots.row_sums(parts.values)))
