"""Softmax on shares: probabilities 2^(x - L), x = s - m with m near the maximum of a row, L = log2 of its sum.

s: scores, in base 2. A score counts down to a *reach* R below its row's maximum. Powers are taken modulo a p of one
prime, or of two for long rows (exp2.py); G is the number of ciphertexts in a bank (score_rows.py).

1. [m]: a tournament over each row's coarse scores, whose step is 2^-2, a few of them to a game: all pairs compared, who
   is behind nobody multiplexed out, level by level.
2. [c] = [m - s <= R], again on coarse scores. [x] = [s - m] minus a step, so that x <= 0.
3. [x'] = [c (x + l) - l]: what is below the reach is lifted or lowered to -l, so far down that a row of them adds
   2^-12 at most to the sum.                                                                                 1 round
4. [2^x'] summed over a row: client's powers encrypted, every row in the same slots of all G ciphertexts; one response,
   the sum over ciphertexts.                                                                                2 rounds
5. [S]: from the field, one number for each slot, added up. [L] = [log2 S] (rows.py).
6. [2^(x - L)]: powers of new exponents, G responses.                                                       2 rounds
7. From the field into the ring of the result, times [c].                                                   2 rounds

What is below the reach is 0, exactly; dead scores are 0 in both shares.

With a public *window* of row maxima for each head there is no step 1 and m is the top of the head's window instead, two
primes holding what rows far below it need. Scores above are brought down to it in step 3, so that a prompt that leaves
the window gives probabilities of other scores, and nothing else. Fewer rounds and more bytes: `cheapest` weighs them.

Errors, ranges, costs and the argument for privacy: docs/security/softmax.md.
"""

from aero.mpc.functions.softmax.plan import SoftmaxPlan, cheapest, plan_softmax
from aero.mpc.functions.softmax.window import MARGIN, SPAN, MaximaWindow, window_of

__all__ = ["MARGIN", "SPAN", "MaximaWindow", "SoftmaxPlan", "cheapest", "plan_softmax", "window_of"]
