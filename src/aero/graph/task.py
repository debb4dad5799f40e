"""What a program's output is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Kind = Literal["generate", "embed", "classify"]
MAX_LABELS = 10_000
MAX_LABEL = 200


@dataclass(frozen=True)
class Task:
    """kind: "generate", the output is the logits of the next token; "embed", a vector that stands for the whole text;
    "classify", the logits of its classes. normalize: whether embeddings are compared at length one, to which the client
    brings them. labels: names of the classes, in order.

    ValueError for what does not go together.
    """

    kind: Kind = "generate"
    normalize: bool = False
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"the task {self.kind!r} is none of {', '.join(get_args(Kind))}")
        if (self.kind == "classify") != bool(self.labels):
            raise ValueError(f"{self.kind} has {len(self.labels)} labels; a classifier has some, and nothing else")
        if len(self.labels) > MAX_LABELS or not all(0 < len(label) <= MAX_LABEL for label in self.labels):
            raise ValueError(f"a classifier has up to {MAX_LABELS} labels, of 1 to {MAX_LABEL} characters")
        if self.normalize and self.kind != "embed":
            raise ValueError(f"{self.kind} gives no vector to bring to length one")

    @property
    def verb(self) -> str:
        """Of our command line."""
        return f"aero {self.kind}"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "labels": list(self.labels)}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Task:
        """From what `to_json` gave, perhaps at the other party."""
        return cls(data["kind"], data["normalize"], tuple(data["labels"]))

    def need(self, kind: Kind) -> None:
        """ValueError unless it is of this kind."""
        if self.kind != kind:
            raise ValueError(f"this model is not one to {kind} with; use `{self.verb}`")


GENERATE = Task()
