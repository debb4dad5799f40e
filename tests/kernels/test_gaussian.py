"""The discrete Gaussian: its table against exact probabilities, samples against both, and what the scan looks at."""

import math
from fractions import Fraction

import numpy as np
import pytest

from aero.kernels import gaussian, native
from aero.kernels.native import _native
from aero.kernels.prg import Prg, derive_key
from aero.kernels.reference import prg as reference
from aero.kernels.rlwe import DEVIATION

SEED = bytes(range(32))
COUNT = 2**20


def exact(deviation: Fraction, largest: int) -> list[Fraction]:
    """P(x), x = 0, 1, ..., from exp's series in rational numbers: to 2^-120 and better."""

    def weight(x: int) -> Fraction:
        argument = Fraction(x * x) / (2 * deviation**2)
        base, power, term, total = argument / 2**12, 1, Fraction(1), Fraction(1)
        for power in range(1, 24):  # exp(-base), base < 1/16, then squared twelve times
            term = -term * base / power
            total += term
        for _ in range(12):
            total = Fraction(round(total * total * 2**300), 2**300)
        return total

    weights = [weight(x) for x in range(largest + 30)]
    total = 2 * sum(weights) - weights[0]
    return [w / total for w in weights]


@pytest.mark.parametrize("deviation", [DEVIATION, 3.24, 1.0])
def test_thresholds_are_exact_probabilities(deviation: float) -> None:
    table = gaussian.thresholds(deviation)
    chances = exact(Fraction(deviation), len(table))
    below, found = Fraction(0), []
    for x, chance in enumerate(chances):
        below += chance if x == 0 else 2 * chance
        found.append(round(below * 2**63))
    assert list(table) == [threshold for threshold in found if threshold < 2**63]
    taken = np.diff([0, *map(Fraction, table), Fraction(2**63)]) / 2**63
    apart = [
        abs((chance if x == 0 else 2 * chance) - t) for x, (chance, t) in enumerate(zip(chances, taken, strict=False))
    ]
    assert sum(apart) / 2 + sum(chances[len(taken) :]) < Fraction(1, 2**59)  # total variation
    assert len(table) == gaussian.largest(deviation) <= math.ceil(9.4 * deviation)


@pytest.mark.parametrize("level", native.available_levels())
def test_a_sample_is_its_word_by_definition(level: str) -> None:
    """Against integers; and at every threshold, one below and one above it, as the key's words are moved there."""
    key = derive_key(SEED, "g")
    words = list(map(int, reference.stream(key, 0, 8 * 5000).view("<u8")))
    table = gaussian.thresholds(DEVIATION)
    moved = tuple(sorted({min(max((word >> 1) + by, 0), 2**63 - 1) for word in words[:40] for by in (-1, 0, 1)}))
    for thresholds in (table, moved):
        out = np.empty(5000, np.int8)
        with native.use_level(level):
            _native.sample_table(key, 0, np.array(thresholds, np.uint64), out)
        assert out.tolist() == [(-1 if w & 1 else 1) * sum(w >> 1 >= t for t in thresholds) for w in words]
    assert Prg(SEED, "g").gaussian((50, 100), DEVIATION).reshape(-1).tolist() == [
        (-1 if w & 1 else 1) * sum(w >> 1 >= t for t in table) for w in words
    ]


def test_samples_fit_the_exact_distribution() -> None:
    """Chi-squared over all magnitudes that are expected 20 times; the seed is fixed, so this holds always or never."""
    drawn = Prg(SEED, "chi-squared").gaussian(COUNT, DEVIATION)
    chances = exact(Fraction(DEVIATION), gaussian.largest(DEVIATION))
    cells = [x for x in range(-30, 31) if chances[abs(x)] * COUNT > 20]
    counts = np.array([(drawn == x).sum() for x in cells] + [(np.abs(drawn) > max(cells)).sum()])
    expected = np.array([float(chances[abs(x)]) * COUNT for x in cells])
    expected = np.append(expected, COUNT - expected.sum())
    freedom = len(counts) - 1
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert abs(statistic - freedom) < 5 * math.sqrt(2 * freedom)
    assert abs(drawn.astype(float).var() - DEVIATION**2) < 5 * DEVIATION**2 * math.sqrt(2 / COUNT)


def test_normal_numbers_fit_the_normal_distribution() -> None:
    deviation = 2.0**17
    drawn = Prg(SEED, "normal").normal(COUNT, deviation) / deviation
    edges = np.linspace(-3.5, 3.5, 57)
    below = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in edges])
    expected = np.diff(np.concatenate([[0], below, [1]])) * COUNT
    counts = np.bincount(np.searchsorted(edges, drawn, side="right"), minlength=len(expected))
    freedom = len(expected) - 1
    assert abs(float(((counts - expected) ** 2 / expected).sum()) - freedom) < 5 * math.sqrt(2 * freedom)
    halves = drawn.reshape(-1, 2)
    assert abs(np.corrcoef(halves[:-1, 0], halves[1:, 0])[0, 1]) < 5 / math.sqrt(len(halves))
    assert Prg(SEED, "odd").normal((3, 5), 64).shape == (3, 5)


@pytest.mark.parametrize("deviation", [0.5, 13.0])
def test_deviations_out_of_range_are_refused(deviation: float) -> None:
    with pytest.raises(ValueError, match="give 1 to 12"):
        gaussian.thresholds(deviation)
    with pytest.raises(ValueError, match="give 64 to"):
        Prg(SEED, "x").normal(1, deviation)
