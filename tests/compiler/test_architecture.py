"""The compiled structure of an architecture without a model is what the compiler makes of such a model."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from aero.compiler.architecture import compiled_stages, widen
from aero.compiler.compile import compile, rewrite
from aero.compiler.trained_scale import trained_scale_program
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.norm import frozen_norms
from aero.models.notation import parse
from aero.models.presets import SIZES, TRAITS, Size
from aero.structure import lowered

SIZE = Size(61, 9, 3, 2, 24)
NAMES = ["SM+LN+G", "SM+LN+R", "SM+LN", "SM+R", "SM", "SM+ScFFN", "SM+ScFuFFN", "SM+ScFuFFN_i1", "SM(t)+ScFuFFN"]
NEOX = replace(SIZE, hidden_size=32, family="gpt_neox")  # 4 of 16 features turn, as 2 of 8


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [1, 9])
@pytest.mark.parametrize("size", [SIZE, NEOX, replace(SIZE, hidden_size=6)], ids=["gpt2", "gpt_neox", "three features"])
def test_it_is_the_compiled_graph_of_a_model(name, length, size):
    """A model near its initialisation, whose FFNs are well conditioned, with biases other than zero."""
    torch.manual_seed(0)
    model = AeroForCausalLM(AeroConfig.from_notation(name, size, scale="gpt2")).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for norm in frozen_norms(model):
            norm.blend.fill_(1)
    found = compiled_stages(parse(name), size, length)[-1].graph
    expected = compile(model, check=False, softmax_base="2").prefill(length)
    assert [(n.name, n.op, n.inputs, n.weights) for n in found.nodes] == [
        (n.name, n.op, n.inputs, n.weights) for n in expected.graph.nodes
    ]
    assert found.weight_shapes == expected.graph.weight_shapes
    assert found.shapes == expected.graph.shapes
    chosen = {"factor", "eps"}  # for weights
    attrs = [{k: v for k, v in n.attrs.items() if k not in chosen} for n in found.nodes]
    assert attrs == [{k: v for k, v in n.attrs.items() if k not in chosen} for n in expected.graph.nodes]


@pytest.mark.parametrize("name", NAMES)
def test_widening_commutes_with_compiling(name):
    narrow = replace(SIZE, hidden_size=8)
    wide = replace(SIZE, vocab_size=67, hidden_size=40, context=12)
    compiled = []
    for size in (narrow, wide):
        program, _, _ = rewrite(trained_scale_program(parse(name), size))
        compiled.append(program.graph)
    widened = widen(compiled[0], narrow, wide)
    assert widened.weight_shapes == compiled[1].weight_shapes
    assert widened.shapes == compiled[1].shapes


def test_stages_start_with_the_model_and_never_grow_dearer():
    from aero.graph.count import count

    for name in NAMES:
        stages = compiled_stages(parse(name), SIZE)
        assert stages[0].name == "as trained"
        assert stages[0].graph == lowered(parse(name), SIZE)
        counts = [count(stage.graph) for stage in stages]
        for before, after in itertools.pairwise(counts):
            assert after.multiplications <= before.multiplications
            assert after.nonlinear <= before.nonlinear


def test_softmax_only_models_lose_all_ffn_products():
    """L blocks of q, k, v, o for T rows (the last block: one row of queries and outputs), attention, the vocabulary."""
    t, d, layers, heads, v = 9, 24, 3, 2, 61
    final = compiled_stages(parse("SM+ScFuFFN"), SIZE)[-1].graph
    products = sum(
        np.prod(final.shapes[n.inputs[0]]) * final.shapes[n.name][1] for n in final.nodes if n.op == "linear"
    )
    assert products == (layers - 1) * 4 * t * d * d + (2 * t + 2) * d * d + d * v
    assert sum(n.op == "softmax" for n in final.nodes) == layers and heads == 2


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of its 2 heads"):
        compiled_stages(parse("SM"), replace(SIZE, hidden_size=7))


@pytest.mark.parametrize("preset", SIZES)
def test_every_preset_is_compiled(preset):
    size = SIZES[preset]
    decoder = size.family in TRAITS
    final = compiled_stages(parse("SM+ScFuFFN" if decoder else "SM+LN+G"), size, 8)[-1].graph
    outputs = size.vocab_size if decoder else size.classes or size.hidden_size
    assert final.shapes[final.output] == (1, outputs)
    assert sum(n.op == "softmax" for n in final.nodes) == size.num_layers
    for node in final.nodes:
        if node.op == "rotary":
            head = size.head_width or size.hidden_size // size.num_heads
            assert node.attrs["rotated"] == (head // 4 if size.family == "gpt_neox" else head)


LLAMAS = {
    "llama": replace(SIZE, hidden_size=36, num_heads=9, num_key_heads=3, ffn_width=48, family="llama"),
    "qwen2": replace(SIZE, hidden_size=32, num_heads=4, num_key_heads=1, ffn_width=40, family="qwen2"),
    "qwen3": replace(SIZE, hidden_size=20, num_heads=6, num_key_heads=2, head_width=8, ffn_width=36, family="qwen3"),
}


@pytest.mark.parametrize("family", LLAMAS)
@pytest.mark.parametrize("name", ["SM+RMS+SiLU+GaFFN", "SM+RMS+R", "SM+RMS+ScGaFFN", "SM+ScFuFFN", "SM+FRMS+R+GaFFN"])
def test_families_with_fewer_heads_of_keys(family, name):
    test_it_is_the_compiled_graph_of_a_model(name, 9, LLAMAS[family])


@pytest.mark.parametrize(("family", "gains"), [("llama", 0), ("qwen2", 0), ("qwen3", 2 * 3)])
def test_nothing_of_a_llama_is_left_that_a_matrix_takes_in(family, gains):
    """Gains of norms and every public scale go into matrices; those of normed queries and keys stand before turns."""
    size = LLAMAS[family]
    final = compiled_stages(parse("SM+RMS+SiLU+GaFFN"), size)[-1].graph
    operations = [node.op for node in final.nodes]
    assert operations.count("gain") == gains and "scale" not in operations and "bias" not in operations
    assert operations.count("rms_norm") == 2 * 3 + 1 + gains
    assert operations.count("multiply") == operations.count("silu") == 3
    keys = [node for node in final.nodes if node.name.endswith((".k", ".v"))]
    assert len(keys) == 6
    head = size.head_width or size.hidden_size // size.num_heads
    assert all(final.shapes[node.name][1] == size.num_key_heads * head for node in keys)
