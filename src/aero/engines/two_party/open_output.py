"""The end of a run: of the output, which is in shares, the client learns what the server chose to reveal.

All logits are opened as they are. The k largest, or the greedy token, are found first by a tournament in which nothing
is opened (`aero.mpc.functions.argmax`); what stays in shares is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aero.engines.planning.output import output_plan
from aero.engines.reveal import Reveal
from aero.graph.ring_plan import Format
from aero.mpc.cost import ProtocolCost
from aero.mpc.fixed_point import from_ring
from aero.mpc.party import Party, Role
from aero.mpc.share import Share, open_shares


def open_output(
    party: Party,
    x: Share,
    what: str,
    reveal: Reveal,
    vocabulary: int,
    reserve: Callable[[ProtocolCost], None],
) -> np.ndarray | None:
    """The client's outputs, float64 in the shape of `x` [rows, V]; None to the server.

    vocabulary: how many columns stand for tokens. reserve: called with the cost of what needs OTs next.
    To the client alone: the server would learn of the client's key from an opened product.
    """
    fmt = Format(x.bits, x.fraction_bits)
    if reveal.k is None:
        opened = open_shares(party, x, Role.CLIENT, what)
        return None if opened is None else fmt.decode(from_ring(opened, x.bits))
    plan = output_plan(x.shape, fmt, reveal, vocabulary)
    largest, places = plan.run(party, x.of(x.values[:, :vocabulary]), reserve)
    ids = open_shares(party, places, Role.CLIENT, f"{what}: ids")
    values = open_shares(party, largest, Role.CLIENT, f"{what}: values") if reveal.values else None
    if ids is None:
        return None
    # Others come from a server that moved its shares alone, and an error would tell it something of the token.
    ids = np.minimum(ids, vocabulary - 1)
    logits = None if values is None else fmt.decode(from_ring(values, x.bits))
    return reveal.spread(ids.astype(np.int64), logits, x.shape[1])
