"""What padding a prompt changes (`--pad-to`): how often the model's greedy answer is another one.

    python benchmarks/padding.py RUN DATA [--prompts 200] [--tokens 8] [--pad-to 16]

Prompts are pieces of the validation text, of lengths drawn from 4 to half of the context. With padding in front, which
ends documents in training, and for comparison with line ends in its place, the model in plaintext continues each by so
many tokens. Printed is the part of prompts whose first token changes, that of prompts whose answer does, and the change
of the text's own next token's nats.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from aero.compiler.run import load_model
from aero.data import tokenizer as tokenizers
from aero.data.folder import DataFolder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--pad-to", type=int, default=16)
    options = parser.parse_args()
    model, tokens = load_model(options.run), tokenizers.load(options.run)
    context, rng = model.config.context, np.random.default_rng(0)
    text = DataFolder(options.data).valid

    def continued(ids: list[int]) -> tuple[list[int], torch.Tensor]:
        first = None
        for _ in range(options.tokens):
            with torch.inference_mode():
                logits = model(torch.tensor([ids])).logits[0, -1]
            first = logits if first is None else first
            ids = [*ids, int(logits.argmax())]
        assert first is not None
        return ids[-options.tokens :], first.log_softmax(-1)

    kinds = {"end of text": tokens.end_of_text, "line end": tokens.encode("\n")[0]}
    changed = {kind: np.zeros(3) for kind in kinds}
    for _ in range(options.prompts):
        length = int(rng.integers(4, context // 2 + 1))
        *ids, following = text.read(int(rng.integers(text.tokens - length)), length + 1).tolist()
        plain, exact = continued(ids)
        room = context - options.tokens + 1
        padding = min(-(-length // options.pad_to) * options.pad_to, room) - length
        for kind, token in kinds.items():
            padded, found = continued([token] * padding + ids)
            nats = float(exact[following] - found[following])
            changed[kind] += [padded[0] != plain[0], padded != plain, nats]
    for kind, sums in changed.items():
        first, answer, nats = sums / options.prompts
        print(f"{kind}: first token {first:.1%}, answer of {options.tokens} {answer:.1%}, {nats:+.3f} nats a token")


if __name__ == "__main__":
    main()
