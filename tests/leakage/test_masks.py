"""What a party sees must not depend on the other's secret: distributions, and mutations that each test must notice.

The tests know the client's key and every other secret. Randomness is seeded, so that a test that passes keeps passing.
A mutation takes one mask away, by a patch that exists nowhere outside this file; the test that guards the mask must
then fail.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from aero.kernels.lattice_matmul import MatmulPlan, Response
from aero.kernels.ntt import Ntt
from aero.kernels.prg import Prg
from aero.kernels.rlwe import LARGEST, NOISE_VARIANCE, SHARES, WEIGHTS, Ciphertexts, Params, SecretKey
from aero.mpc import share as share_module
from aero.mpc.fixed_point import to_ring
from aero.mpc.party import Party, Role
from aero.mpc.protocols import linear, pair
from aero.mpc.protocols.keys import exchange_keys
from aero.mpc.share import Share, input_shares
from mpc.parties import SeededParty, run_both

ROWS, INNER, COLUMNS = 64, 32, 64
BITS, OUT = 41, 25
PRODUCT = MatmulPlan(WEIGHTS, ROWS, INNER, COLUMNS, BITS, 64, 32, 2, 32, OUT)
PLAN = linear.LinearPlan(PRODUCT, prepared=False)
PAIR_PRODUCT = MatmulPlan(SHARES, ROWS, INNER, COLUMNS, BITS, 64, 32, 2, 32, OUT, batch=2)
PAIR = pair.PairPlan(2, ROWS, INNER, COLUMNS, 1, (pair.Block(0, ROWS, INNER, COLUMNS),), (PAIR_PRODUCT,))
JOINED_PRODUCT = MatmulPlan(SHARES, ROWS, 2 * INNER, 2 * COLUMNS, BITS, 64, 32, 2, 32, OUT)
JOINED = pair.PairPlan(2, ROWS, INNER, COLUMNS, 2, PAIR.blocks, (JOINED_PRODUCT,))
CLASSES = 64


def chi_squared(values: np.ndarray, bits: int) -> float:
    """How far six bits at the top, in the middle and at the bottom (but the last) are from uniform, in standard
    deviations. The bottom ones of a phase lie below a whole step: there, only a mask of the whole range hides noise."""
    worst = 0.0
    for shift in (bits - 6, bits // 2 - 3, min(3, bits - 6), 1):
        counts = np.bincount(
            ((values >> np.uint64(shift)) % np.uint64(CLASSES)).astype(int).reshape(-1), minlength=CLASSES
        )
        expected = counts.sum() / CLASSES
        statistic = ((counts - expected) ** 2 / expected).sum()
        worst = max(worst, float((statistic - (CLASSES - 1)) / (2 * (CLASSES - 1)) ** 0.5))
    return worst


def assert_uniform(values: np.ndarray, bits: int) -> None:
    assert values.size >= 50 * CLASSES
    assert chi_squared(values, bits) < 6  # a probability of about 1e-7 for each


def seeds(run: int) -> tuple[bytes, bytes]:
    return tuple(f"leakage {run:>4} {role.name:<6}".encode().ljust(32) for role in Role)  # type: ignore[return-value]


class View:
    """What happened in one run of a protocol on fixed secrets: responses, and both parties' parts of the result."""

    def __init__(self, client: Share, server: Share, responses: list[Response], party: Party, upload: bytes) -> None:
        self.shares = {Role.CLIENT: client, Role.SERVER: server}
        self.responses = responses
        self.client = party
        self.upload = upload


def run_linear(
    run: int,
    w: np.ndarray | None = None,
    x: np.ndarray | None = None,
    *,
    calls: int = 1,
    plan: linear.LinearPlan = PLAN,
) -> View:
    """`calls` products of the same secrets in one session; the shares are those of the last."""
    w = np.full((INNER, COLUMNS), 777) if w is None else w
    x = np.full((ROWS, INNER), 5) if x is None else x
    loaded = linear.load_weights(plan, w)
    responses: list[Response] = []
    uploads: list[bytes] = []

    def program(party: Party) -> Share:
        exchange_keys(party, (WEIGHTS,))
        mine = to_ring(x, BITS) if party.is_client else np.zeros((ROWS, INNER), np.uint64)
        weights = None if party.is_client else loaded
        return [plan.run(party, Share(mine, BITS, 14), 16, weights) for _ in range(calls)][-1]

    with kept(responses, uploads):
        outcome = run_both(program, seeds(run))
    return View(*outcome.results, responses, outcome.parties[0], uploads[0])


