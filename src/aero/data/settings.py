"""How to build a data folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from aero.data import corpus, hub, tokenizer

BATCH = 64  # documents encoded at a time
Progress = Callable[[str, int, int], None]  # stage, bytes done, bytes in all (0: not known)


@dataclass(frozen=True)
class DataSettings:
    """Where the text comes from, and what is made of it."""

    sources: tuple[str, ...] = (corpus.STDLIB,)
    """ "stdlib", "installed", files, folders; or one data set of Hugging Face: "codeparrot", "hf:NAME", "hf:FOLDER"."""
    vocab_size: int = 4096
    """Number of token ids to aim at, where a tokenizer is trained."""
    tokenizer: str | None = None
    """An existing one: tokenizer.json, a folder that holds it, or a name on the Hub. None: train one on the text."""
    valid_fraction: float = 0.05
    """Share of the bytes kept for validation, in whole files, or packages where the source is "installed"; of the
    documents, where they are streamed."""
    max_megabytes: float | None = None
    """Limit on the text used, in 10^6 bytes; None: all of it."""
    seed: int = 0
    """Decides the order of the documents, and so which are used and which are for validation."""
    field: str | None = None
    """Of the texts in JSON lines, or in a data set; None: the usual ones are tried."""
    tokenizer_megabytes: float = 8.0
    """How much of the training text the tokenizer is trained on, in 10^6 bytes."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("name at least one source")
        if any(hub.parse(source) for source in self.sources) and len(self.sources) > 1:
            raise ValueError("a data set of Hugging Face stands alone; build one folder for it, another for the rest")
        if self.vocab_size < tokenizer.MIN_VOCAB:
            raise ValueError(f"a vocabulary of {self.vocab_size} is too small; it needs at least {tokenizer.MIN_VOCAB}")
        if not 0 < self.valid_fraction < 1:
            raise ValueError(f"the fraction for validation is {self.valid_fraction}; it must lie between 0 and 1")
        for name in ("max_megabytes", "tokenizer_megabytes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0")

    def hub_data(self) -> hub.HubData | None:
        """The data set of Hugging Face to stream, if the source names a data set."""
        found = hub.parse(self.sources[0])
        return found if found is None or self.field is None else replace(found, field=self.field)
