"""[tanh x] = [p] - [q], where (p, q) is the softmax of the two scores (x, -x).

p = e^x / (e^x + e^-x), and q likewise. Rows of two scores are what the protocol of softmax takes (softmax/), all
numbers in the same rounds; ranges, the argument for privacy and rounds are its own. The error is twice a probability's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aero.mpc.cost import ProtocolCost
from aero.mpc.functions.score_rows import ScoreRows
from aero.mpc.functions.softmax import SoftmaxPlan, plan_softmax
from aero.mpc.party import Party
from aero.mpc.plan import FunctionPlan, KeyKinds, Reads
from aero.mpc.share import Share


@dataclass(frozen=True)
class TanhPlan(FunctionPlan):
    """shape: of x. output_bits: of the ring of the result. pairs: softmax of a row (x, -x) for each number."""

    shape: tuple[int, ...]
    output_bits: int
    pairs: SoftmaxPlan

    @property
    def client_keys(self) -> KeyKinds:
        return self.pairs.client_keys

    @property
    def server_keys(self) -> KeyKinds:
        return self.pairs.server_keys

    @property
    def max_error(self) -> float:
        return 2 * (self.pairs.max_error + self.pairs.missed)

    def cost(self) -> ProtocolCost:
        return self.pairs.cost()

    @property
    def reads(self) -> Reads:
        return Reads(self.shape, self.pairs.input_bits, self.pairs.input_fraction)

    def _run(self, party: Party, x: Share) -> Share:
        scores = np.stack([x.values.reshape(-1), (-x).values.reshape(-1)], axis=1)
        p, q = self.pairs.run(party, x.of(scores[None])).values[0].T
        return x.of((p - q).reshape(self.shape), bits=self.output_bits, fraction_bits=self.pairs.output_fraction)


def plan_tanh(
    shape: tuple[int, ...], input_bits: int, input_fraction: int, output_bits: int, output_fraction: int
) -> TanhPlan:
    rows = ScoreRows(1, ((math.prod(shape), 2),), causal=False)
    made = max(output_bits, output_fraction + 2)  # of probabilities, which are at most one
    pairs = plan_softmax(rows, input_bits, input_fraction, made, output_fraction, base=math.e)
    return TanhPlan(shape, output_bits, pairs)