def run_pair(run: int, plan: pair.PairPlan, *, jobs: int = 1) -> tuple[dict[Role, list[Share]], list[list[np.ndarray]]]:
    """`jobs` products of the same secrets in the same two messages. Each party's shares, and, for either key, what it
    made of the response to each job."""
    x, y = np.full((2, ROWS, INNER), 3, np.uint64), np.full((2, INNER, COLUMNS), 2**40, np.uint64)
    decrypt = MatmulPlan.decrypt
    decrypted: dict[SecretKey, list[np.ndarray]] = {}

    def keep(self: MatmulPlan, secret: SecretKey, response: Response) -> np.ndarray:
        found = decrypt(self, secret, response)
        decrypted.setdefault(secret, []).append(found)
        return found

    def program(party: Party) -> list[Share]:
        exchange_keys(party, (SHARES,), (SHARES,))
        mine = (x, y) if party.is_client else (np.zeros_like(x), np.zeros_like(y))
        return pair.multiply_pairs(party, [(plan, Share(mine[0], BITS, 14), Share(mine[1], BITS, 14))] * jobs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MatmulPlan, "decrypt", keep)
        outcome = run_both(program, seeds(run))
    return dict(zip(Role, outcome.results, strict=True)), list(decrypted.values())


def pair_responses(run: int) -> list[np.ndarray]:
    """a of what either party sends in a product of shares that are zero."""
    responses: list[Response] = []

    def program(party: Party) -> Share:
        exchange_keys(party, (SHARES,), (SHARES,))
        x, y = np.zeros((2, ROWS, INNER), np.uint64), np.zeros((2, INNER, COLUMNS), np.uint64)
        return PAIR.run(party, Share(x, BITS, 14), Share(y, BITS, 14))

    with kept(responses, []):
        run_both(program, seeds(run))
    return [response.a for response in responses]


@contextlib.contextmanager
def kept(responses: list[Response], uploads: list[bytes]) -> Iterator[None]:
    """Keep what is sent."""
    respond, upload = Response.to_bytes, Ciphertexts.to_bytes

    def keep_response(self: Response, plan: MatmulPlan) -> bytes:
        responses.append(self)
        return respond(self, plan)

    def keep_upload(self: Ciphertexts) -> bytes:
        uploads.append(upload(self))
        return uploads[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Response, "to_bytes", keep_response)
        patch.setattr(Ciphertexts, "to_bytes", keep_upload)
        yield


def phase(view: View, call: int = 0) -> np.ndarray:
    """b + a s of a response, modulo 2^(bits of a): what the client's key makes of it."""
    response = view.responses[call]
    b_bits, a_bits = PRODUCT.response_bits
    times = view.client.secret_key(WEIGHTS).times(response.a, a_bits).reshape(-1)[PRODUCT._where()]
    return (response.b << np.uint64(a_bits - b_bits)) + times & np.uint64(2**a_bits - 1)


# Checks, each of which guards a mask


def check_phase() -> None:
    """The phase of a response on every coefficient that is sent, for a result that is the same in every run."""
    values = np.concatenate([phase(run_linear(run)) for run in range(2)])
    assert_uniform(values, PRODUCT.response_bits[1])


def check_fresh_masks() -> None:
    """Two products of one session on the same secrets: a mask that came twice would show their difference."""
    view, bits = run_linear(0, calls=2), PRODUCT.response_bits[1]
    assert_uniform((phase(view, 1) - phase(view, 0)) & np.uint64(2**bits - 1), bits)


def check_fresh_zero_encryptions() -> None:
    """The same of a, where weights of zero leave nothing but the encryption of zero: u that came twice would cancel."""
    view, bits = run_linear(0, w=np.zeros((INNER, COLUMNS), np.int64), calls=2), PRODUCT.response_bits[1]
    first, second = (response.a for response in view.responses)
    assert_uniform((second - first) & np.uint64(2**bits - 1), bits)


