"""A measurement of a model over texts, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def over_batches(
    model: torch.nn.Module,
    texts: Sequence[np.ndarray],
    measure: Callable[[Any], Tensor],
    *,
    batch_size: int,
    on_progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Tensor:
    """What `measure` makes of the model's output for each batch, stacked: [batches, ...].

    texts: at least one, token ids, all of one length. options: of the model's call, that the output has what is
    measured. on_progress: called with the number of texts done and the number of all. The model is in evaluation mode
    meanwhile, and then as it was.
    """
    ids = torch.as_tensor(np.stack(texts), dtype=torch.long)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    found = []
    try:
        with torch.inference_mode():
            for start in range(0, len(ids), batch_size):
                batch = ids[start : start + batch_size]
                found.append(measure(model(input_ids=batch.to(device), use_cache=False, **options)))
                if on_progress:
                    on_progress(start + len(batch), len(ids))
    finally:
        model.train(was_training)
    return torch.stack(found)
