"""What each party holds at once in a session, at most: from public sizes, before anything is encoded.

    client    a process + OTs that wait + what the largest step works on + its part of keys and values
    server    the same, in a larger process, + weights as they are encoded (`weight_store.encoded_bytes`)

What a process takes by itself, and a step for each byte that it sends, are of measured peaks (`aero bench forward`),
which this meets within 15 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from aero.engines.planning.stages import Schedule
from aero.engines.planning.step_plans import ots_ahead, stage_cost
from aero.engines.two_party.weight_store import encoded_bytes

_CLIENT, _SERVER = 122_000_000, 165_000_000
"""Of a process with its libraries, keys and channel."""
_OT, _SENT, _WORD = 2, 0.6, 8
"""Of an OT that waits; of a byte that the largest step sends; of a number of keys and values."""
_ALL = 1 << 62


@dataclass(frozen=True)
class Memory:
    """In bytes. numbers, transforms: of the server's weights; without the transforms, which single rows read, products
    make them anew (`aero serve --weights-gb 0`)."""

    client: int
    numbers: int
    transforms: int

    @property
    def server(self) -> int:
        return self.client - _CLIENT + _SERVER + self.numbers + self.transforms

    def to_json(self) -> dict[str, int]:
        return {**vars(self), "server": self.server}


def memory(runs: Sequence[Schedule]) -> Memory:
    """Of a session of such runs."""
    stages = [stage for run in runs for stage in run.stages]
    weights = encoded_bytes([stage.groups for stage in stages], runs[0].plan, _ALL)
    waiting = max(sum((cost.ots_from_client, cost.ots_from_server)) for run in runs for cost in ots_ahead(run.stages))
    largest = max(stage_cost(stage).total_bytes for stage in stages)
    states = max(sum(math.prod(g.shapes[v]) for g in run.graphs for v in g.state_out.values()) for run in runs)
    return Memory(int(_CLIENT + _OT * waiting + _SENT * largest + _WORD * states), *weights)
