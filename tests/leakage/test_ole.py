"""Products in slots: what a party sees does not depend on the other's numbers; each check fails without its mask."""

import contextlib
import inspect
from collections.abc import Iterator

import numpy as np
import pytest

from aero.kernels import slots
from aero.kernels.ntt import Ntt
from aero.kernels.prg import Prg
from aero.kernels.slots import P50, SLOTS, Field, SlotCiphertexts, SlotPublicKey
from aero.mpc.party import Party, Role
from aero.mpc.protocols.keys import exchange_keys
from aero.mpc.protocols.ole import encrypt_slots, multiply_slots
from leakage.test_masks import assert_uniform, draws, repeated_seeds, rewound, seeds
from mpc.parties import run_both

CTS = 2
U = np.full((CTS, SLOTS), 5, np.uint64)
V = np.full((CTS, SLOTS), 777, np.uint64)


class View:
    """One run of two products of one upload, on fixed numbers: what was sent, and the shares of each product."""

    def __init__(self, run: int, u: np.ndarray = U, v: np.ndarray = V) -> None:
        def program(party: Party) -> list[np.ndarray]:
            exchange_keys(party, (P50,))
            upload = encrypt_slots(party, Role.CLIENT, P50, u if party.is_client else None, CTS, SLOTS)
            return [multiply_slots(party, upload, None if party.is_client else v) for _ in range(2)]

        outcome = run_both(program, seeds(run))
        self.shares = outcome.results
        self.client = outcome.parties[0]
        (_, upload), responses = outcome.sent[0], outcome.sent[1]
        size = P50.polynomial_bytes(3, CTS)
        self.responses = [P50.unpack(response[-size:], 3, CTS) for response in responses]
        self.upload = SlotCiphertexts.from_bytes(P50, upload[-SlotCiphertexts.byte_size(P50, CTS) :], CTS)


def check_shares() -> None:
    """What the client decrypts, and what the server keeps, each by itself, in slots and in coefficients; where the
    products are zero, too."""
    views = [View(0), View(1, v=np.zeros_like(V))]
    for role in Role:
        shares = np.concatenate([view.shares[role][0] for view in views])
        assert_field_uniform(shares)
        assert_field_uniform(Ntt(SLOTS, P50.p).inverse(shares))


def assert_field_uniform(values: np.ndarray) -> None:
    """Below p, as a fraction of p in 50 bits."""
    assert_uniform((values.astype(object) * 2**50 // P50.p).astype(np.uint64), 50)


def check_random_part() -> None:
    """The response is uniform even where v is zero: nothing of the upload's random part is left in it."""
    assert_primes_uniform(View(0, v=np.zeros_like(V)).responses[0])


def check_random_part_hides_factor() -> None:
    """The response minus what the client would compute for a guess of v, even for the right guess."""
    guess = View(0).responses[0]
    with no_zero_encryption():
        exact = View(0).responses[0]
    assert_primes_uniform(minus(guess, exact))


def check_fresh_zero_encryptions() -> None:
    """Two products of the same numbers: u that came twice would cancel."""
    first, second = View(0).responses
    assert_primes_uniform(minus(first, second))


def check_upload() -> None:
    """What the server sees of numbers that are the same in every run: b's coefficients."""
    b = View(0).upload.b
    assert_primes_uniform(np.stack([Ntt(SLOTS, q).inverse(rows) for rows, q in zip(b, P50.primes, strict=True)]))


def check_upload_noise() -> None:
    """b + a s of an encryption of zero: centred binomial of variance 10.5. Without it, a and b tell s."""
    view, q = View(0, u=np.zeros_like(U)), P50.primes[0]
    secret = view.client.slot_secret(P50).transform[:SLOTS].astype(object)
    phase = (view.upload.b[0].astype(object) + view.upload.a[0].astype(object) * secret) % q
    noise = Ntt(SLOTS, q).inverse(phase.astype(np.uint64)).astype(np.int64).reshape(-1)
    noise = np.where(noise > q // 2, noise - q, noise)
    assert np.abs(noise).max() <= 21
    assert abs(noise.mean()) < 6 * (10.5 / noise.size) ** 0.5
    assert abs(noise.var() - 10.5) < 6 * 10.5 * (2 / noise.size) ** 0.5


def check_fresh_randomness_of_uploads() -> None:
    """Two uploads of a session under one seed would show the difference of their numbers."""

    def program(party: Party) -> list[bytes]:
        exchange_keys(party, (P50,))
        given = np.ones((1, 1), np.uint64) if party.is_client else None
        return [encrypt_slots(party, Role.CLIENT, P50, given, 1, 1) for _ in range(2)]

    first, second = (upload.ciphertexts for upload in run_both(program, seeds(0)).results[1])
    assert first.seed != second.seed and not np.any(first.a == second.a)


def minus(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    q = np.array(P50.primes[:3], np.uint64).reshape(3, 1, 1)
    return (x + q - y) % q


def assert_primes_uniform(residues: np.ndarray) -> None:
    """The primes are a little below a power of two: so little that the missing values are not seen."""
    for rows, q in zip(residues, P50.primes, strict=False):
        assert_uniform(rows, q.bit_length())


CHECKS = [
    check_shares,
    check_random_part,
    check_random_part_hides_factor,
    check_fresh_zero_encryptions,
    check_upload,
    check_upload_noise,
    check_fresh_randomness_of_uploads,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_views_are_independent_of_secrets(check) -> None:
    check()


@contextlib.contextmanager
def no_zero_encryption() -> Iterator[None]:
    """Responses whose encryption of zero is all zero: u = e = 0."""
    original = SlotPublicKey.respond

    class Zeros:
        def ternary(self, shape):
            return np.zeros(shape, np.int8)

        def noise(self, shape, eta):
            return np.zeros(shape, np.int8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            SlotPublicKey,
            "respond",
            lambda self, uploads, values, errors, total=False: original(self, uploads, values, Zeros(), total=total),
        )
        yield


def no_ternary_u():
    return draws("ternary", "/errors", np.zeros_like)


def repeated_u():
    return rewound("ternary", "/errors")


def no_noise():
    return draws("noise", "/errors", np.zeros_like)


@contextlib.contextmanager
def no_random_part_in_uploads() -> Iterator[None]:
    original = Field.expand

    def changed(self, seed, label, count):
        drawn = original(self, seed, label, count)
        return np.zeros_like(drawn) if label == "upload" else drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Field, "expand", changed)
        yield


MUTATIONS = [
    (no_zero_encryption, check_random_part),
    (no_zero_encryption, check_random_part_hides_factor),
    (no_zero_encryption, check_fresh_zero_encryptions),
    (no_zero_encryption, check_shares),
    (no_ternary_u, check_random_part),
    (no_ternary_u, check_shares),
    (repeated_u, check_fresh_zero_encryptions),
    (no_random_part_in_uploads, check_upload),
    (no_noise, check_upload_noise),
    (repeated_seeds, check_fresh_randomness_of_uploads),
]


@pytest.mark.parametrize("mutation, check", MUTATIONS, ids=lambda f: f.__name__.removeprefix("check_"))
def test_a_missing_mask_is_noticed(mutation, check) -> None:
    with mutation(), pytest.raises(AssertionError):
        check()


def test_the_kernels_take_streams_of_their_caller() -> None:
    assert "Prg.from_os" not in inspect.getsource(slots) and "random.default_rng" not in inspect.getsource(slots)
    assert list(inspect.signature(Prg.__init__).parameters) == ["self", "seed", "label"]
