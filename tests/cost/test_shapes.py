"""The graph of a notation without weights is the compiler's graph of such a model."""

import pytest

from aero.compiler import lower
from aero.cost.quantities import multiplications, nonlinear_elements
from aero.cost.shapes import lowered, simplified
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.notation import KNOWN, parse
from aero.models.presets import Size

SMALL = Size(30, 8, 2, 2, 16, embedding_multiplier=3, logit_multiplier=2)
NAMES = [*KNOWN, "SM(t_h)+ScFuFFN", "SM+LN+G+ScFFN_i1"]


@pytest.mark.parametrize("name", [name for name in NAMES if "_i6" not in name] + ["SM+ScFuFFN_i2"])
@pytest.mark.parametrize("length", [1, 5, 8])
def test_lowered_is_what_the_compiler_lowers(name, length):
    model = AeroForCausalLM(AeroConfig.from_notation(name, SMALL))
    assert lowered(parse(name), SMALL, length).dumps() == lower(model, length).graph.dumps()


def test_the_simplified_block_has_half_of_the_projections():
    notation, size = parse("SM+ScFuFFN"), Size(30, 8, 3, 2, 16)
    operations = [node.op for node in simplified(notation, size).nodes]
    assert operations.count("linear") == 3 * (2 + 1) + 1
    assert operations.count("layer_norm") == 1
    with pytest.raises(ValueError, match="Softmax-only"):
        simplified(parse("SM+LN+G"), size)


def test_a_length_beyond_the_context_is_refused():
    with pytest.raises(ValueError, match="context of 8"):
        lowered(parse("SM"), SMALL, 9)


def test_counts_of_a_small_graph_by_hand():
    """V=30, T=4, L=2, H=2, d=16: each number written out."""
    graph = lowered(parse("SM+LN+R"), SMALL, 4)
    linear = 4 * (4 * 16 * 16) + 2 * (4 * 16 * 64)  # q, k, v, o; FFN in and out
    attention = 2 * (4 * 4 * 16)  # scores and attend
    scalars = 4 * 16 * (1 + 2)  # 1/sqrt(d_k) and the two gains of LayerNorms
    last = 16 * 30 + 16 + 30  # vocabulary, final gain, multiplier
    lookup = 4 * 30 * 16 + 4 * 16  # one-hot rows, multiplier
    assert sum(multiplications(graph, n) for n in graph.nodes) == 2 * (linear + attention + scalars) + last + lookup
    softmax, norms, relu = 2 * 4 * 4, 2 * 4 * 16, 4 * 64
    assert sum(nonlinear_elements(graph, n) for n in graph.nodes) == 2 * (softmax + norms + relu) + 16
