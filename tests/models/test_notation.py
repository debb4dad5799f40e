"""Names of architectures: what they mean, and that they survive printing and parsing."""

import subprocess
import sys
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.models import notation
from aero.models.notation import KNOWN, Notation, parse

ACTIVATIONS = ["gelu", "silu", "relu", "leaky_relu", "leaky_relu_global", "identity"]


@st.composite
def notations(draw):
    ffn = draw(st.sampled_from(["plain", "scaled", "gated", "scaled_gated", "scaled_fused"]))
    return Notation(
        norm=draw(st.sampled_from(get_args(notation.Norm))),
        activation="identity" if ffn == "scaled_fused" else draw(st.sampled_from(ACTIVATIONS)),
        ffn=ffn,
        pruned=0 if ffn == "plain" else draw(st.integers(0, 40)),
        temperature=draw(st.sampled_from(["none", "per_head", "per_position"])),
        entropy_regularized=draw(st.booleans()),
        block=draw(st.sampled_from(["standard", "simplified"])),
    )


@given(notations())
def test_parse_inverts_print(x):
    assert parse(str(x)) == x


@given(notations(), st.integers(0, 4))
def test_config_fields_lead_back(x, more_layers):
    fields = x.config_fields(max(x.pruned + 1 + more_layers, 1))
    assert notation.of_fields(**fields) == x


@pytest.mark.parametrize("name", KNOWN)
def test_known_names_print_as_they_were(name):
    assert str(parse(name)) == name


def test_meaning():
    assert parse("SM+LN+G") == Notation("layer", "gelu", "plain")
    assert parse("SM+R") == Notation("none", "relu", "plain")
    assert parse("SM") == Notation("none", "identity", "plain")
    assert parse("SM+ScFFN") == Notation("none", "identity", "scaled")
    assert parse(" EReg(SM(t)+ScFuFFN_i6) ") == Notation("none", "identity", "scaled_fused", 6, "per_position", True)
    assert parse("SM+FLN(p)+LR(g)") == Notation("frozen_per_position", "leaky_relu_global", "plain")
    assert parse("SM+FRMS+SiLU+GaFFN_i1") == Notation("frozen_rms", "silu", "gated", 1)
    assert parse("SM+FRMS(p)+ScFuFFN") == Notation("frozen_rms_per_position", "identity", "scaled_fused")
    assert parse("EReg(SAS(SM+ScFFN))") == Notation("none", "identity", "scaled", 0, "none", True, "simplified")
    assert parse("SM").softmax_only
    assert not parse("SM+R").softmax_only
    assert not parse("SM+LN").softmax_only
    assert parse("SM+FRMS+ScFuFFN").softmax_only
    assert not parse("SM+FRMS+GaFFN").softmax_only, "a gate is a product of two values"
    assert not parse("SM+RMS+ScFuFFN").softmax_only


def test_pruning_removes_the_deepest_ffns():
    assert parse("SM+ScFuFFN_i2").config_fields(5)["ffn"] == ["scaled_fused"] * 3 + ["absent"] * 2
    with pytest.raises(ValueError, match="prunes 6 FFNs, but the model has 4 layers"):
        parse("SM+ScFuFFN_i6").config_fields(4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "LN+SM",
        "SM+LN+X",
        "SM+G+R",
        "SM+ScFuFFN_i0",
        "SM+ScFuFFN_i",
        "SM_i2",
        "EReg(SM",
        "EReg(EReg(SM))",
        "sm",
        "SM+G+LN",
    ],
)
def test_unknown_names_list_the_known_ones(text):
    with pytest.raises(ValueError, match=r"unknown notation.*SM\+LN\+G.*EReg\(SM\(t\)\+ScFuFFN_i6\)"):
        parse(text)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"norm": "batch"}, "norm is 'batch'"),
        ({"activation": "gelu", "ffn": "scaled_fused"}, "fused"),
        ({"ffn": "plain", "pruned": 1}, "prune"),
        ({"ffn": "scaled", "pruned": -1}, "prune"),
    ],
)
def test_what_has_no_name_is_refused(fields, word):
    with pytest.raises(ValueError, match=word):
        Notation(**fields)


def test_fields_without_a_name_are_refused():
    fields = {"norm": "none", "activation": "identity", "attention_temperature": "none", "entropy_thresholds": False}
    for ffn in (["plain", "scaled"], ["absent", "scaled"], ["fused"]):
        with pytest.raises(ValueError, match="no name for FFNs"):
            notation.of_fields(ffn=ffn, **fields)


def test_works_without_torch():
    code = """
import sys
sys.modules["torch"] = None
import importlib.util as u
find = u.find_spec
u.find_spec = lambda name, *rest: None if name == "torch" else find(name, *rest)
from aero.models import notation, presets
print(notation.parse("SM+R"), sorted(presets.SIZES)[0], "transformers" in sys.modules)
try:
    from aero.models import AeroForCausalLM
except ImportError as error:
    print(error)
"""
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == "SM+R bert-base False"
    assert "pip install" in lines[1]
