"""Matrix products under RLWE against exact integers and the reference, and one instruction set against another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero.kernels import native
from aero.kernels.lattice_matmul import (
    PART_BYTES,
    Columns,
    MatmulPlan,
    Response,
    bytes_of,
    empty_part,
    packed_integers,
    unpacked_integers,
)
from aero.kernels.lattice_noise import ColumnSizes, share_noise, weight_noise
from aero.kernels.ntt import Ntt
from aero.kernels.prg import Prg
from aero.kernels.reference import rlwe as reference
from aero.kernels.rlwe import DEVIATION, SHARES, WEIGHTS, WIDE, Ciphertexts, Params, PublicKeys, SecretKey

LEVELS = native.available_levels()
SEED = bytes(range(16))
RNG = np.random.default_rng(0)


def stream(label: str) -> Prg:
    return Prg(b"test seed of 16.", label)


_keys: dict[Params, tuple[SecretKey, PublicKeys]] = {}


def keys_of(params: Params) -> tuple[SecretKey, PublicKeys]:
    if params not in _keys:
        secret = SecretKey.generate(params, stream("secret"))
        _keys[params] = secret, secret.public_keys(SEED, stream("errors"))
    return _keys[params]


def plan_of(params: Params, shape: tuple[int, int, int], ring_bits: int, tile: tuple[int, ...], **more) -> MatmulPlan:
    """With tile = (d0, d1, merge)."""
    d0, d1, merge = tile
    more.setdefault("output_bits", min(ring_bits, 54))
    return MatmulPlan(params, *shape, ring_bits, d0, d1, params.n // (d0 * d1), merge, **more)


def random_ring(shape: tuple[int, ...], bits: int) -> np.ndarray:
    return RNG.integers(0, 2**64, shape, dtype=np.uint64) >> np.uint64(64 - bits)


def run(plan: MatmulPlan, x: np.ndarray, w: np.ndarray, addend: np.ndarray | None = None, prepared: bool = False):
    """Both shares, by way of the bytes on the wire."""
    secret, public = keys_of(plan.params)
    upload = plan.encrypt(secret, x, SEED, stream("errors")).to_bytes()
    assert len(upload) == plan.upload_bytes
    loaded = plan.load(Ciphertexts.from_bytes(plan.params, upload, plan.uploads), addend)
    weights = plan.encode_weights(w)
    packed = plan.evaluate(public, loaded, plan.prepare_weights(weights) if prepared else weights)
    response, fine = plan.respond(public, packed, stream("errors of the evaluator"), stream("masks"))
    data = response.to_bytes(plan)
    assert len(data) == plan.response_bytes
    return plan.rounded(plan.decrypt(secret, Response.from_bytes(plan, data))), plan.rounded(fine)


def errors_of(plan: MatmulPlan, shares: tuple[np.ndarray, np.ndarray], x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Error in units of the output's last place, against the exact product modulo 2^ring_bits."""
    shape = (plan.batch, plan.rows, plan.inner), (plan.batch, plan.inner, plan.columns)
    exact = x.reshape(shape[0]) @ w.reshape(shape[1]).astype(np.uint64)
    up = np.uint64(plan.ring_bits - plan.output_bits)
    difference = ((shares[0] + shares[1]) << up) - exact
    rest = np.int64(64 - plan.ring_bits)
    return (difference.astype(np.int64) << rest >> rest) / 2.0 ** int(up)


CASES = [
    # params, (T, K, M), ring bits, (d0, d1, merge), more
    (WEIGHTS, (5, 10, 7), 37, (64, 32, 32), {}),
    (WEIGHTS, (64, 32, 64), 37, (64, 32, 32), {}),  # exactly one tile, fully packed
    (WEIGHTS, (65, 33, 65), 41, (64, 32, 32), {"output_bits": 25}),
    (WEIGHTS, (1, 70, 300), 41, (1, 64, 64), {}),
    (WEIGHTS, (1, 70, 300), 41, (1, 64, 4), {}),
    (WEIGHTS, (3, 5, 9), 37, (4, 1, 1), {}),  # nothing to pack
    (WEIGHTS, (20, 40, 30), 37, (16, 16, 1), {}),  # packing switched off
    (WEIGHTS, (130, 8, 5), 37, (128, 8, 8), {"batch": 3}),
    (WEIGHTS, (1, 16, 24), 37, (1, 16, 16), {"batch": 5}),  # several products in one ciphertext
    (WEIGHTS, (2, 16, 3), 37, (1, 256, 256), {"batch": 2}),
    (WEIGHTS, (9, 64, 20), 37, (128, 32, 32), {"digits": 3}),
    (SHARES, (16, 64, 40), 37, (128, 16, 16), {"output_bits": 21}),
    (SHARES, (1, 64, 16), 25, (1, 64, 8), {"batch": 4, "output_bits": 25}),
    (WIDE, (7, 20, 9), 64, (64, 16, 16), {"output_bits": 54}),
    (WIDE, (7, 20, 9), 41, (64, 16, 4), {"batch": 2}),
]


