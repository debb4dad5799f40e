"""The published profiles against what was published, every row."""

import pytest

from aero.cost import estimate, load_profile
from aero.cost.published import BUMBLEBEE, ROWS
from aero.cost.simplified import simplified
from aero.models.notation import parse
from aero.models.presets import Size
from aero.structure import lowered


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_the_gb_column_within_five_percent(row):
    graph = (simplified if row.block == "simplified" else lowered)(parse(row.notation), row.size)
    gigabytes = estimate(graph, load_profile("aero-published")).total.bytes_both_ways / 1e9
    assert gigabytes == pytest.approx(row.gigabytes, rel=0.05)


def test_the_ratios_that_the_papers_claim():
    """Communication of the baseline over SM+ScFuFFN_i6: 4.00x at T=128; over SM+ScFuFFN_i4 with 18 layers: 4.23x."""
    profile = load_profile("aero-published")
    for table, name, ratio in (("T=128", "SM+ScFuFFN_i6", 4.00), ("L=18", "SM+ScFuFFN_i4", 4.23)):
        size = next(row.size for row in ROWS if row.table == table)
        base, ours = (estimate(lowered(parse(n), size), profile).total.bytes_both_ways for n in ("SM+LN+G", name))
        assert base / ours == pytest.approx(ratio, rel=0.05)


def test_what_is_not_published_is_not_made_up():
    total = estimate(lowered(parse("SM"), ROWS[0].size), load_profile("aero-published")).total
    assert total.bytes_client_to_server is None and total.rounds is None and total.compute_seconds is None


def test_the_baselines_minutes_contradict_the_stated_network():
    """At 100 Mbit/s, half of the bytes in each direction at the same time, sending alone takes twice the minutes."""
    for row in ROWS:
        if row.notation == "SM+LN+G":
            assert row.gigabytes * 1e9 / 2 * 8 / 100e6 > 2 * row.minutes * 60


@pytest.mark.parametrize("model", BUMBLEBEE)
def test_bumblebee_totals(model):
    tokens, layers, heads, width, gigabytes = BUMBLEBEE[model]
    graph = lowered(parse("SM+LN+G"), Size(30_000, tokens, layers, heads, width))
    total = estimate(graph, load_profile("bumblebee-published")).total
    assert total.bytes_both_ways / 1e9 == pytest.approx(gigabytes, rel=1e-3)


def test_bumblebee_says_nothing_of_other_architectures():
    with pytest.raises(ValueError, match="models without gelu, layer_norm or rms_norm"):
        estimate(lowered(parse("SM"), ROWS[0].size), load_profile("bumblebee-published"))
