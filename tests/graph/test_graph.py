import json

import numpy as np
import pytest

from aero.graph import OPS, Graph, Node, Program, interpret
from aero.graph.interpret import MEANING
from aero.graph.serialize import graph_from_json, load, save
from programs import RUNGS, random_ids, random_program


def test_every_operation_has_a_meaning():
    assert set(OPS) == set(MEANING)


@pytest.mark.parametrize("rung", RUNGS)
def test_shapes_are_those_that_the_interpreter_computes(rung):
    program = random_program(**RUNGS[rung])
    shapes = {}
    interpret(program, random_ids(program), keep=lambda name, value: shapes.update({name: value.shape}))
    assert shapes == {name: shape for name, shape in program.graph.shapes.items() if name != "ids"}


def test_attention_is_causal():
    """Changing the last id must not change any row before it."""
    program = random_program(length=5)
    ids = random_ids(program)
    other = ids.copy()
    other[-1] = (ids[-1] + 1) % 11
    rows = []
    for x in (ids, other):
        interpret(program, x, keep=lambda name, value: rows.append(value) if name == "blocks.1.ffn" else None)
    np.testing.assert_array_equal(rows[0][:-1], rows[1][:-1])
    assert np.abs(rows[0][-1] - rows[1][-1]).max() > 1e-3


def test_softmax_agrees_with_scipy_free_definition():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 3, (2, 3, 5))
    probabilities = MEANING["causal_softmax"](scores)
    for head, row in np.ndindex(2, 3):
        visible = np.exp(scores[head, row, : row + 3])
        np.testing.assert_allclose(probabilities[head, row, : row + 3], visible / visible.sum(), rtol=1e-12)
        assert (probabilities[head, row, row + 3 :] == 0).all()


def test_nonlinear_meanings_agree_with_torch():
    torch = pytest.importorskip("torch")
    x = torch.randn(7, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    f = torch.nn.functional
    for name, expected in {
        "gelu": f.gelu(x, approximate="tanh"),
        "relu": f.relu(x),
        "layer_norm": f.layer_norm(x, (16,), eps=1e-5),
    }.items():
        attrs = {"eps": 1e-5} if name == "layer_norm" else {}
        np.testing.assert_allclose(MEANING[name](x.numpy(), **attrs), expected.numpy(), atol=1e-12)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (("x", "tanh", ("ids",)), "unknown operation"),
        (("x", "add", ("ids",)), "reads 2 values"),
        (("x", "linear", ("ids",)), "takes weights"),
        (("x", "scale", ("ids",), (), {}), "has attributes"),
    ],
)
def test_a_wrong_node_is_refused(node, message):
    with pytest.raises(ValueError, match=message):
        Node(*node)


def test_a_wrong_graph_is_refused():
    embed = Node("x", "embedding", ("ids",), ("t",))
    with pytest.raises(ValueError, match="not computed before"):
        Graph(3, (Node("y", "relu", ("x",)), embed), {"t": (5, 4)}, "y")
    with pytest.raises(ValueError, match="two values"):
        Graph(3, (embed, embed), {"t": (5, 4)}, "x")
    with pytest.raises(ValueError, match="not a value"):
        Graph(3, (embed,), {"t": (5, 4)}, "y")
    with pytest.raises(ValueError, match="no node reads"):
        Graph(3, (embed,), {"t": (5, 4), "u": (1,)}, "x")
    with pytest.raises(ValueError, match="NaN"):
        Program.of(3, [embed], {"t": np.full((5, 4), np.nan)}, "x")
    with pytest.raises(ValueError, match="3 integer token ids"):
        interpret(Program.of(3, [embed], {"t": np.ones((5, 4))}, "x"), np.zeros(4, int))


def test_weights_cannot_be_written_to():
    program = random_program()
    with pytest.raises(ValueError, match="read-only"):
        program.weights["logits.w"][0, 0] = 1.0


def test_a_program_survives_the_disk(tmp_path):
    program = random_program(norm=True, activation="gelu")
    save(program, tmp_path / "program")
    again = load(tmp_path / "program")
    assert again.graph == program.graph and again.graph.digest == program.graph.digest
    np.testing.assert_array_equal(interpret(again, random_ids(again)), interpret(program, random_ids(program)))
    with pytest.raises(FileNotFoundError, match=r"graph\.json"):
        load(tmp_path)


def test_a_structure_from_a_peer_is_checked():
    good = json.loads(json.dumps(random_program().graph.to_json()))
    assert graph_from_json(good).digest == random_program().graph.digest
    for wrong in (
        None,
        [],
        {},
        {**good, "format_version": 99},
        {**good, "nodes": "abc"},
        {**good, "nodes": [{**good["nodes"][0], "op": "exec"}]},
        {**good, "output": "nothing"},
        {**good, "weight_shapes": {**good["weight_shapes"], "logits.w": [8, -1]}},
        {**good, "weight_shapes": {**good["weight_shapes"], "embedding.table": [1 << 40, 8]}},
        {key: value for key, value in good.items() if key != "nodes"},
    ):
        with pytest.raises(ValueError, match=r"."):
            graph_from_json(wrong)