def check_parts_of_weights() -> None:
    for role in Role:
        assert_uniform(np.concatenate([run_linear(run).shares[role].values for run in range(2)]), OUT)


def check_parts_of_pair() -> None:
    for plan in (PAIR, JOINED):
        for (share,) in run_pair(0, plan)[0].values():
            assert_uniform(share.values, OUT)


def check_parts_of_jobs() -> None:
    """Two products of the same secrets in one message: each party's share of each, and of their difference; and the
    difference of what each party decrypts, which a mask of the other that came twice would leave to the noise."""
    shares, decrypted = run_pair(0, PAIR, jobs=2)
    assert len(decrypted) == len(Role)
    for first, second in shares.values():
        assert_uniform(first.values, OUT)
        assert_uniform(second.values, OUT)
    for first, second in [*([share.values for share in both] for both in shares.values()), *decrypted]:
        assert_uniform(second - first & np.uint64(2**OUT - 1), OUT)


def check_random_part() -> None:
    """a of a response is uniform even where the weights are zero: then nothing of the client's a is left in it."""
    a = run_linear(0, w=np.zeros((INNER, COLUMNS), np.int64)).responses[0].a
    assert_uniform(a, PRODUCT.response_bits[1])


def check_random_part_hides_weights() -> None:
    """a minus what the client would compute for a guess of the weights is uniform, even for the right guess."""
    guess = run_linear(0).responses[0].a
    with no_zero_encryption():
        exact = run_linear(0).responses[0].a
    bits = PRODUCT.response_bits[1]
    assert_uniform((guess - exact) & np.uint64(2**bits - 1), bits)


def check_random_parts_of_one_response() -> None:
    """The a of several packed ciphertexts, each and their differences, for weights of zero: one u for all would cancel,
    and leave differences of products of the weights."""
    plan = linear.LinearPlan(MatmulPlan(WEIGHTS, ROWS, INNER, 3 * COLUMNS, BITS, 64, 32, 2, 32, OUT), prepared=False)
    a = run_linear(0, w=np.zeros((INNER, 3 * COLUMNS), np.int64), plan=plan).responses[0].a
    assert len(a) == 3
    assert_all_apart(a, plan.product.response_bits[1])


def check_random_parts_of_pair() -> None:
    """The same of products of shares, both directions, for factors of zero: two heads, each with a ciphertext."""
    for responses in pair_responses(0):
        assert len(responses) == 2
        assert_all_apart(responses, PAIR_PRODUCT.response_bits[1])


def assert_all_apart(a: np.ndarray, bits: int) -> None:
    for one in a:
        assert_uniform(one, bits)
    for first, second in itertools.combinations(a, 2):
        assert_uniform(second - first & np.uint64(2**bits - 1), bits)


def check_upload() -> None:
    """What the server sees of a share that is the same in every run: b's coefficients."""
    (q,) = WEIGHTS.primes
    for run in range(2):
        b = WEIGHTS.unpack(run_linear(run).upload[16:], 1, PRODUCT.uploads)
        assert_uniform(Ntt(WEIGHTS.n, q).inverse(b), 50)


