"""Every FLOPs and operation-count entry of the papers' tables."""

import math

import pytest

from aero.cost.flops import attention_flops, ffn_flops, paper_count
from aero.cost.published import MISPRINTED_FFN, ROWS, TABLES
from aero.models.notation import parse
from aero.models.presets import SIZES, Size


def count_of(row):
    return paper_count(parse(row.notation), row.size, block=row.block)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_flops_are_those_printed(row):
    count = count_of(row)
    assert round(count.attention_flops / 1e9, 1) == row.attention
    if (row.table, row.block, row.notation) not in MISPRINTED_FFN:
        assert round(count.ffn_flops / 1e9, 1) == row.ffn


def test_the_two_exceptions_are_what_is_said_of_them():
    assert set(MISPRINTED_FFN) <= {(row.table, row.block, row.notation) for row in ROWS}
    assert ffn_flops(parse("SM+ScFuFFN_i1"), 12, 128, 768) == 11 * 2 * 128 * 768**2
    assert round(ffn_flops(parse("SM+ScFuFFN_i4"), 12, 128, 768) / 1e9, 1) == 1.2
    fused = ffn_flops(parse("SM+ScFuFFN"), 12, 512, 768) / 1e9
    assert round(fused, 1) == 7.2 and math.ceil(10 * fused) / 10 == 7.3


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_nonlinear_operations_are_those_listed(row):
    layers, t = row.size.num_layers, row.size.context
    expected = {"SM": f"{12 * layers} x R^({t}x{t})"}
    if row.block == "simplified":
        expected["LN"] = f"1 x R^({t}x768)"
    elif "LN" in row.notation:
        expected["LN"] = f"{2 * layers} x R^({t}x768)"
        expected[row.notation[-1]] = f"{layers} x R^({t}x3072)"
    assert {name: str(ops) for name, ops in count_of(row).nonlinear.items()} == expected


def test_the_nonlinearity_study_keeps_what_its_names_say():
    kept = {
        "SM+LN+G": {"SM", "LN", "G"}, "SM+LN+R": {"SM", "LN", "R"}, "SM+LN": {"SM", "LN"},
        "SM+G": {"SM", "G"}, "SM+R": {"SM", "R"}, "SM": {"SM"},
    }  # fmt: skip
    for name, expected in kept.items():
        assert set(paper_count(parse(name), TABLES["T=128"]).nonlinear) == expected


def test_a_llama_without_norms_and_gates_keeps_what_its_names_say():
    kept = {
        "SM+RMS+SiLU+GaFFN": {"SM", "RMS", "SiLU"}, "SM+FRMS+R+GaFFN": {"SM", "R"}, "SM+FRMS+ScFuFFN": {"SM"},
    }  # fmt: skip
    for name, expected in kept.items():
        assert set(paper_count(parse(name), SIZES["demo-llama"]).nonlinear) == expected


def test_ffn_flops_dominate_while_the_context_is_short():
    """8/3 d is where the papers say they stop to (Jha & Reagen 2024, §2)."""
    width, notation = 768, parse("SM+LN+G")
    for context in (2047, 2048, 2049):
        ffn, attention = ffn_flops(notation, 12, context, width), attention_flops(12, context, width)
        assert (ffn > attention) == (context < 8 / 3 * width)


def test_pruned_activations_are_not_counted():
    count = paper_count(parse("SM+G+ScFFN_i2"), SIZES["nano"])
    assert count.nonlinear["G"].count == 4
    assert count.nonlinear_elements == 24 * 128 * 128 + 4 * 128 * 512


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        paper_count(parse("SM+ScFuFFN_i3"), Size(10, 4, 2, 1, 8))
    with pytest.raises(ValueError, match="choose gpt2 or simplified"):
        paper_count(parse("SM"), SIZES["nano"], block="bert")
