"""An encoder of Hugging Face's becomes one of ours, and shows that it computes the same."""

from __future__ import annotations

import numpy as np
import torch

from aero.compiler.encoder import EncoderModel
from aero.graph import interpret
from aero.graph.task import Task
from aero.models.encoder_reference import EncoderReference
from aero.structure import Encoder

_LENGTHS = (1, 7, 64)  # of the random texts on which outputs are compared


def import_encoder(reference: EncoderReference) -> EncoderModel:
    """What an encoder of Hugging Face's computes, in its float type."""
    structure = Encoder.of(reference.fields)
    task = Task("classify" if structure.classes else "embed", reference.normalize, reference.labels)
    arrays = {name: tensor.detach().numpy() for name, tensor in reference.family.arrays(reference.model)}
    return EncoderModel(structure, task, arrays | {"positions.w": arrays["positions.w"][: structure.context]})


@torch.inference_mode()
def difference(model: EncoderModel, reference: EncoderReference) -> float:
    """The largest difference of an output from Hugging Face's own, relative to the largest, on random texts.

    ValueError where theirs are not finite, or where it is more than roundings explain: a bug here.
    """
    worst = 0.0
    for seed, length in enumerate(_LENGTHS):
        length = min(length, model.structure.context)
        ids = np.random.default_rng(seed).integers(model.structure.vocab_size, size=length)
        expected = outputs_of(reference, model.structure.pooling, ids)
        if not np.isfinite(expected).all():
            raise ValueError("the checkpoint's own outputs are not finite; its weights are damaged or too large")
        error = np.abs(interpret(model.program(length), ids)[0] - expected).max()
        worst = max(worst, float(error / max(np.abs(expected).max(), np.finfo(np.float32).tiny)))
    if not worst < 1e-3:  # roundings of float32 through tens of layers; a wrong weight shows at once
        raise ValueError(
            f"the converted model's outputs differ by {worst:.2g}; this is a bug in aero, please report it"
        )
    return worst


@torch.inference_mode()
def outputs_of(reference: EncoderReference, pooling: str, ids: np.ndarray) -> np.ndarray:
    """Of one text, what Hugging Face's own class computes: logits, or rows of the last layer, pooled."""
    found = reference.model(input_ids=torch.as_tensor(ids)[None])
    if reference.labels:
        logits: np.ndarray = found.logits[0].double().numpy()
        return logits
    rows = found.last_hidden_state[0].double().numpy()
    pooled: np.ndarray = rows.mean(axis=0) if pooling == "mean" else rows[0]
    return pooled
