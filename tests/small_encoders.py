"""Small encoders of Hugging Face's, with weights of a trained model's scale and WordPiece tokenizers."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertModel,
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, *"abcdefghijklmnopqrstuvwxyz.,!?'-", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")]
WORDS += ["the", "cat", "dog", "sat", "runs", "on", "##ing", "##s", "mat"]
BERT = dict(
    vocab_size=len(WORDS), max_position_embeddings=20, hidden_size=12, intermediate_size=30, num_hidden_layers=2,
    num_attention_heads=3,
)  # fmt: skip
DISTIL = dict(vocab_size=len(WORDS), max_position_embeddings=20, dim=12, hidden_dim=30, n_layers=2, n_heads=3)
KINDS = {
    "bert": lambda **f: BertModel(BertConfig(**{**BERT, **f})),
    "bert, masked words": lambda **f: BertForMaskedLM(BertConfig(**{**BERT, **f})),
    "bert, classifier": lambda **f: BertForSequenceClassification(BertConfig(**{**BERT, "num_labels": 3, **f})),
    "distilbert": lambda **f: DistilBertModel(DistilBertConfig(**{**DISTIL, **f})),
    "distilbert, classifier": lambda **f: DistilBertForSequenceClassification(
        DistilBertConfig(**{**DISTIL, "num_labels": 2, **f})
    ),
}


def small(kind: str, **fields) -> torch.nn.Module:
    """Large weights, so that attention is far from uniform; gains and biases away from one and zero."""
    torch.manual_seed(0)
    model = KINDS[kind](initializer_range=0.3, **fields).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "LayerNorm" in name or "layer_norm" in name or name.endswith("bias"):
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def write_tokenizer(folder: Path) -> None:
    """As BERT's: lower case, pieces of words, [CLS] before a text and [SEP] after it."""
    inner = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    inner.add_special_tokens(SPECIAL)
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    inner.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"cls_token": "[CLS]", "sep_token": "[SEP]"}))


def checkpoint(kind: str, folder: Path, *, shards: str = "5GB", dtype: torch.dtype = torch.float32, **fields) -> Path:
    model = small(kind, **fields).to(dtype)
    model.save_pretrained(folder, max_shard_size=shards)
    write_tokenizer(folder)
    return folder


def sentences(folder: Path, *modules: str, mode: str = "mean", longest: int = 16) -> None:
    """What sentence-transformers write beside an encoder."""
    listed = [{"idx": i, "path": f"{i}_{name}", "type": f"models.{name}"} for i, name in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": longest}))
    for module in listed:
        (folder / module["path"]).mkdir()
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(
        json.dumps({"pooling_mode_mean_tokens": mode == "mean", "pooling_mode_cls_token": mode == "cls"})
    )
