"""The structure of an encoder: that of a program written by hand."""

import numpy as np
import pytest

from aero.compiler.architecture import compiled_stages
from aero.compiler.passes.last_position import last_position
from aero.compiler.positions import decode, prefill, prefix
from aero.graph import interpret
from aero.models.notation import parse
from aero.models.presets import SIZES, config_fields
from aero.structure import Encoder, lowered
from programs import ENCODERS, SUMMED_ANEW, random_encoder, random_ids

SIZE = dict(vocab_size=11, context=6, num_layers=2, num_heads=2, hidden_size=8, intermediate_size=12)


@pytest.mark.parametrize("form", ENCODERS)
def test_it_is_what_stands_in_a_program_written_by_hand(form):
    encoder, expected = Encoder(**SIZE, **ENCODERS[form]), random_encoder(layers=2, **ENCODERS[form]).graph
    assert encoder.graph(6).dumps() == expected.dumps()
    assert (expected.causal, expected.vocab_size) == (False, 11)
    assert expected.shapes[expected.output] == (1, encoder.outputs)


@pytest.mark.parametrize("form", ENCODERS)
def test_a_shorter_text_has_the_same_program_over_fewer_rows(form):
    whole, short = (random_encoder(length=length, **ENCODERS[form]) for length in (6, 4))
    weights = {name: array for name, array in whole.weights.items()} | {"positions.w": whole.weights["positions.w"][:4]}
    ids = random_ids(short)
    expected = interpret(type(short)(short.graph, weights), ids)
    np.testing.assert_allclose(interpret(prefix(whole, 4), ids), expected, rtol=SUMMED_ANEW)
    np.testing.assert_allclose(interpret(prefill(whole, 4, leave_state=True), ids), expected, rtol=SUMMED_ANEW)


def test_of_the_first_token_the_last_layer_computes_one_row():
    program = random_encoder(pooling="first")
    shapes = last_position(program).graph.shapes
    assert shapes["blocks.0.scores"] == (2, 1, 6) and shapes["blocks.0.ffn.in"] == (1, 12)
    assert shapes["blocks.0.k"] == (6, 8)


def test_nothing_follows_a_text_that_an_encoder_has_read():
    with pytest.raises(ValueError, match="reads a whole text at once"):
        decode(random_encoder(), 3)


@pytest.mark.parametrize("name", ["bert-base", "minilm-l6"])
def test_a_preset_compiles_to_the_operations_of_its_own_graph(name):
    notation, size = parse("SM+LN+G"), SIZES[name]
    graph, final = lowered(notation, size, 9), compiled_stages(notation, size, 9)[-1].graph
    assert final.shapes[final.output] == graph.shapes[graph.output] == (1, size.classes or size.hidden_size)
    for op in ("softmax", "gelu", "attend"):
        assert sum(n.op == op for n in final.nodes) == sum(n.op == op for n in graph.nodes) == size.num_layers
    assert sum(n.op in ("layer_norm", "rms_norm") for n in final.nodes) == 2 * size.num_layers + 1
    assert not any(n.op == "scale" for n in final.nodes)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"num_heads": 3}, "multiple"), ({"context": 0}, "at least 1"), ({"pooler": "erf"}, "pooler is 'erf'")],
)
def test_what_is_no_encoder_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Encoder(**{**SIZE, **change})


def test_what_only_a_decoder_has_is_refused():
    with pytest.raises(ValueError, match=r"an encoder is SM\+LN\+G"):
        lowered(parse("SM+ScFuFFN"), SIZES["bert-base"], 9)
    with pytest.raises(ValueError, match="choose a decoder's"):
        config_fields(parse("SM+LN+G"), SIZES["bert-base"])
    with pytest.raises(ValueError, match="do not fit this model's context of 6"):
        Encoder(**SIZE).graph(7)
