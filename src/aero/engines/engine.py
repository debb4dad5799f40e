"""The interface of an engine: run a graph, as one party, and say what it cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from aero.engines.reveal import Reveal
from aero.graph import Graph


@dataclass(frozen=True)
class RunCost:
    """What one run cost, counted where the bytes leave the machine.

    seconds: wall time of the run, set-up of the connection excluded.
    bytes_client_to_server, bytes_server_to_client: None where an engine sends nothing or cannot tell.
    rounds: None where an engine counts messages only.
    messages: sent by both parties together.
    """

    seconds: float
    bytes_client_to_server: int | None = None
    bytes_server_to_client: int | None = None
    rounds: int | None = None
    messages: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value < 0:
                raise ValueError(f"{name} is {value}; a cost is not negative")

    def __add__(self, other: RunCost) -> RunCost:
        """The sum, None where one of the two is not known."""
        (seconds, *counts), (more, *others) = vars(self).values(), vars(other).values()
        pairs = zip(counts, others, strict=True)
        return RunCost(seconds + more, *(None if None in pair else sum(pair) for pair in pairs))


NOTHING = RunCost(0.0, 0, 0, 0, 0)
"""What all is known of, and none was spent."""


@dataclass(frozen=True)
class StepReport:
    """One step of a run, or steps that go together, as one party saw it.

    label: names of the nodes; op: their operation. seconds: wall time; waiting_seconds: of them, for the other party's
    messages to be made and to arrive.
    """

    label: str
    op: str
    bytes_client_to_server: int
    bytes_server_to_client: int
    rounds: int
    seconds: float
    waiting_seconds: float


# Called with the label of the work in hand and the share of the run that is done, in [0, 1].
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class PromptRun:
    """One prompt's part of a batch.

    graph: a program of the model, of any length and past. ids: int64 [graph.length], given by the client alone.
    prompt: the number under which the engine keeps this prompt's state: what the graph reads of it, and leaves.
    weights: float64 arrays by name, given by the server alone; all programs of a batch name the same rows of the same
    weights alike.
    """

    graph: Graph
    ids: np.ndarray | None = None
    prompt: int = 0
    weights: Mapping[str, np.ndarray] | None = None


def check_batch(batch: Sequence[PromptRun]) -> None:
    """ValueError for a batch without prompts, or with a prompt's number more than once."""
    numbers = [run.prompt for run in batch]
    if not numbers:
        raise ValueError("a batch has at least one prompt; this one has none")
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice is not None:
        raise ValueError(f"the prompt {twice} stands in a batch twice; give each prompt a number of its own")


def first_rows(x: np.ndarray, count: int) -> np.ndarray:
    """Of a state, what the first `count` tokens left. ValueError where there are fewer."""
    if not 1 <= count <= len(x):
        raise ValueError(f"a state of {len(x)} tokens cannot be cut to {count}")
    return x[:count]


class Engine(ABC):
    """One party of a computation.

    An engine that needs both parties' secrets in one process, or gives no secrecy, is named `Insecure…`.
    """

    name: ClassVar[str]
    insecure: ClassVar[bool]
    cuts: ClassVar[bool] = False
    """Whether `cut` is there."""

    @abstractmethod
    def run(
        self, graph: Graph, *, weights: Mapping[str, np.ndarray] | None = None, ids: np.ndarray | None = None
    ) -> np.ndarray | None:
        """Compute the graph's output, for the prompt 0.

        weights: float64 arrays by name; given by the server alone.
        ids: int64 [graph.length]; given by the client alone.
        Returns the output in float64 to the client, None to the server.
        """

    def run_batch(self, batch: Sequence[PromptRun]) -> list[np.ndarray | None]:
        """Compute each prompt's output, in as many rounds as a single prompt takes.

        ValueError for graphs that are not programs of one model, for a prompt that is there twice, and for several
        prompts at an engine that runs one at a time.
        """
        if len(batch) != 1 or batch[0].prompt:
            raise ValueError(f"the engine {self.name!r} runs one prompt at a time, the prompt 0")
        return [self.run(batch[0].graph, weights=batch[0].weights, ids=batch[0].ids)]

    def load(self, batch: Sequence[PromptRun]) -> None:  # noqa: B027
        """Make ready what a batch takes of the server's weights, before anything is sent.

        ValueError or OverflowError for weights that this engine cannot compute with for so many rows, or in these
        number formats, and for more than a key bears; the engine can be used on. Nothing to do for an engine that only
        learns it while it runs.
        """

    def cut(self, prompt: int, tokens: int) -> None:
        """Of the state of a prompt, keep what its first `tokens` tokens left, as if no others had been read. Both
        parties do it. ValueError for more than were read, and for an engine that cannot."""
        raise ValueError(f"the engine {self.name!r} cannot take back tokens that it has read")

    @abstractmethod
    def forget(self, prompt: int) -> None:
        """Drop the state of a prompt that has ended; nothing happens where none is held. Both parties do it."""

    @property
    @abstractmethod
    def cost(self) -> RunCost:
        """The cost of the last run."""

    @property
    def report(self) -> tuple[StepReport, ...]:
        """The last run, step by step; empty for an engine that cannot tell."""
        return ()

    @property
    def set_up_cost(self) -> RunCost:
        """What connecting cost: keys and base transfers, for all runs so far, keys that were renewed included."""
        return RunCost(0.0)

    @property
    def tallies(self) -> Mapping[str, int]:
        """What was made for all runs so far, by name; empty for an engine that counts nothing."""
        return {}

    def reveal_only(self, what: Reveal, vocabulary: int) -> None:
        """From now on the client learns this alone of each output, in `run`'s result; both parties ask for the same.

        vocabulary: how many of the output's columns stand for tokens; the others are not looked at.
        ValueError for an engine that cannot.
        """
        if what.k is not None:
            raise ValueError(
                f"the engine {self.name!r} reveals all logits; serve with --reveal logits, or another engine"
            )

    @abstractmethod
    def close(self) -> None:
        """Release connections; an engine is not used again afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
