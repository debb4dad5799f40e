"""The structure of a decoder: of a notation and of a trained model the same, and another one's, written by hand."""

import dataclasses

import pytest

from aero.compiler.lower import lower
from aero.cost.simplified import simplified
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.norm import frozen_norms
from aero.models.notation import KNOWN, parse
from aero.models.presets import Size
from aero.structure import Decoder, lowered
from programs import RUNGS, random_program

SMALL = Size(30, 8, 2, 2, 16)
NAMES = [*KNOWN, "SM(t_h)+ScFuFFN", "SM+LN+G+ScFFN_i1", "SM+FLN+R", "SM+FLN(p)+ScFuFFN", "SM+LR", "SM+LN+LR(g)"]
NAMES += ["SM+RMS+SiLU+GaFFN", "SM+FRMS+R", "SM+FRMS(p)+ScGaFFN", "SM+FRMS+ScFuFFN"]


@pytest.mark.parametrize("name", [name for name in NAMES if "_i6" not in name] + ["SM+ScFuFFN_i2"])
@pytest.mark.parametrize("length", [1, 5, 8])
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama"])
def test_lowered_is_what_the_compiler_lowers(name, length, family):
    size = dataclasses.replace(SMALL, family=family)
    model = AeroForCausalLM(AeroConfig.from_notation(name, size, scale="gpt2"))
    for norm in frozen_norms(model):
        norm.blend.fill_(1)
    for every in (False, True):
        expected = lower(model, length, every_position=every).graph
        assert lowered(parse(name), size, length, every_position=every).dumps() == expected.dumps()


@pytest.mark.parametrize("rung", [rung for rung in RUNGS if "frozen" not in rung])
@pytest.mark.parametrize("every", [False, True])
def test_it_is_what_stands_in_a_program_written_by_hand(rung, every):
    options = RUNGS[rung]
    activation, scaled = options.get("activation"), options.get("scaled", False)
    form = {(False, False): "fused", (False, True): "scaled_fused", (True, False): "plain", (True, True): "scaled"}
    decoder = Decoder(
        vocab_size=11,
        context=6,
        num_layers=2,
        num_heads=2,
        hidden_size=8,
        ffn=[form[bool(activation), scaled]] * 2,
        norm="layer" if options.get("norm") else "none",
        activation=activation or "identity",
        positions="rotary" if options.get("rotary") else "learned",
        rotary_fraction=0.5,
        rotary_base=100.0,
        parallel_residual=options.get("parallel", False),
        embedding_multiplier=2.0,
        logit_multiplier=3.0,
    )
    expected = random_program(**options, every_position=every).graph
    assert decoder.graph(6, every_position=every).dumps() == expected.dumps()


def test_the_simplified_block_has_half_of_the_projections():
    notation, size = parse("SM+ScFuFFN"), Size(30, 8, 3, 2, 16)
    operations = [node.op for node in simplified(notation, size).nodes]
    assert operations.count("linear") == 3 * (2 + 1) + 1
    assert operations.count("layer_norm") == 1
    with pytest.raises(ValueError, match="Softmax-only"):
        simplified(parse("SM+LN+G"), size)
    with pytest.raises(ValueError, match="cannot be compiled"):
        lowered(parse("SAS(SM+ScFFN)"), size)


def test_a_length_beyond_the_context_is_refused():
    with pytest.raises(ValueError, match="context of 8"):
        lowered(parse("SM"), SMALL, 9)