def check_upload_noise() -> None:
    """b + a s of a ciphertext, minus the message: Gaussian of variance 16. Without it, a and b tell s."""
    view, (q,) = run_linear(0, x=np.zeros((ROWS, INNER), np.int64)), WEIGHTS.primes
    upload = Ciphertexts.from_bytes(WEIGHTS, view.upload, PRODUCT.uploads)
    secret = view.client.secret_key(WEIGHTS).transform[: WEIGHTS.n]
    masked = np.array([[int(a) * int(s) % q for a, s in zip(upload.a[0, 0], secret, strict=True)]], dtype=np.uint64)
    noise = Ntt(WEIGHTS.n, q).inverse((upload.b[0] + masked) % np.uint64(q)).astype(np.int64).reshape(-1)
    noise = np.where(noise > q // 2, noise - q, noise)
    assert np.abs(noise).max() <= LARGEST
    assert abs(noise.mean()) < 6 * (NOISE_VARIANCE / noise.size) ** 0.5
    assert abs(noise.var() - NOISE_VARIANCE) < 6 * NOISE_VARIANCE * (2 / noise.size) ** 0.5


def check_inputs() -> None:
    values: dict[Role, list[np.ndarray]] = {role: [] for role in Role}
    x = np.full((80, 50), 9, np.uint64)
    for run in range(2):
        outcome = run_both(
            lambda party: input_shares(party, Role.CLIENT, x.shape, OUT, 0, x if party.is_client else None), seeds(run)
        )
        for role in Role:
            values[role].append(outcome.results[role].values)
    for role in Role:
        assert_uniform(np.concatenate(values[role]), OUT)
        assert np.mean(values[role][0] == values[role][1]) < 0.01


def check_fresh_seeds() -> None:
    """A public seed never comes twice: the same a with two messages would show their difference."""
    outcome = run_both(lambda party: [party.fresh_seed() for _ in range(50)], seeds(0))
    drawn = [seed for result in outcome.results for seed in result]
    assert len(set(drawn)) == len(drawn)


def check_zero_encryption_noise() -> None:
    """The phase of an encryption of zero has the variance of a whole one: n (u times the key's noise, e_a times s), and
    e_b; half of it would be missing without either of the first two."""
    plan = MatmulPlan(WEIGHTS, ROWS, INNER, COLUMNS, 46, 64, 32, 2, 32, 46, guard_a=5)  # q' close to q: noise shows
    secret_stream, errors = (Prg(seeds(0)[0], label) for label in ("secret", "key errors"))
    secret = SecretKey.generate(WEIGHTS, secret_stream)
    keys = secret.public_keys(seeds(1)[0][:16], errors)
    upload = plan.encrypt(secret, np.zeros((ROWS, INNER), np.uint64), seeds(2)[0][:16], errors)
    packed = plan.evaluate(keys, plan.load(upload), plan.encode_weights(np.zeros((INNER, COLUMNS), np.int64)))
    response, share = plan.respond(keys, packed, Prg(seeds(3)[0], "test/errors"), Prg(seeds(4)[0], "test/masks"))
    total = plan.rounded(plan.decrypt(secret, response)) + plan.rounded(share) & np.uint64(2**46 - 1)
    error = (total << np.uint64(18)).view(np.int64) >> np.int64(18)
    expected = (NOISE_VARIANCE * (2 * NOISE_VARIANCE * WEIGHTS.n + 1)) ** 0.5 * 2.0**46 / WEIGHTS.modulus
    assert 0.9 * expected < error.std() < 1.15 * expected


CHECKS = [
    check_phase,
    check_fresh_masks,
    check_fresh_zero_encryptions,
    check_parts_of_weights,
    check_parts_of_pair,
    check_parts_of_jobs,
    check_random_part,
    check_random_part_hides_weights,
    check_random_parts_of_one_response,
    check_random_parts_of_pair,
    check_upload,
    check_upload_noise,
    check_inputs,
    check_fresh_seeds,
    check_zero_encryption_noise,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_views_are_independent_of_secrets(check) -> None:
    check()


# Mutations


@contextlib.contextmanager
def draws(method: str, purpose: str, change) -> Iterator[None]:
    """Change what a stream of this purpose gives."""
    original = getattr(Prg, method)

    def changed(self: Prg, *args, **kwargs):
        drawn = original(self, *args, **kwargs)
        return change(drawn) if self.label.endswith(purpose) else drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prg, method, changed)
        yield


@contextlib.contextmanager
def no_zero_encryption() -> Iterator[None]:
    """Responses whose encryption of zero is all zero: u = e_a = e_b = 0."""
    original = MatmulPlan.respond

    class Zeros:
        def gaussian(self, shape, deviation):
            return np.zeros(shape, np.int8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            MatmulPlan, "respond", lambda self, keys, packed, _, masks: original(self, keys, packed, Zeros(), masks)
        )
        yield


@contextlib.contextmanager
def changed_u(change: Callable[[np.ndarray], np.ndarray]) -> Iterator[None]:
    """Another u, the first of three draws of an encryption of zero."""
    original = MatmulPlan.respond

    class Errors:
        def __init__(self, errors: Prg) -> None:
            self.errors, self.drawn = errors, 0

        def gaussian(self, shape, deviation):
            drawn, self.drawn = self.errors.gaussian(shape, deviation), self.drawn + 1
            return change(drawn) if self.drawn == 1 else drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            MatmulPlan,
            "respond",
            lambda self, keys, packed, errors, masks: original(self, keys, packed, Errors(errors), masks),
        )
        yield


