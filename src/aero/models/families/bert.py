"""BERT (Devlin et al. 2019, §3), MiniLM among them; a classifier reads the first token, by a layer with tanh."""

from __future__ import annotations

from functools import partial
from typing import Any

from transformers import BertForSequenceClassification, BertModel

from aero.models.families.encoders import EncoderFamily, activation_of, matrix, norm, tables
from aero.models.families.family import Named


def _fields(config: Any, classifies: bool) -> dict[str, Any]:
    if getattr(config, "position_embedding_type", "absolute") != "absolute":
        raise ValueError(f"cannot convert a BERT with positions of the type {config.position_embedding_type!r}")
    if config.is_decoder or config.add_cross_attention:
        raise ValueError("cannot convert a BERT that is a decoder (is_decoder, add_cross_attention)")
    return {
        "vocab_size": config.vocab_size,
        "context": config.max_position_embeddings,
        "num_layers": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "activation": activation_of("a BERT", config.hidden_act),
        "norm_eps": config.layer_norm_eps,
        **({"pooling": "first", "pooler": "tanh", "classes": config.num_labels} if classifies else {}),
    }


def _arrays(model: Any) -> Named:
    theirs = getattr(model, "bert", model)
    embeddings = theirs.embeddings
    first_type = embeddings.token_type_embeddings.weight[0]
    positions = embeddings.position_embeddings.weight + first_type
    yield from tables(embeddings.word_embeddings.weight, positions, embeddings.LayerNorm)
    for index, layer in enumerate(theirs.encoder.layer):
        name, attention = f"blocks.{index}", layer.attention
        for role, projection in zip(
            "qkv", (attention.self.query, attention.self.key, attention.self.value), strict=True
        ):
            yield from matrix(f"{name}.{role}", projection)
        yield from matrix(f"{name}.o", attention.output.dense)
        yield from norm(f"{name}.norm_1", attention.output.LayerNorm)
        yield from matrix(f"{name}.ffn.in", layer.intermediate.dense)
        yield from matrix(f"{name}.ffn.out", layer.output.dense)
        yield from norm(f"{name}.norm_2", layer.output.LayerNorm)
    if hasattr(model, "classifier"):
        yield from matrix("pooler", theirs.pooler.dense)
        yield from matrix("logits", model.classifier)


FAMILY = EncoderFamily(
    partial(BertModel, add_pooling_layer=False),
    BertForSequenceClassification,
    "bert",
    r"cls\..*|bert\.pooler\..*",
    _fields,
    _arrays,
)
