import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aero.files import manifest
from aero.graph import OPS, Graph, Node, Program, interpret, interpret_step
from aero.graph.serialize import graph_from_json, load, save
from programs import RUNGS, SUMMED_ANEW, random_ids, random_program


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
    np.testing.assert_allclose(rows[0][:-1], rows[1][:-1], rtol=0, atol=SUMMED_ANEW)
    assert np.abs(rows[0][-1] - rows[1][-1]).max() > 1e-3


def test_softmax_agrees_with_scipy_free_definition():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 3, (2, 3, 5))
    probabilities = OPS["softmax"].meaning(scores)
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
        "gelu, erf": f.gelu(x),
        "relu": f.relu(x),
        "layer_norm": f.layer_norm(x, (16,), eps=1e-5),
        "rms_norm": f.rms_norm(x, (16,), eps=1e-5),
    }.items():
        attrs = {"eps": 1e-5} if "norm" in name else {"form": "erf"} if "erf" in name else {}
        np.testing.assert_allclose(
            OPS[name.partition(",")[0]].meaning(x.numpy(), **attrs), expected.numpy(), atol=1e-12
        )


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (("x", "sigmoid", ("ids",)), "unknown operation"),
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
    for name, array in program.weights.items():
        np.testing.assert_array_equal(again.weights[name], array)
    found, expected = (interpret(p, random_ids(p)) for p in (again, program))
    np.testing.assert_allclose(found, expected, rtol=0, atol=SUMMED_ANEW)
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
        {**good, "length": json.loads("1e999")},
        {**good, "nodes": [{**good["nodes"][0], "op": "scale", "weights": [], "attrs": {"factor": 10**400}}]},
    ):
        with pytest.raises(ValueError, match=r"."):
            graph_from_json(wrong)


def test_rotary_agrees_with_products_of_complex_numbers():
    """Feature i and i + n/2 are a complex number, multiplied by e^(i angle)."""
    x = np.random.default_rng(0).normal(size=(5, 12))
    found = OPS["rotary"].meaning(x, heads=2, rotated=4, base=50.0, start=3)
    for row, head in np.ndindex(5, 2):
        own = x[row, 6 * head : 6 * head + 6]
        z = (own[:2] + 1j * own[2:4]) * np.exp(1j * (3 + row) * 50.0 ** -np.array([0.0, 0.5]))
        expected = np.concatenate([z.real, z.imag, own[4:]])
        np.testing.assert_allclose(found[row, 6 * head : 6 * head + 6], expected, rtol=1e-13)


@pytest.mark.parametrize(
    "changed",
    [
        {"heads": 5},
        {"rotated": 3},
        {"rotated": 8},
        {"rotated": 0},
        {"base": 1.0},
        {"base": float("nan")},
        {"start": -1},
    ],
)
def test_turns_that_are_none_are_refused(changed):
    attrs = {"heads": 2, "rotated": 4, "base": 50.0, "start": 0, **changed}
    nodes = (Node("x", "embedding", ("ids",), ("t",)), Node("y", "rotary", ("x",), (), attrs))
    with pytest.raises(ValueError, match="node 'y'"):
        Graph(3, nodes, {"t": (5, 12)}, "y").shapes  # noqa: B018
    form = (nodes[0], Node("y", "gelu", ("x",), (), {"form": "sigmoid"}))
    with pytest.raises(ValueError, match="form tanh or erf"):
        Graph(3, form, {"t": (5, 12)}, "y").shapes  # noqa: B018


def stateful_program() -> Program:
    """The rows of an embedding so far, summed up by attention over equal scores; state is those rows."""
    rng = np.random.default_rng(0)
    weights = {"t": rng.normal(size=(5, 4)), "z": np.zeros((4, 4))}
    nodes = [
        Node("x", "embedding", ("ids",), ("t",)),
        Node("all", "concat_rows", ("past", "x")),
        Node("q", "linear", ("x",), ("z",)),
        Node("s", "scores", ("q", "all"), (), {"heads": 2}),
        Node("p", "softmax", ("s",), (), {"base": 2.0}),
        Node("mean", "attend", ("p", "all")),
    ]
    return Program.of(2, nodes, weights, "mean", state_in={"past": (3, 4)}, state_out={"past": "all"})


def test_state_is_read_and_left(tmp_path):
    program = stateful_program()
    past = np.random.default_rng(1).normal(size=(3, 4))
    output, state = interpret_step(program, np.array([1, 2]), {"past": past})
    rows = np.concatenate([past, program.weights["t"][[1, 2]]])
    np.testing.assert_array_equal(state["past"], rows)
    np.testing.assert_allclose(output, [rows[:4].mean(0), rows.mean(0)], atol=1e-12)
    with pytest.raises(ValueError, match=r"leaves 'past' as \[3, 4\] first"):
        interpret_step(program, np.array([1, 2]), state)
    with pytest.raises(ValueError, match="leaves 'past'"):
        interpret(program, np.array([1, 2]))
    save(program, tmp_path)
    assert load(tmp_path).graph == program.graph
    assert "state_in" not in random_program().graph.to_json()


def test_a_value_that_is_left_is_live():
    program = random_program()
    again = Program.of(6, program.graph.nodes, program.weights, "blocks.0.q", state_out={"a": "blocks.0.k"})
    assert {n.name for n in again.graph.nodes if n.op == "linear"} == {"blocks.0.q", "blocks.0.k"}
    assert again.graph.kept == {"blocks.0.k", "blocks.0.q"}
    with pytest.raises(ValueError, match="not a value"):
        Graph(6, again.graph.nodes, again.graph.weight_shapes, "blocks.0.q", {}, {"a": "nothing"})


def test_softmax_in_base_two_is_softmax_of_scaled_scores():
    scores = np.random.default_rng(0).normal(0, 3, (2, 3, 5))
    expected = OPS["softmax"].meaning(scores * np.log(2))
    np.testing.assert_allclose(OPS["softmax"].meaning(scores, base=2.0), expected, atol=1e-14)
    with pytest.raises(ValueError, match=r"base=2\.0"):
        Graph(
            2,
            (
                Node("x", "embedding", ("ids",), ("t",)),
                Node("s", "scores", ("x", "x"), (), {"heads": 1}),
                Node("p", "softmax", ("s",), (), {"base": 3.0}),
            ),
            {"t": (5, 4)},
            "p",
        )


def test_weights_on_disk_are_those_of_the_graph(tmp_path):
    program = random_program(norm=True)
    save(program, tmp_path)
    path = tmp_path / "weights.safetensors"
    whole, weights = path.read_bytes(), load_file(path)
    name = next(iter(weights))
    for changed, message in (
        ({**weights, "more": np.ones(2)}, "disagree on the weight 'more'"),
        ({key: array for key, array in weights.items() if key != name}, f"disagree on the weight '{name}'"),
        ({**weights, name: weights[name].astype(np.float32)}, "as F32, not F64"),
        ({**weights, name: weights[name] * np.nan}, "NaN or infinity"),
        ({**weights, name: weights[name].ravel()[:1]}, "has shape"),
    ):
        save_file(changed, path)
        manifest.write(tmp_path / "graph.json", program.graph.to_json(), [path.name])
        with pytest.raises(ValueError, match=message):
            load(tmp_path)
    for damaged in (b"", whole[:20], whole[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged, or was changed"):
            load(tmp_path)
        manifest.write(tmp_path / "graph.json", program.graph.to_json(), [path.name])
        with pytest.raises(ValueError, match="is not usable"):
            load(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="lost weights"):
        load(tmp_path)