def operands(plan: MatmulPlan, weight_bits: int) -> tuple[np.ndarray, np.ndarray]:
    x = random_ring((plan.batch, plan.rows, plan.inner), plan.ring_bits)
    w = RNG.integers(-(2**weight_bits), 2**weight_bits, (plan.batch, plan.inner, plan.columns), dtype=np.int64)
    return x, w


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("prepared", [False, True])
def test_shares_add_up_to_the_product(case: tuple, prepared: bool) -> None:
    params, shape, ring_bits, tile, more = case
    plan = plan_of(params, shape, ring_bits, tile, **more)
    own_factor_is_a_share = params != WEIGHTS or plan.digits > 1
    x, w = operands(plan, plan.ring_bits - 1 if own_factor_is_a_share else 9)
    noise = share_noise(plan) if own_factor_is_a_share else weight_noise(plan, ColumnSizes.of(*plan.digits_of(w)))
    errors = errors_of(plan, run(plan, x, w, prepared=prepared), x, w)
    assert np.abs(errors).max() <= noise.total < 2.0 ** (plan.output_bits - 8)


def test_addend_is_added() -> None:
    plan = plan_of(WEIGHTS, (10, 50, 12), 37, (16, 32, 16), batch=2)
    x, w = operands(plan, 9)
    addend = random_ring(x.shape, 37)
    errors = errors_of(plan, run(plan, x, w, addend), x + addend, w)
    assert np.abs(errors).max() <= weight_noise(plan, ColumnSizes.of(*plan.digits_of(w))).total < 2**20


@settings(max_examples=15)
@given(st.data())
def test_any_shape(data: st.DataObject) -> None:
    rows, inner, columns = (data.draw(st.integers(1, limit)) for limit in (70, 90, 200))
    batch = data.draw(st.integers(1, 3))
    log_d1 = data.draw(st.integers(0, 8))
    log_d0 = data.draw(st.integers(0, 12 - log_d1))
    merge = 1 << data.draw(st.integers(0, min(log_d1, 5)))
    output_bits = data.draw(st.sampled_from([37, 25]))
    plan = plan_of(
        WEIGHTS, (rows, inner, columns), 37, (1 << log_d0, 1 << log_d1, merge), output_bits=output_bits, batch=batch
    )
    if plan.uploads * plan.column_tiles > 3000:
        return  # a silly tiling: only slow
    x, w = operands(plan, 8)
    errors = errors_of(plan, run(plan, x, w), x, w)
    assert (
        np.abs(errors).max() <= weight_noise(plan, ColumnSizes.of(*plan.digits_of(w))).total < 2.0 ** (output_bits - 8)
    )


@pytest.mark.parametrize("case", CASES)
def test_instruction_sets_agree(case: tuple) -> None:
    params, shape, ring_bits, tile, more = case
    plan = plan_of(params, shape, ring_bits, tile, **more)
    x, w = operands(plan, 9)
    secret, public = keys_of(params)
    weights = plan.encode_weights(w)
    results = []
    for level in LEVELS:
        with native.use_level(level):
            loaded = plan.load(plan.encrypt(secret, x, SEED, stream("errors")), x)
            packed = plan.evaluate(public, loaded, weights)
            again = plan.evaluate(public, loaded, plan.prepare_weights(weights))
            response, own = plan.respond(public, packed.copy(), stream("errors"), stream("masks"))
            results.append((loaded, packed, again, response.b, response.a, own, plan.decrypt(secret, response)))
    assert np.array_equal(results[0][1], results[0][2])
    for first, other in zip(results[0], results[-1], strict=True):
        assert np.array_equal(first, other)


