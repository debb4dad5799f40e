"""Encoders against Hugging Face's own classes, on random weights: BERT, DistilBERT, with and without a classifier."""

import json

import numpy as np
import pytest
import torch

from aero.compiler.compile import compile_encoder
from aero.compiler.encoder import EncoderModel
from aero.compiler.import_encoder import difference, import_encoder, outputs_of
from aero.compiler.run import is_encoder
from aero.graph import interpret
from aero.graph.task import Task
from aero.models.encoder_reference import read_encoder
from aero.models.presets import SIZES
from small_encoders import KINDS, checkpoint, sentences, small

FLOAT64 = 1e-12
"""Roundings of sums of tens of terms through two layers, relative to the largest number of an output."""


def pair(folder, **options):
    """Theirs in float64, and ours."""
    reference = read_encoder(folder, **options)
    reference.model.double()
    return reference, import_encoder(reference)


def worst(reference, model, length=20):
    ids = np.random.default_rng(1).integers(model.structure.vocab_size, size=length)
    expected = outputs_of(reference, model.structure.pooling, ids)
    return np.abs(interpret(model.program(length), ids)[0] - expected).max() / np.abs(expected).max()


VARIANTS = [
    ("bert", {}),
    ("bert", {"hidden_act": "gelu_new", "num_attention_heads": 1, "layer_norm_eps": 1e-3}),
    ("bert, masked words", {"hidden_act": "relu", "intermediate_size": 17}),
    ("bert, classifier", {}),
    ("distilbert", {"activation": "relu", "n_heads": 6}),
    ("distilbert", {"sinusoidal_pos_embds": True}),
    ("distilbert, classifier", {}),
]


@pytest.mark.parametrize(("kind", "fields"), VARIANTS)
def test_outputs_equal_those_of_their_class(kind, fields, tmp_path):
    reference, model = pair(checkpoint(kind, tmp_path, **fields))
    assert max(worst(reference, model, length) for length in (1, 2, 20)) <= FLOAT64
    compiled = compile_encoder(model, 16, softmax_base="2")
    assert compiled.verification.passed and compiled.context == 16
    ids = np.random.default_rng(2).integers(model.structure.vocab_size, size=11)
    found = compiled.prefill(11)
    np.testing.assert_allclose(
        interpret(found, ids)[0], outputs_of(reference, model.structure.pooling, ids), rtol=1e-9, atol=1e-10
    )


@pytest.mark.parametrize("kind", ["bert", "bert, classifier"])
def test_channels_a_thousand_times_the_others(kind, tmp_path):
    """As trained models have it: some features of the first token are far larger than all others."""
    model = small(kind)
    with torch.no_grad():
        model.get_input_embeddings().weight[2, :2] += 300.0
        getattr(model, "bert", model).encoder.layer[0].output.LayerNorm.weight[1] = 50.0
    model.save_pretrained(tmp_path)
    reference, ours = pair(tmp_path)
    ids = np.array([2, 7, 8, 9, 3])
    expected = outputs_of(reference, ours.structure.pooling, ids)
    assert np.abs(interpret(ours.program(5), ids)[0] - expected).max() <= 10 * FLOAT64 * np.abs(expected).max()


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_in_bfloat16_and_in_several_files(kind, tmp_path):
    reference = read_encoder(checkpoint(kind, tmp_path, shards="4KB", dtype=torch.bfloat16))
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert "weights in bfloat16, exactly to float32" in reference.notes
    assert 0 < difference(import_encoder(reference), reference) < 1e-5


def test_old_names_of_norms_and_the_numbers_of_positions_are_read(tmp_path):
    from safetensors.torch import save_file

    model = small("bert")
    model.config.save_pretrained(tmp_path)
    old = {".LayerNorm.weight": ".LayerNorm.gamma", ".LayerNorm.bias": ".LayerNorm.beta"}
    tensors = {f"bert.{name}": tensor for name, tensor in model.state_dict().items()}
    for new, name in old.items():
        tensors = {key.replace(new, name): tensor for key, tensor in tensors.items()}
    tensors |= {"bert.embeddings.position_ids": torch.arange(20)[None], "cls.predictions.bias": torch.zeros(73)}
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, tmp_path / "model.safetensors")
    reference, ours = pair(tmp_path)
    assert worst(reference, ours) <= FLOAT64
    assert "left out, as embeddings do not need it: cls, pooler" in reference.notes


