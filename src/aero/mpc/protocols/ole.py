"""[u v] modulo p, number by number: batched oblivious linear evaluation. u is one party's, v the other's.

The owner has u and a secret key, the other party v. p: a field of `aero.kernels.slots`. Up to 8192 numbers, its slots,
share a ciphertext.

1. Owner: Enc(u) under its own key, sent with the seed of its random part.                          owner -> other
2. Other: Enc(u v) by a product of polynomials, or one Enc(sum of u v) over several ciphertexts; adds a fresh public-key
   encryption of zero, which gives (b, a); sends a alone, with one prime of the modulus dropped.    other -> owner
3. [u v]: the owner has round(p/q' a s), the other party round(p/Q b).

1 round for an upload and 1 for any number of products. The result is exact, but for a failure with a probability of at
most 2^-70 for each coefficient (of a sum of G products sqrt(G) times that), which spoils its ciphertext.
docs/security/ole.md has the argument.

An upload may be multiplied many times. `encrypt_many` and `multiply_many` take several jobs, in either direction, and
run them at the same time, in one round: each party first sends all that it has to send.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_

import numpy as np

from aero.kernels.slots import KEPT_PRIMES, SLOTS, Field, SlotCiphertexts
from aero.mpc.cost import ProtocolCost, computed, message
from aero.mpc.party import Party, Role, parse
from aero.mpc.share import Words
from aero.mpc.work import Work

PART = 4
"""Ciphertexts in a message of `multiply_once`."""


@dataclass(frozen=True)
class SlotUpload:
    """The handle of what the owner encrypted, at both parties: `cts` ciphertexts with `slots` numbers in each.

    ciphertexts: at the party that is not the owner.
    """

    owner: Role
    field: Field
    cts: int
    slots: int
    ciphertexts: SlotCiphertexts | None = None

    def __post_init__(self) -> None:
        if self.cts < 1 or not 1 <= self.slots <= SLOTS:
            raise ValueError(f"{self.cts} ciphertexts of {self.slots} slots: use at least 1 with 1 to {SLOTS} slots")

    def part(self, start: int, stop: int) -> SlotUpload:
        """The ciphertexts start:stop alone."""
        ciphertexts = None if self.ciphertexts is None else self.ciphertexts.part(start, stop)
        return replace(self, cts=stop - start, ciphertexts=ciphertexts)


@dataclass(frozen=True)
class Encryption:
    """A job of `encrypt_many`. values: uint64 [cts, slots] below p, at the owner."""

    owner: Role
    field: Field
    cts: int
    slots: int
    values: Words | None = None


@dataclass(frozen=True)
class SlotProduct:
    """A job of `multiply_many`: products of an upload with `groups` times `slots` numbers v.

    values: v, uint64 [groups, slots] below p, at the party that is not the owner.
    total: the sum over all groups instead of each product.
    groups: the number of the upload's ciphertexts, if not given, and any number if that is one: it then serves for all.
    """

    upload: SlotUpload
    values: Words | None = None
    total: bool = False
    groups: int | None = None

    def __post_init__(self) -> None:
        if self.groups is None:
            object.__setattr__(self, "groups", self.upload.cts)
        if self.upload.cts not in (1, self.groups) or self.count < 1:
            raise ValueError(
                f"an upload of {self.upload.cts} ciphertexts has no {self.groups} products: give each its own"
            )

    @property
    def count(self) -> int:
        """Groups."""
        assert self.groups is not None
        return self.groups

    @property
    def responses(self) -> int:
        """Ciphertexts that come back."""
        return 1 if self.total else self.count


def encrypt_slots(party: Party, owner: Role, field: Field, values: Words | None, cts: int, slots: int) -> SlotUpload:
    """The owner encrypts uint64 [cts, slots] below p; the other party gives None. Both get the handle."""
    return encrypt_many(party, [Encryption(owner, field, cts, slots, values)])[0]


def encrypt_many(party: Party, jobs: Sequence[Encryption]) -> list[SlotUpload]:
    """Several uploads, in both directions, in one round."""
    uploads = []
    for job in jobs:
        upload = SlotUpload(job.owner, job.field, job.cts, job.slots)
        if job.owner is party.role:
            values = _given(job.values, (job.cts, job.slots), "the owner")
            secret = party.slot_secret(job.field)
            party.channel.send(secret.encrypt(values, party.fresh_seed(), party.stream("errors")).to_bytes())
        uploads.append(upload)
    for i, job in enumerate(jobs):
        if job.owner is not party.role:
            data = party.channel.recv(SlotCiphertexts.byte_size(job.field, job.cts), np.uint8)
            ciphertexts = parse(SlotCiphertexts.from_bytes, job.field, data.data, job.cts)
            uploads[i] = SlotUpload(job.owner, job.field, job.cts, job.slots, ciphertexts)
    return uploads


def multiply_slots(
    party: Party, upload: SlotUpload, values: Words | None, *, total: bool = False, groups: int | None = None
) -> Words:
    """This party's share modulo p of each product, uint64 [groups, slots], or of their sum, [slots]."""
    return multiply_many(party, [SlotProduct(upload, values, total, groups)])[0]


