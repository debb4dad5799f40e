"""Setting up keys, once a session.

1. Whoever encrypts in this session draws a secret key for each set of parameters, and sends the public keys.
2. The other party keeps them.

The secret never leaves its party, and a fresh one is drawn for every session.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aero.kernels.rlwe import Params, PublicKeys, SecretKey
from aero.mpc.cost import ProtocolCost, message
from aero.mpc.party import Party, Role, parse


def exchange_keys(party: Party, client: Sequence[Params], server: Sequence[Params] = ()) -> None:
    """`client`, `server`: the parameters under which that party will encrypt; both parties give the same lists."""
    mine, theirs = (client, server) if party.is_client else (server, client)
    for params in mine:
        secret = SecretKey.generate(params, party.stream("secret keys"))
        public = secret.public_keys(party.fresh_seed(), party.stream("key errors"))
        party.secret_keys[params] = secret
        party.channel.send(public.to_bytes())
    for params in theirs:
        data = party.channel.recv(PublicKeys.byte_size(params), np.uint8)
        party.peer_keys[params] = parse(PublicKeys.from_bytes, params, data.data)


def keys_cost(client: Sequence[Params], server: Sequence[Params] = ()) -> ProtocolCost:
    """Bytes and rounds of `exchange_keys`: both parties' messages travel at the same time."""
    total = ProtocolCost()
    for role, several in ((Role.CLIENT, client), (Role.SERVER, server)):
        for params in several:
            total = total | message(role, PublicKeys.byte_size(params))
    return total