def no_mask():
    return draws("uniform", "/masks", np.zeros_like)


def short_mask():
    """Only multiples of a whole step: the noise would show below."""
    step = np.uint64(PRODUCT.guard_a)
    return draws("uniform", "/masks", lambda mask: mask >> step << step)


def half_of_the_mask():
    """Some coefficients are sent without a mask."""
    return draws("uniform", "/masks", lambda mask: np.where(np.arange(mask.shape[-1]) % 2 == 0, mask, np.uint64(0)))


def no_u():
    return changed_u(np.zeros_like)


def one_u():
    """For all packed ciphertexts of a response the same."""
    return changed_u(lambda u: np.broadcast_to(u[:1], u.shape).copy())


def no_noise():
    return draws("gaussian", "/errors", np.zeros_like)


@contextlib.contextmanager
def rewound(method: str, purpose: str) -> Iterator[None]:
    """A stream of this purpose begins anew before every draw."""
    original = getattr(Prg, method)

    def changed(self: Prg, *args, **kwargs):
        if self.label.endswith(purpose):
            assert self._next_block >= 0
            self._next_block = 0
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prg, method, changed)
        yield


def repeated_masks():
    return rewound("uniform", "/masks")


def repeated_u():
    return rewound("gaussian", "/errors")


def no_input_mask():
    return draws("uniform", "input", np.zeros_like)


@contextlib.contextmanager
def no_random_part_in_uploads() -> Iterator[None]:
    original = Params.expand

    def changed(self, seed, label, residues, count):
        drawn = original(self, seed, label, residues, count)
        return np.zeros_like(drawn) if label == "upload" else drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Params, "expand", changed)
        yield


@contextlib.contextmanager
def repeated_seeds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SeededParty, "fresh_seed", lambda self: bytes(16))
        patch.setattr(Party, "fresh_seed", lambda self: bytes(16))
        yield


MUTATIONS = [
    (no_mask, check_phase),
    (no_mask, check_parts_of_weights),
    (no_mask, check_parts_of_pair),
    (short_mask, check_phase),
    (repeated_masks, check_fresh_masks),
    (repeated_u, check_fresh_zero_encryptions),
    (half_of_the_mask, check_phase),
    (half_of_the_mask, check_parts_of_pair),
    (no_mask, check_parts_of_jobs),
    (repeated_masks, check_parts_of_jobs),
    (no_zero_encryption, check_random_part),
    (no_zero_encryption, check_random_part_hides_weights),
    (no_u, check_random_part),
    (no_u, check_zero_encryption_noise),
    (one_u, check_random_parts_of_one_response),
    (one_u, check_random_parts_of_pair),
    (no_zero_encryption, check_random_parts_of_one_response),
    (no_zero_encryption, check_random_parts_of_pair),
    (no_noise, check_zero_encryption_noise),
    (no_random_part_in_uploads, check_upload),
    (no_noise, check_upload_noise),
    (no_input_mask, check_inputs),
    (repeated_seeds, check_inputs),
    (repeated_seeds, check_fresh_seeds),
]


@pytest.mark.parametrize("mutation, check", MUTATIONS, ids=lambda f: f.__name__.removeprefix("check_"))
def test_a_missing_mask_is_noticed(mutation, check) -> None:
    with mutation(), pytest.raises(AssertionError):
        check()


def test_the_library_offers_no_way_to_seed_or_to_leave_a_mask_out() -> None:
    """Streams come from the operating system; nothing of these tests is in the package."""
    import inspect

    assert list(inspect.signature(Party.__init__).parameters) == ["self", "role", "channel"]
    assert "Prg.from_os" in inspect.getsource(Party._new_stream)
    for module in (linear, pair, share_module):
        source = inspect.getsource(module)
        assert "Prg.from_os" not in source  # they take a party's streams
        assert "random.default_rng" not in source and "import random" not in source