@pytest.mark.parametrize("size", PART_BYTES)
@pytest.mark.parametrize("case", [case for case in CASES if not {"batch", "digits"} & set(case[4])])
def test_a_matrix_by_its_columns_gives_what_its_polynomials_give(case: tuple, size: int) -> None:
    """In parts, of which each may be of another type, and lie in a larger array."""
    params, shape, ring_bits, tile, more = case
    plan = plan_of(params, shape, ring_bits, tile, **more)
    x, w = operands(plan, 10)
    w = w.reshape(shape[1:])
    secret, public = keys_of(params)
    loaded = plan.load(plan.encrypt(secret, x, SEED, stream("errors")))
    wide = np.full((shape[2], shape[1] + 5), 77)
    wide[:, 2:-3] = w.T
    wide = packed_integers(wide, size)
    cut = shape[2] // 3
    parts = (wide[:cut, 2:-3], np.ascontiguousarray(w.T[cut:], dtype=np.int32))
    columns, polynomials = Columns(parts), plan.encode_weights(w)
    assert columns.shape == shape[1:]
    assert np.array_equal(plan.evaluate(public, loaded, columns), plan.evaluate(public, loaded, polynomials))
    prepared = plan.prepare_weights(columns)
    assert prepared.size == plan.prepared_size and np.array_equal(prepared, plan.prepare_weights(polynomials))
    assert np.array_equal(plan.prepare_weights(Columns.of(w)), prepared)


@pytest.mark.parametrize("tile, columns, inner", [((1, 64, 2), 320, 700), ((64, 32, 4), 9, 2300)])
def test_many_inner_tiles_are_transformed_in_parts(tile: tuple[int, ...], columns: int, inner: int) -> None:
    """So that they stay in the cache; transforms that were made before are taken at once, for the same result."""
    plan = plan_of(WEIGHTS, (tile[0], inner, columns), 37, tile)
    x, w = operands(plan, 10)
    secret, public = keys_of(WEIGHTS)
    loaded = plan.load(plan.encrypt(secret, x, SEED, stream("errors")))
    prepared = plan.prepare_weights(plan.encode_weights(w))
    expected = plan.evaluate(public, loaded, prepared)
    for weights in (plan.encode_weights(w), Columns.of(w.reshape(inner, -1))):
        assert np.array_equal(plan.evaluate(public, loaded, weights), expected)


@pytest.mark.parametrize("size", PART_BYTES)
def test_packed_integers_are_those_that_were_packed(size: int) -> None:
    most = 2 ** (8 * size - 1)
    numbers = np.random.default_rng(size).integers(-most, most - 1, (5, 7), endpoint=True)
    numbers[0, :4] = -most, most - 1, -1, 0
    part = packed_integers(numbers, size)
    assert part.nbytes == size * numbers.size and np.array_equal(unpacked_integers(part), numbers)
    assert part.shape == empty_part((5, 7), size).shape and bytes_of(-most, most - 1) == size
    if size < 8:
        assert bytes_of(0, most) > size < bytes_of(-most - 1, 0)


def test_matrices_that_are_refused() -> None:
    plan = plan_of(WEIGHTS, (5, 10, 7), 37, (64, 32, 32))
    for parts in ((np.zeros((7, 9), np.int16),), (np.zeros((6, 10), np.int16),)):
        with pytest.raises(ValueError, match=r"a matrix .* for 1 products with \[10, 7\]"):
            plan.prepare_weights(Columns(parts))
    with pytest.raises(ValueError, match="not in a row"):
        plan.prepare_weights(Columns((np.zeros((10, 7), np.int16).T,)))
    with pytest.raises(ValueError, match="2, 3, 4 or 8 bytes"):
        plan.prepare_weights(Columns((np.zeros((7, 10), np.int8),)))
    for parts in (
        (np.zeros((7, 10), np.uint16),),
        (np.zeros((7, 10, 2), np.uint8),),
        (np.zeros((3, 10), np.int16), np.zeros((4, 9), np.int16)),
    ):
        with pytest.raises(ValueError, match="integers, of as many rows"):
            Columns(parts)