@pytest.mark.parametrize(("mode", "pooling"), [("mean", "mean"), ("cls", "first")])
def test_what_sentence_transformers_say_is_obeyed(mode, pooling, tmp_path):
    sentences(checkpoint("bert", tmp_path), "Transformer", "Pooling", "Normalize", mode=mode)
    reference, ours = pair(tmp_path)
    assert (ours.structure.pooling, ours.structure.context, ours.task) == (pooling, 16, Task("embed", normalize=True))
    assert worst(reference, ours, 16) <= FLOAT64
    other = read_encoder(tmp_path, "first" if pooling == "mean" else "mean")
    assert other.fields["pooling"] != pooling


def test_labels_are_those_of_the_configuration(tmp_path):
    labels = {0: "sad", 1: "neither", 2: "glad"}
    _, ours = pair(checkpoint("bert, classifier", tmp_path, id2label=labels))
    assert ours.task == Task("classify", labels=("sad", "neither", "glad"))


REFUSED = [
    ({"hidden_act": "mish"}, "activation 'mish'"),
    ({"is_decoder": True}, "that is a decoder"),
    ({"architectures": ["BertForTokenClassification"]}, "does not answer for a whole text"),
    ({"architectures": ["BertForSequenceClassification"], "num_labels": 1}, "one of several classes"),
    (
        {"architectures": ["BertForSequenceClassification"], "problem_type": "multi_label_classification"},
        "one of several classes",
    ),
    ({"architectures": ["BertForSequenceClassification"]}, r"lacks bert\.pooler|lacks classifier"),
    ({"num_hidden_layers": 3}, "lacks encoder.layer.2"),
    ({"hidden_size": 24}, "has shape"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_what_cannot_be_expressed_is_refused_by_name(fields, message, tmp_path):
    config = checkpoint("bert", tmp_path) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **fields}))
    with pytest.raises(ValueError, match=message):
        read_encoder(tmp_path)


@pytest.mark.parametrize(
    ("modules", "mode", "message"),
    [(("Transformer", "Pooling", "Dense"), "mean", "module Dense"), (("Transformer", "Pooling"), "max", "pools by")],
)
def test_what_follows_an_encoder_elsewhere_is_refused(modules, mode, message, tmp_path):
    sentences(checkpoint("bert", tmp_path), *modules, mode=mode)
    with pytest.raises(ValueError, match=message):
        read_encoder(tmp_path)


def test_a_run_folder_is_read_as_it_was_written(tmp_path):
    _, model = pair(checkpoint("distilbert, classifier", tmp_path))
    (tmp_path / "run").mkdir()
    model.save(tmp_path / "run")
    again = EncoderModel.load(tmp_path / "run")
    assert is_encoder(tmp_path / "run") and not is_encoder(tmp_path)
    assert (again.structure, again.task, again.parameters) == (model.structure, model.task, model.parameters)
    for name, array in model.weights.items():
        np.testing.assert_array_equal(again.weights[name], array.astype(np.float32))
    (tmp_path / "run" / "config.json").write_text('{"model_type": "aero_encoder", "format_version": 1}')
    with pytest.raises(ValueError, match="convert the model again"):
        EncoderModel.load(tmp_path / "run")


def test_a_wrong_weight_shows(tmp_path):
    reference, model = pair(checkpoint("bert", tmp_path))
    wrong = {**model.weights, "blocks.0.q.w": model.weights["blocks.0.k.w"]}
    with pytest.raises(ValueError, match="this is a bug in aero"):
        difference(EncoderModel(model.structure, model.task, wrong), reference)


@pytest.mark.parametrize(("name", "parameters"), [("bert-base", 109_482_240 + 2 * 768 + 2), ("minilm-l6", 22_713_216)])
def test_presets_are_the_published_sizes(name, parameters):
    """Of the published checkpoints, in which token types have a table of two rows, and positions 512; MiniLM's has a
    pooler, which gives no embedding."""
    from aero.models.notation import parse
    from aero.structure import lowered

    size = SIZES[name]
    shapes = lowered(parse("SM+LN+G"), size, size.context).weight_shapes
    d = size.hidden_size
    counted = sum(int(np.prod(shape)) for shape in shapes.values()) + (512 - size.context) * d + 2 * d
    assert counted + (0 if size.classes else d * d + d) == parameters