def multiply_many(party: Party, jobs: Sequence[SlotProduct]) -> list[Words]:
    """Several products, in both directions, in one round: the shares of each job, as `multiply_slots` gives them."""
    shares: list[Words] = []
    for job in jobs:
        shares.append(np.empty(0, np.uint64) if job.upload.owner is party.role else _respond(party, job))
    for i, job in enumerate(jobs):
        if job.upload.owner is party.role:
            shares[i] = _receive(party, job)
    return shares


def multiply_once(party: Party, owner: Role, field: Field, values: Words) -> Words:
    """This party's share modulo p of each product of the owner's and the other's `values`, uint64 [groups, slots].

    For uploads that are multiplied once: they go in parts, and the owner encrypts the next one while the other party
    multiplies. Rounds as of `encrypt_slots` and `multiply_slots`.
    """
    parts = [values[start : start + PART] for start in range(0, len(values), PART)]
    if party.role is owner:
        uploads = [encrypt_slots(party, owner, field, part, *part.shape) for part in parts]
        return np.concatenate([multiply_slots(party, upload, None) for upload in uploads])
    return np.concatenate(
        [multiply_slots(party, encrypt_slots(party, owner, field, None, *part.shape), part) for part in parts]
    )


def multiply_once_cost(owner: Role, field: Field, groups: int) -> ProtocolCost:
    sizes = [min(PART, groups - start) for start in range(0, groups, PART)]
    return reduce(or_, [upload_cost(owner, field, size) + product_cost(owner, field, size) for size in sizes])


def upload_cost(owner: Role, field: Field, cts: int) -> ProtocolCost:
    """Of `encrypt_slots`; costs of jobs at the same time are joined by |."""
    return message(owner, SlotCiphertexts.byte_size(field, cts)) | computed(owner, _work(field, encrypt=cts))


def product_cost(owner: Role, field: Field, groups: int, *, total: bool = False) -> ProtocolCost:
    """Of `multiply_slots`: a ciphertext comes back to the owner for each group, or one for a total."""
    responses = 1 if total else groups
    answered = message(owner.other, field.polynomial_bytes(KEPT_PRIMES, responses))
    multiplied = computed(owner.other, _work(field, multiply=groups, answer=responses))
    return answered | multiplied | computed(owner, _work(field, decrypt=responses))


def _work(field: Field, **kernels: int) -> Work:
    return {f"slots {name} {field.p.bit_length()}": count for name, count in kernels.items()}


def _respond(party: Party, job: SlotProduct) -> Words:
    upload = job.upload
    if upload.ciphertexts is None:
        raise ValueError("this upload was made for another party: use what encrypt_slots returned to this one")
    values = _given(job.values, (job.count, upload.slots), "the party that does not own the upload")
    key = party.slot_key_of_peer(upload.field)
    response, share = key.respond(upload.ciphertexts, values, party.stream("errors"), total=job.total)
    party.channel.send(upload.field.pack(response))
    return _shaped(share, job)


def _receive(party: Party, job: SlotProduct) -> Words:
    field = job.upload.field
    data = party.channel.recv(field.polynomial_bytes(KEPT_PRIMES, job.responses), np.uint8)
    response = parse(field.unpack, data.data, KEPT_PRIMES, job.responses)
    return _shaped(party.slot_secret(field).decrypt(response), job)


def _shaped(share: Words, job: SlotProduct) -> Words:
    """Without the slots that nobody asked for."""
    wanted = np.ascontiguousarray(share[:, : job.upload.slots])
    return wanted[0] if job.total else wanted


def _given(values: Words | None, shape: tuple[int, int], who: str) -> Words:
    if values is None or values.shape != shape:
        raise ValueError(f"{who} gives values [{shape[0]}, {shape[1]}], not {None if values is None else values.shape}")
    return values
