"""Products modulo p of two parties' numbers: exact, at the declared cost, in both directions at once."""

import numpy as np
import pytest

from aero.kernels.slots import P37, P50, SLOTS, Field
from aero.mpc.cost import ProtocolCost
from aero.mpc.party import Role
from aero.mpc.protocols.keys import exchange_keys, keys_cost
from aero.mpc.protocols.ole import (
    PART,
    Encryption,
    SlotProduct,
    encrypt_many,
    encrypt_slots,
    multiply_many,
    multiply_once,
    multiply_once_cost,
    multiply_slots,
    product_cost,
    upload_cost,
)
from aero.wire import ProtocolError
from mpc.parties import Run, run_both


def settled(party, first: Role = Role.CLIENT):
    """Both parties at the same round, nothing under way and `first` to send next: what follows counts by itself."""
    party.channel.exchange(np.zeros(1))
    if party.role is first:
        party.channel.recv(1)
    else:
        party.channel.send(np.zeros(1, np.uint64))
    return party.channel.traffic


def numbers(field: Field, *shape: int) -> np.ndarray:
    values = np.random.default_rng(shape[-1]).integers(0, field.p, shape, dtype=np.uint64)
    values[..., : min(shape[-1], 4)] = np.array([0, 1, field.p - 1, field.p // 2], np.uint64)[: shape[-1]]
    return values


def opened(field: Field, run) -> np.ndarray:
    client, server = (result[0] for result in run.results)
    assert client.dtype == server.dtype == np.uint64 and max(client.max(), server.max()) < field.p
    return (client + server) % np.uint64(field.p)


def exact(field: Field, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u.astype(object) * v.astype(object) % field.p


def assert_cost(run, cost: ProtocolCost, which: int = 1) -> None:
    for result in run.results:
        traffic = result[which]
        assert traffic.messages == cost.messages and traffic.rounds == cost.rounds
    client = run.results[0][which]
    assert (client.bytes_sent, client.bytes_received) == (cost.bytes_client_to_server, cost.bytes_server_to_client)


@pytest.mark.parametrize("owner", Role)
@pytest.mark.parametrize("field, groups, slots", [(P50, 3, SLOTS), (P37, 2, SLOTS), (P50, 1, 1), (P37, 2, 100)])
def test_products_and_cost(field: Field, groups: int, slots: int, owner: Role) -> None:
    u, v = numbers(field, groups, slots), numbers(field, groups, slots)[:, ::-1]

    def program(party):
        mine = party.role is owner
        exchange_keys(party, *((field,) if role is owner else () for role in Role))
        before = settled(party, owner)
        upload = encrypt_slots(party, owner, field, u if mine else None, groups, slots)
        share = multiply_slots(party, upload, None if mine else v)
        return share, party.channel.traffic - before

    run = run_both(program)
    assert np.array_equal(opened(field, run), exact(field, u, v))
    assert_cost(run, upload_cost(owner, field, groups) + product_cost(owner, field, groups))


@pytest.mark.parametrize("owner", Role)
def test_products_of_uploads_that_are_used_once(owner: Role) -> None:
    """In parts, and in the rounds of a whole."""
    field, groups, slots = P50, PART + 2, 30
    u, v = numbers(field, groups, slots), numbers(field, groups, slots)[:, ::-1]

    def program(party):
        exchange_keys(party, *((field,) if role is owner else () for role in Role))
        before = settled(party, owner)
        share = multiply_once(party, owner, field, u if party.role is owner else v)
        return share, party.channel.traffic - before

    run = run_both(program)
    assert np.array_equal(opened(field, run), exact(field, u, v))
    cost = multiply_once_cost(owner, field, groups)
    assert_cost(run, cost)
    whole = upload_cost(owner, field, groups) + product_cost(owner, field, groups)
    assert (cost.rounds, cost.messages) == (whole.rounds, whole.messages + 2)


@pytest.mark.parametrize("cts", [1, 4])
def test_totals_broadcasts_and_reuse(cts: int) -> None:
    """One upload, multiplied three times: each ciphertext or the only one with four rows, their sum, and other rows."""
    field, slots, groups = P50, 50, 4
    u, v = numbers(field, cts, slots), numbers(field, groups, slots)[:, ::-1]
    w = (v + np.uint64(1)) % np.uint64(field.p)

    def program(party):
        exchange_keys(party, (field,))
        upload = encrypt_slots(party, Role.CLIENT, field, u if party.is_client else None, cts, slots)
        before = party.channel.traffic
        factors = [None] * 3 if party.is_client else [v, v, w]
        shares = [
            multiply_slots(party, upload, given, total=total, groups=groups)
            for given, total in zip(factors, (False, True, False), strict=True)
        ]
        return *shares, party.channel.traffic - before

    run = run_both(program)
    for i, factors in enumerate((v, v, w)):
        expected = exact(field, u, factors)
        found = (run.results[0][i] + run.results[1][i]) % np.uint64(field.p)
        assert np.array_equal(found, expected.sum(axis=0) % field.p if i == 1 else expected)
    assert run.results[0][1].shape == (slots,)
    assert run.results[0][3].bytes_received == sum(
        product_cost(Role.CLIENT, field, n).bytes_server_to_client for n in (4, 1, 4)
    )


def test_both_directions_and_fields_in_one_round() -> None:
    slots = 10
    jobs = [(Role.CLIENT, P50, 1, 2, False), (Role.SERVER, P37, 2, 2, False), (Role.SERVER, P50, 3, 3, True)]
    u = [numbers(field, cts, slots) for _, field, cts, *_ in jobs]
    v = [numbers(field, groups, slots)[:, ::-1] for _, field, _, groups, _ in jobs]

    def program(party):
        exchange_keys(party, (P50,), (P37, P50))
        before = settled(party)
        uploads = encrypt_many(
            party,
            [
                Encryption(owner, field, cts, slots, u[i] if owner is party.role else None)
                for i, (owner, field, cts, *_) in enumerate(jobs)
            ],
        )
        middle = party.channel.traffic
        products = [
            SlotProduct(upload, None if upload.owner is party.role else v[i], total, groups)
            for i, (upload, (*_, groups, total)) in enumerate(zip(uploads, jobs, strict=True))
        ]
        shares = multiply_many(party, products)
        return shares, middle - before, party.channel.traffic - middle

    run = run_both(program)
    uploads = responses = ProtocolCost()
    for i, (owner, field, cts, groups, total) in enumerate(jobs):
        found = (run.results[0][0][i] + run.results[1][0][i]) % np.uint64(field.p)
        expected = exact(field, u[i], v[i])
        assert np.array_equal(found, expected.sum(axis=0) % field.p if total else expected)
        uploads |= upload_cost(owner, field, cts)
        responses |= product_cost(owner, field, 1 if total else groups)
    assert_cost(run, uploads, 1)
    assert_cost(run, responses, 2)
    assert uploads.rounds == responses.rounds == 1


def test_cost_of_keys() -> None:
    def program(party):
        exchange_keys(party, (P50, P37), (P50,))
        return party.channel.traffic

    cost = keys_cost((P50, P37), (P50,))
    client = run_both(program).results[0]
    assert (client.bytes_sent, client.bytes_received) == (cost.bytes_client_to_server, cost.bytes_server_to_client)
    assert (client.messages, client.rounds) == (3, 1)
    assert cost.bytes_server_to_client < 200_000  # an encryption key alone


def test_wrong_use_names_the_remedy() -> None:
    with pytest.raises(ValueError, match="1 to 8192 slots"):
        encrypt_slots(None, Role.CLIENT, P50, None, 1, SLOTS + 1)  # type: ignore[arg-type]

    def program(party):
        with pytest.raises(ValueError, match="run exchange_keys"):
            values = np.zeros((1, 3), np.uint64)
            encrypt_slots(party, party.role, P50, values, 1, 3)
        exchange_keys(party, (P50,))
        upload = encrypt_slots(party, Role.CLIENT, P50, np.ones((2, 3), np.uint64) if party.is_client else None, 2, 3)
        with pytest.raises(ValueError, match="give each its own"):
            SlotProduct(upload, None, groups=3)
        if not party.is_client:
            with pytest.raises(ValueError, match=r"\[2, 3\]"):
                multiply_slots(party, upload, np.zeros((2, 4), np.uint64))
            with pytest.raises(ValueError, match="below p"):
                multiply_slots(party, upload, np.full((2, 3), P50.p, np.uint64))

    run_both(program)


def test_a_damaged_response_is_an_error_on_both_sides() -> None:
    def program(party):
        exchange_keys(party, (P50,))
        with party.channel:
            upload = encrypt_slots(
                party, Role.CLIENT, P50, np.ones((1, 3), np.uint64) if party.is_client else None, 1, 3
            )
            if party.is_client:
                return multiply_slots(party, upload, None)
            party.channel.send(np.full(P50.polynomial_bytes(3, 1), 255, np.uint8))
            return party.channel.recv(1)

    run = Run(program)
    assert isinstance(run.failures[0], ProtocolError) and "below its modulus" in str(run.failures[0])
    assert isinstance(run.failures[1], ConnectionError)
