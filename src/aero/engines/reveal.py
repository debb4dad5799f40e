"""What the client learns of the last position's logits: the server's choice, made before a session.

What is not revealed is minus infinity in the client's output, so that whoever reads it need not know the choice.
docs/operate/serving.md says what each costs, and what it tells of the model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

MAX_K = 1024


@dataclass(frozen=True)
class Reveal:
    """k: how many of the largest logits are revealed, with their ids; None: all of them.
    values: whether the logits themselves are, beside the ids; False with k = 1 alone, the greedy token.
    """

    k: int | None = None
    values: bool = True

    def __post_init__(self) -> None:
        if self.k is not None and not 1 <= self.k <= MAX_K:
            raise ValueError(f"cannot reveal the {self.k} largest logits; give 1 to {MAX_K}")
        if not self.values and self.k != 1:
            raise ValueError("only a single token is revealed without its logit")

    @classmethod
    def parse(cls, text: str) -> Reveal:
        """ "logits", "top-k:K" or "token". ValueError for anything else."""
        if text == "logits":
            return LOGITS
        if text == "token":
            return TOKEN
        match = re.fullmatch(r"top-k:([1-9][0-9]{0,5})", text)
        if match is None:
            raise ValueError(f"{text[:40]!r} is nothing to reveal; give logits, top-k:K (such as top-k:40) or token")
        return cls(int(match[1]))

    def __str__(self) -> str:
        if self.k is None:
            return "logits"
        return f"top-k:{self.k}" if self.values else "token"

    @property
    def described(self) -> str:
        """In words, for whoever reads it on a terminal."""
        if self.k is None:
            return "the logits of every token"
        return f"the {self.k} largest logits and their tokens" if self.values else "the most likely token alone"

    def of(self, logits: np.ndarray, vocabulary: int) -> np.ndarray:
        """The client's output: float64 [rows, V]. `vocabulary`: ids from here on are no tokens, and never among the
        largest. Of equal logits, those of the lower ids come first."""
        if self.k is None:
            return logits
        order = np.argsort(-logits[:, :vocabulary], axis=1, kind="stable")[:, : self.k]
        return self.spread(order, np.take_along_axis(logits, order, axis=1), logits.shape[1])

    def spread(self, ids: np.ndarray, values: np.ndarray | None, columns: int) -> np.ndarray:
        """The client's output from ids int64 [rows, k] and their logits [rows, k], which count as 0 where only the ids
        are known."""
        output = np.full((len(ids), columns), -np.inf)
        np.put_along_axis(output, ids, values if values is not None and self.values else 0.0, axis=1)
        return output


LOGITS = Reveal()
TOKEN = Reveal(1, values=False)
