"""Setting up keys, once a session, and again where they were dropped.

1. Whoever encrypts in this session draws a secret key for each set of parameters, and for each field in whose slots it
   encrypts, and sends the public keys: those of a field are a key for encryption alone.
2. The other party keeps them.

The secret never leaves its party, and a fresh one is drawn every time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aero.kernels.rlwe import Params, PublicKeys, SecretKey
from aero.kernels.slots import Field, SlotPublicKey, SlotSecret
from aero.mpc.cost import ProtocolCost, computed, message
from aero.mpc.party import Party, Role, parse


def exchange_keys(party: Party, client: Sequence[Params | Field], server: Sequence[Params | Field] = ()) -> None:
    """`client`, `server`: under what that party will encrypt; both parties give the same lists."""
    mine, theirs = (client, server) if party.is_client else (server, client)
    secrets, errors = party.stream("secret keys"), party.stream("key errors")
    for params in mine:
        if isinstance(params, Field):
            party.slot_secrets[params] = slot_secret = SlotSecret.generate(params, secrets)
            party.channel.send(slot_secret.public_key(party.fresh_seed(), errors).to_bytes())
        else:
            party.secret_keys[params] = secret = SecretKey.generate(params, secrets)
            party.channel.send(secret.public_keys(party.fresh_seed(), errors).to_bytes())
    for params in theirs:
        data = party.channel.recv(_size(params), np.uint8).data
        if isinstance(params, Field):
            party.peer_slot_keys[params] = parse(SlotPublicKey.from_bytes, params, data)
        else:
            party.peer_keys[params] = parse(PublicKeys.from_bytes, params, data)


def drop_keys(party: Party, role: Role) -> None:
    """Forget the keys of parameters, not of fields, under which `role` encrypts: its secrets, or what it published.
    Both parties call this at the same point; what is needed again goes through `exchange_keys` once more."""
    if party.role is role:
        party.secret_keys.clear()
    else:
        party.peer_keys.clear()


def keys_cost(client: Sequence[Params | Field], server: Sequence[Params | Field] = ()) -> ProtocolCost:
    """Bytes and rounds of `exchange_keys`: both parties' messages travel at the same time."""
    total = ProtocolCost()
    for role, several in ((Role.CLIENT, client), (Role.SERVER, server)):
        for params in several:
            name = (
                f"slots of {params.p.bit_length()}" if isinstance(params, Field) else f"{params.modulus.bit_length()}"
            )
            total |= message(role, _size(params))
            total |= computed(role, {f"draw key {name}": 1}) | computed(role.other, {f"take key {name}": 1})
    return total


def _size(params: Params | Field) -> int:
    return SlotPublicKey.byte_size(params) if isinstance(params, Field) else PublicKeys.byte_size(params)
