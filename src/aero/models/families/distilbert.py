"""DistilBERT (Sanh et al. 2019, §3): BERT without types of tokens; a classifier's layer has ReLU."""

from __future__ import annotations

from typing import Any

from transformers import DistilBertForSequenceClassification, DistilBertModel

from aero.models.families.encoders import EncoderFamily, activation_of, matrix, norm, tables
from aero.models.families.family import Named


def _fields(config: Any, classifies: bool) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "context": config.max_position_embeddings,
        "num_layers": config.n_layers,
        "num_heads": config.n_heads,
        "hidden_size": config.dim,
        "intermediate_size": config.hidden_dim,
        "activation": activation_of("a DistilBERT", config.activation),
        "norm_eps": 1e-12,
        **({"pooling": "first", "pooler": "relu", "classes": config.num_labels} if classifies else {}),
    }


def _arrays(model: Any) -> Named:
    theirs = getattr(model, "distilbert", model)
    embeddings = theirs.embeddings
    yield from tables(embeddings.word_embeddings.weight, embeddings.position_embeddings.weight, embeddings.LayerNorm)
    for index, layer in enumerate(theirs.transformer.layer):
        name, attention = f"blocks.{index}", layer.attention
        projections = (attention.q_lin, attention.k_lin, attention.v_lin, attention.out_lin)
        for role, projection in zip("qkvo", projections, strict=True):
            yield from matrix(f"{name}.{role}", projection)
        yield from norm(f"{name}.norm_1", layer.sa_layer_norm)
        yield from matrix(f"{name}.ffn.in", layer.ffn.lin1)
        yield from matrix(f"{name}.ffn.out", layer.ffn.lin2)
        yield from norm(f"{name}.norm_2", layer.output_layer_norm)
    if hasattr(model, "classifier"):
        yield from matrix("pooler", model.pre_classifier)
        yield from matrix("logits", model.classifier)


FAMILY = EncoderFamily(
    DistilBertModel,
    DistilBertForSequenceClassification,
    "distilbert",
    r"vocab_(transform|layer_norm|projector)\..*",
    _fields,
    _arrays,
)
