"""The graph of a notation without weights is the compiler's graph of such a model."""

import dataclasses

import pytest

from aero.compiler.lower import lower
from aero.cost.shapes import lowered, simplified
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.norm import frozen_norms
from aero.models.notation import KNOWN, parse
from aero.models.presets import Size

SMALL = Size(30, 8, 2, 2, 16, embedding_multiplier=3, logit_multiplier=2)
NAMES = [*KNOWN, "SM(t_h)+ScFuFFN", "SM+LN+G+ScFFN_i1", "SM+FLN+R", "SM+FLN(p)+ScFuFFN", "SM+LR", "SM+LN+LR(g)"]


@pytest.mark.parametrize("name", [name for name in NAMES if "_i6" not in name] + ["SM+ScFuFFN_i2"])
@pytest.mark.parametrize("length", [1, 5, 8])
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
def test_lowered_is_what_the_compiler_lowers(name, length, family):
    size = dataclasses.replace(SMALL, family=family)
    model = AeroForCausalLM(AeroConfig.from_notation(name, size))
    for norm in frozen_norms(model):
        norm.blend.fill_(1)
    for every in (False, True):
        expected = lower(model, length, every_position=every).graph
        assert lowered(parse(name), size, length, every_position=every).dumps() == expected.dumps()


def test_the_simplified_block_has_half_of_the_projections():
    notation, size = parse("SM+ScFuFFN"), Size(30, 8, 3, 2, 16)
    operations = [node.op for node in simplified(notation, size).nodes]
    assert operations.count("linear") == 3 * (2 + 1) + 1
    assert operations.count("layer_norm") == 1
    with pytest.raises(ValueError, match="Softmax-only"):
        simplified(parse("SM+LN+G"), size)
    with pytest.raises(ValueError, match="`simplified` prices it"):
        lowered(parse("SAS(SM+ScFFN)"), size)


def test_a_length_beyond_the_context_is_refused():
    with pytest.raises(ValueError, match="context of 8"):
        lowered(parse("SM"), SMALL, 9)
