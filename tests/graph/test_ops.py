"""What a sheet claims of its operation, checked against the operation's meaning."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

import aero.graph.ops
from aero.graph import OPS, Sheet
from aero.graph.ops.sheet import Factor, Function, Product, PublicProduct, SharedProduct, WeightProduct

ROWS, WIDTH, HEADS = 5, 8, 2
TURN = {"heads": HEADS, "rotated": 2, "base": 50.0, "start": 3}
ROUNDING = 1e-12
"""The sums here have at most ten terms, of size at most 100."""

# inputs, shapes of weights, attrs; an operation may stand here more than once
SAMPLES = [
    ("embedding", ["ids"], [(7, WIDTH)], {}),
    ("linear", ["x"], [(WIDTH, 3), (3,)], {}),
    ("linear", ["x"], [(WIDTH, 3)], {}),
    *(("gain", ["x"], [w], {}) for w in ((), (WIDTH,), (ROWS, WIDTH))),
    *(("bias", ["x"], [w], {}) for w in ((), (WIDTH,), (ROWS, WIDTH))),
    ("scale", ["x"], [], {"factor": -1.7}),
    ("add", ["x", "x"], [], {}),
    ("multiply", ["x", "x"], [], {}),
    ("layer_norm", ["x"], [], {"eps": 1e-3}),
    ("rms_norm", ["x"], [], {"eps": 1e-3}),
    ("rms_norm", ["x"], [], {"eps": 1e-3, "heads": HEADS}),
    ("relu", ["x"], [], {}),
    ("gelu", ["x"], [], {}),
    ("gelu", ["x"], [], {"form": "erf"}),
    ("silu", ["x"], [], {}),
    ("tanh", ["x"], [], {}),
    ("rotary", ["x"], [], TURN),
    ("rotary", ["x"], [], {**TURN, "factor": 2.0}),
    ("rotary", ["x"], [], {**TURN, "rotated": 4, "factor": 8.0, "low": 1.0, "high": 4.0, "original": 20.0}),
    ("scores", ["x", "x"], [], {"heads": HEADS}),
    ("scores", ["x", "x"], [], {"heads": HEADS, "mask": "none"}),
    ("scores", ["x", "narrow"], [], {"heads": HEADS, "group": HEADS}),
    ("scores", ["x", "narrow"], [], {"heads": 2 * HEADS, "group": HEADS, "mask": "none"}),
    ("softmax", ["scores"], [], {}),
    ("softmax", ["scores"], [], {"mask": "none"}),
    ("softmax", ["scores"], [], {"base": 2.0}),
    ("attend", ["probabilities", "x"], [], {}),
    ("attend", ["probabilities", "x"], [], {"mask": "none"}),
    ("attend", ["probabilities", "narrow"], [], {"group": HEADS}),
    ("attend", ["probabilities of 4", "narrow"], [], {"group": 2}),
    ("rows", ["x"], [], {"start": 1, "stop": 4}),
    ("concat_rows", ["x", "x"], [], {}),
    ("concat_columns", ["x", "narrow"], [], {}),
    ("mean_rows", ["x"], [], {}),
]
NAMES = [f"{op} {weights} {attrs}" for op, _, weights, attrs in SAMPLES]


def draw(kind: str, rng: np.random.Generator) -> np.ndarray:
    """An outlier channel, and a mean far from zero, where a forgotten term shows."""
    match kind:
        case "ids":
            return rng.integers(7, size=ROWS)
        case "x":
            return rng.normal(0.5, rng.uniform(0.1, 20.0, WIDTH), (ROWS, WIDTH))
        case "narrow":
            return draw("x", rng)[:, : WIDTH // HEADS]
        case "scores":
            return rng.normal(0, 4, (HEADS, ROWS, ROWS))
        case "probabilities of 4":
            return OPS["softmax"].meaning(rng.normal(0, 4, (4, ROWS, ROWS)))
    return OPS["softmax"].meaning(draw("scores", rng))


def sample(case: tuple, seed: int) -> tuple[Sheet, list[np.ndarray], list[np.ndarray], dict]:
    op, inputs, weights, attrs = case
    rng = np.random.default_rng(seed)
    drawn = [draw(kind, rng) for kind in inputs]
    return OPS[op], drawn, [rng.normal(0, 2, shape) for shape in weights], attrs


def largest(x: np.ndarray) -> np.ndarray:
    """Of each feature; of each head, of scores and probabilities."""
    return np.abs(x).max(axis=0) if x.ndim == 2 else np.abs(x).max(axis=(1, 2))


def test_every_operation_has_one_sheet_in_a_file_of_its_name_and_is_sampled_here():
    folder = Path(aero.graph.ops.__file__).parent
    assert {file.stem for file in folder.glob("*.py")} - {"__init__", "sheet"} == set(OPS)
    assert {op for op, *_ in SAMPLES} == set(OPS)


@pytest.mark.parametrize("fact", [field.name for field in dataclasses.fields(Sheet)])
def test_a_sheet_that_leaves_a_fact_out_cannot_be_made(fact):
    facts = vars(OPS["relu"])
    Sheet(**facts)
    with pytest.raises(TypeError, match=fact):
        Sheet(**{name: value for name, value in facts.items() if name != fact})


@pytest.mark.parametrize("case", SAMPLES, ids=NAMES)
def test_no_value_exceeds_its_bound(case):
    """Random inputs, and each feature at its bound with random signs, where a sum is largest."""
    for seed in range(20):
        sheet, inputs, weights, attrs = sample(case, seed)
        bounds = [largest(x) for x in inputs if x.ndim > 1]
        bound = sheet.bound(*bounds, *map(np.abs, weights), **attrs)
        rng, found = np.random.default_rng(seed), [sheet.meaning(*inputs, *weights, **attrs)]
        if case[0] not in ("embedding", "attend"):
            for _ in range(20):
                extreme = [
                    largest(x).reshape(-1, *[1] * (x.ndim - 2), x.shape[-1] if x.ndim == 2 else 1) for x in inputs
                ]
                signed = [np.where(rng.random(x.shape) < 0.5, -1, 1) * e for x, e in zip(inputs, extreme, strict=True)]
                found.append(sheet.meaning(*signed, *weights, **attrs))
        for value in found:
            assert bound.shape == largest(value).shape
            assert (largest(value) <= bound * (1 + ROUNDING)).all()


@pytest.mark.parametrize("case", SAMPLES, ids=NAMES)
def test_a_rounding_is_relative_to_no_less_than_the_value(case):
    sheet, inputs, weights, attrs = sample(case, 0)
    value = sheet.meaning(*inputs, *weights, **attrs)
    without_bias = sheet.meaning(*inputs, *weights[:1], **attrs)
    size = sheet.magnitude(value, *inputs, *weights, **attrs)
    assert size.shape == value.shape and (size >= np.abs(without_bias) * (1 - ROUNDING)).all()


@pytest.mark.parametrize("case", [c for c in SAMPLES if OPS[c[0]].row_by_row], ids=lambda case: case[0])
def test_what_works_row_by_row_gives_some_rows_of_its_value_from_those_of_what_it_reads(case):
    sheet, inputs, weights, attrs = sample(case, 0)
    some = slice(1, 4)
    moved = {**attrs, "start": attrs["start"] + some.start} if "start" in attrs else attrs
    cut = [w[some] if w.shape == (ROWS, WIDTH) else w for w in weights]
    found = sheet.meaning(*(x[some] for x in inputs), *cut, **moved)
    expected = sheet.meaning(*inputs, *weights, **attrs)[some]
    np.testing.assert_allclose(found, expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize(
    "case", [c for c in SAMPLES if isinstance(OPS[c[0]].arithmetic, Function)], ids=lambda case: case[0]
)
def test_a_function_depends_on_what_its_sheet_says(case):
    sheet, (x,), _, attrs = sample(case, 0)
    moved = x.copy()
    moved[..., 2, 1] += 1.0
    changed = sheet.meaning(moved, **attrs) != sheet.meaning(x, **attrs)
    others = np.delete(changed, 2, axis=-2)
    assert not others.any() and changed[..., 2, 1].all()
    assert (changed.sum() > x[..., 0, 0].size) == (sheet.arithmetic.of != "number")


@pytest.mark.parametrize("case", SAMPLES, ids=NAMES)
def test_a_positive_factor_goes_where_the_sheet_says(case):
    sheet, inputs, weights, attrs = sample(case, 0)
    x, *others = inputs
    s = 0.37
    match sheet.factor:
        case Factor.STAYS:
            return
        case Factor.PASSES:
            expected = s * sheet.meaning(x, *others, *weights, **attrs)
        case Factor.WEIGHT:
            expected = sheet.meaning(x, s * weights[0], *weights[1:], **attrs)
        case Factor.EPS:
            expected = sheet.meaning(x, **{**attrs, "eps": attrs["eps"] / s**2})
        case Factor.TERM:
            expected = s * sheet.meaning(x, others[0] / s)
    np.testing.assert_allclose(sheet.meaning(s * x, *others, *weights, **attrs), expected, rtol=1e-9, atol=ROUNDING)


@pytest.mark.parametrize("case", [c for c in SAMPLES if isinstance(OPS[c[0]].arithmetic, Product)], ids=lambda c: c[0])
def test_the_form_of_a_product_is_its_meaning_on_numbers_of_any_type(case):
    sheet, inputs, weights, attrs = sample(case, 0)
    product = sheet.arithmetic
    factors = inputs + weights[:1]
    if isinstance(product, PublicProduct):
        factors += product.constants(inputs[0].shape, **attrs)
    np.testing.assert_array_equal(product.form(*factors, **attrs), sheet.meaning(*inputs, *weights[:1], **attrs))
    integers = [np.rint(1000 * x).astype(np.int64) for x in factors]
    exact = product.form(*(x.astype(object) for x in integers), **attrs)
    found = product.form(*integers, **attrs)
    assert found.dtype == np.int64 and (found == exact).all()


def test_scalar_products_are_counted_as_they_are_written_out():
    """Each product of two shared values is a sum of products of one entry of either."""
    for op, heads, queries, keys, width in itertools.product(("scores", "attend"), (1, 2), (1, 3), (4,), (6,)):
        arithmetic = OPS[op].arithmetic
        assert isinstance(arithmetic, SharedProduct)
        for group in {1, heads}:
            first = (queries, width) if op == "scores" else (heads, queries, keys)
            counted = itertools.product(range(heads), range(queries), range(keys), range(width // heads))
            attrs = {"heads": heads, "group": group}
            assert arithmetic.terms([first, (keys, width // group)], [], attrs) == sum(1 for _ in counted)


@pytest.mark.parametrize(
    "case", [c for c in SAMPLES if isinstance(OPS[c[0]].arithmetic, SharedProduct)], ids=lambda case: case[0]
)
def test_a_product_of_shared_values_is_one_of_matrices_for_each_head(case):
    sheet, inputs, _, attrs = sample(case, 0)
    product = sheet.arithmetic
    left, right = product.factors(*inputs, **attrs)
    heads, group, queries, keys, width = product.sizes([x.shape for x in inputs], attrs)
    inner, columns = (keys, width) if product.keys == "inner" else (width, keys)
    assert left.shape == (heads, queries * group, inner) and right.shape == (heads, inner, columns)
    for kind in (np.float64, np.int64, np.uint64):
        values = [np.rint(10 * x).astype(np.int64).astype(kind) for x in inputs]
        found = product.joined(np.matmul(*product.factors(*values, **attrs)), **attrs)
        assert found.dtype == kind and (found == product.form(*values, **attrs)).all()


def test_heads_that_share_keys_compute_as_if_each_had_a_copy():
    rng = np.random.default_rng(3)
    for heads, group in ((4, 2), (6, 3), (3, 3)):
        q, k, v = (rng.normal(0, 1, (ROWS, n * 2)) for n in (heads, heads // group, heads // group))
        repeated = [np.repeat(x.reshape(ROWS, -1, 2), group, axis=1).reshape(ROWS, -1) for x in (k, v)]
        scores = OPS["scores"].meaning(q, k, heads=heads, group=group)
        np.testing.assert_allclose(scores, OPS["scores"].meaning(q, repeated[0], heads=heads), atol=ROUNDING)
        p = OPS["softmax"].meaning(scores)
        attended = OPS["attend"].meaning(p, v, group=group)
        np.testing.assert_allclose(attended, OPS["attend"].meaning(p, repeated[1]), atol=ROUNDING)


@pytest.mark.parametrize(
    "case", [c for c in SAMPLES if isinstance(OPS[c[0]].arithmetic, WeightProduct)], ids=lambda case: case[0]
)
def test_a_weight_is_a_whole_matrix_where_every_feature_counts_towards_every_one_of_the_result(case):
    sheet, (x,), weights, _ = sample(case, 0)
    moved = x.copy()
    moved[:, 0] += 1.0
    changed = (sheet.meaning(moved, *weights) != sheet.meaning(x, *weights)).any(axis=0)
    assert changed.all() if sheet.arithmetic.whole else changed.sum() == 1