@pytest.mark.parametrize("params, merge, present", [(WEIGHTS, 8, 3), (SHARES, 2, 2)])
def test_products_and_packing_equal_the_reference(params: Params, merge: int, present: int) -> None:
    """Every coefficient of the packed ciphertexts, junk included, and of the response."""
    n, spacing, primes = params.n, 8, len(params.primes)
    residues = list(params.residues)
    plan = plan_of(params, (2, 20, present * (n // 16)), 37, (2, spacing, merge))
    assert plan.column_tiles == present or present < merge
    x, w = operands(plan, 12)
    secret, public = keys_of(params)
    upload = plan.encrypt(secret, x, SEED, stream("errors"))
    weights = plan.encode_weights(w)
    packed = plan.evaluate(public, plan.load(upload), weights).reshape(plan.packed, -1, n)
    ntts = [Ntt(n, q) for q in residues]

    def coefficients(transforms: np.ndarray, r: int) -> np.ndarray:
        return ntts[r].inverse(np.ascontiguousarray(transforms)).astype(object)

    uploaded = [
        [{r: coefficients(part[i][r], r) for r in range(primes)} for i in range(plan.inner_tiles)]
        for part in (upload.a, upload.b)
    ]
    products = []
    for tile in range(plan.column_tiles):
        parts = []
        for part in uploaded:
            total = {r: np.zeros(n, dtype=object) for r in range(primes)}
            for k in range(plan.inner_tiles):
                plain = np.zeros(n, dtype=object)
                plain[: plan.front] = weights[0, tile, k]
                for r in range(primes):
                    total[r] = (total[r] + reference.multiply(part[k][r], plain, residues[r])) % residues[r]
            parts.append(total)
        products.append((parts[0], parts[1]))
    first, last = (n // spacing).bit_length(), (n // spacing * merge).bit_length() - 1
    keys = {}
    for step in range(first, last + 1):
        a = params.expand(public.seed, f"packing-key/{step}", len(residues), primes)
        b = public.packing_b[step - (n.bit_length() - len(public.packing_b))]
        keys[step] = tuple(
            [{r: coefficients(digit[r], r) for r in range(len(residues))} for digit in part] for part in (b, a)
        )
    expected_a, expected_b = reference.pack(products, merge, spacing, keys, residues)
    assert plan.packed == 1
    for r in range(primes):
        assert np.array_equal(coefficients(packed[0, r], r), expected_a[r])
    for r in range(primes + 1):
        assert np.array_equal(coefficients(packed[0, primes + r], r), expected_b[r])

    response, fine = plan.respond(public, packed.reshape(-1), stream("errors"), stream("masks"))
    errors = stream("errors")
    u, e_b, e_a = (errors.gaussian(n, DEVIATION) for _ in range(3))
    special = params.special
    for r, q in enumerate(params.primes):
        public_a, public_b = coefficients(public.encryption_a[r], r), coefficients(public.encryption_b[r], r)
        expected_a[r] = (expected_a[r] + reference.multiply(public_a, u.astype(object), q) + e_a) % q
        zero = reference.multiply(public_b, u.astype(object), q) + e_b
        expected_b[r] = (expected_b[r] + special * zero) % q
    b_bits, a_bits = plan.response_bits
    assert np.array_equal(response.a[0].astype(object), reference.switch_modulus(expected_a, residues[:-1], a_bits))
    b = reference.switch_modulus(expected_b, residues, a_bits)
    mask = stream("masks").uniform((1, plan.rows, plan.columns), a_bits)
    masked = b[plan._where()] - mask
    half = 1 << (a_bits - b_bits - 1)
    assert np.array_equal(response.b, ((masked + half) % (1 << a_bits) >> (a_bits - b_bits)).astype(np.uint64))
    assert np.array_equal(fine, mask)
    shift = a_bits - plan.output_bits
    rounded = ((mask.astype(object) + (1 << (shift - 1))) % (1 << a_bits)) >> shift
    assert np.array_equal(plan.rounded(fine).astype(object), rounded)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("inner", [1, 15, 16, 17, 48, 300, 2048])
def test_sums_of_the_largest_products(inner: int, level: str) -> None:
    """The largest residues, of either sign, everywhere: where accumulators that are reduced too late would overflow."""
    params = WEIGHTS
    n, q, special = params.n, params.primes[0], params.special
    plan = plan_of(params, (1, inner, 1), 37, (64, 1, 1))
    _, public = keys_of(params)
    with native.use_level(level):
        for x, w in [(q - 1, -1), (q // 2, q // 2), (q // 2 + 1, q // 2 + 1), (q // 2, q // 2 + 1)]:
            ciphertexts = np.full(inner * n, x, dtype=np.uint64)
            arranged = np.empty(2 * inner * n, dtype=np.uint64)
            params.lattice.arrange(1, inner, ciphertexts, ciphertexts, None, 37, arranged)
            weights = np.full((1, 1, inner, 64), 0, dtype=np.int64)
            weights[..., 0] = w  # a constant is itself everywhere as a transform
            for form in (weights, plan.prepare_weights(weights)):
                out = plan.evaluate(public, arranged, form).reshape(-1, n)
                assert np.all(out[0].astype(object) == inner * x * w % q)
                assert np.all(out[1].astype(object) == inner * x * w * special % q)
                assert np.all(out[2] == 0)


def test_too_long_sums_are_refused() -> None:
    with pytest.raises(ValueError, match="raise d1"):
        plan_of(WEIGHTS, (1, 2049, 1), 37, (64, 1, 1))


def test_bad_plans() -> None:
    for tile, more in [
        ((64, 32, 64), {}),
        ((64, 32, 3), {}),
        ((3, 32, 1), {}),
        ((64, 32, 32), {"output_bits": 38}),
        ((64, 32, 32), {"guard_a": 1, "guard_b": 2}),
        ((64, 32, 32), {"digits": 0}),
        ((64, 32, 32), {"batch": 0}),
    ]:
        with pytest.raises(ValueError):
            plan_of(WEIGHTS, (4, 4, 4), 37, tile, **more)
    with pytest.raises(ValueError, match="output at most"):
        plan_of(WIDE, (4, 4, 4), 64, (64, 32, 32), output_bits=60)


def test_bad_operands() -> None:
    plan = plan_of(WEIGHTS, (4, 5, 6), 37, (64, 32, 32))
    secret, public = keys_of(WEIGHTS)
    x, w = operands(plan, 5)
    with pytest.raises(ValueError, match="shape"):
        plan.encrypt(secret, x[:, :3], SEED, stream("errors"))
    with pytest.raises(ValueError, match="uint64"):
        plan.encrypt(secret, x.astype(np.int64), SEED, stream("errors"))
    with pytest.raises(ValueError, match="other parameters"):
        plan.encrypt(keys_of(SHARES)[0], x, SEED, stream("errors"))
    with pytest.raises(ValueError, match="shape"):
        plan.encode_weights(w[:, :, :2])
    upload = plan.encrypt(secret, x, SEED, stream("errors"))
    few = secret.public_keys(SEED, stream("errors"), max_spacing=2)
    with pytest.raises(ValueError, match="spacing"):
        plan.evaluate(few, plan.load(upload), plan.encode_weights(w))
    other = plan_of(WEIGHTS, (4, 50, 6), 37, (64, 32, 32))
    with pytest.raises(ValueError, match="ciphertexts"):
        other.load(upload)
    with pytest.raises(ValueError, match="wrong size"):
        other.evaluate(public, plan.load(upload), other.encode_weights(np.zeros((50, 6), dtype=np.int64)))
    with pytest.raises(ValueError, match="takes"):
        Response.from_bytes(plan, bytes(plan.response_bytes - 1))


def test_the_response_says_nothing_about_the_weights() -> None:
    """With the owner's key in hand, the phase of the response is uniform, and a is not a multiple of what was sent."""
    plan = plan_of(WEIGHTS, (64, 32, 64), 37, (64, 32, 32), guard_a=7, guard_b=7)
    secret, public = keys_of(WEIGHTS)
    a_bits = plan.response_bits[1]
    x = np.zeros((64, 32), dtype=np.uint64)  # a product of zero: every structure that is left would show
    upload = plan.encrypt(secret, x, SEED, stream("errors"))
    weights = plan.encode_weights(np.ones((32, 64), dtype=np.int64))
    packed = plan.evaluate(public, plan.load(upload), weights)

    def phases(masks: Prg) -> tuple[np.ndarray, np.ndarray]:
        response, _ = plan.respond(public, packed.copy(), errors, masks)
        phase = response.b + secret.times(response.a, a_bits).reshape(-1)[plan._where()]
        return phase & np.uint64((1 << a_bits) - 1), response.a

    def chi_squared(values: np.ndarray, shift: int) -> float:
        counts = np.bincount((values.reshape(-1) >> np.uint64(shift) & np.uint64(255)).astype(np.int64), minlength=256)
        return float(((counts - values.size / 256) ** 2).sum() / (values.size / 256))

    class InsecureNoMasks(Prg):
        def uniform(self, shape, bits):
            return np.zeros(shape, dtype=np.uint64)

    errors = stream("errors")
    first, a = phases(stream("masks"))
    _, other_a = phases(stream("more masks"))
    bare, _ = phases(InsecureNoMasks(b"test seed of 16.", "none"))
    for shift in (0, 8, a_bits - 8):
        assert chi_squared(first, shift) < 400  # 255 degrees of freedom: beyond 400 once in 10^8
        assert chi_squared(a, shift) < 400
    assert chi_squared(bare, a_bits - 8) > 10000
    assert not np.any(a == other_a)  # the encryption of zero is fresh each time
    difference = a - other_a & np.uint64((1 << a_bits) - 1)
    assert chi_squared(difference, a_bits - 8) < 400
