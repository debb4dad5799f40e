"""A small compiled model that a server's operator publishes, by which clients guess what the served one will say.

One safetensors file in memory: the weights in float32, and the graph of every position in its metadata. It is no
secret: whoever connects gets it. The client runs it in the clear, one row at a time, with its keys and values kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from safetensors.numpy import load, save

from aero.compiler.compiled import Compiled
from aero.files.reading import foreign, parse_json
from aero.graph import Program
from aero.graph.interpret import interpret_step
from aero.graph.serialize import graph_from_json

_TEXTS = 32
_BEHIND = 16
"""Tokens at the end of a text that is gone on with which may have been guesses that did not hold."""


def pack(program: Program) -> bytes:
    """A program of every position, to be published."""
    weights = {name: np.asarray(array, np.float32, order="C") for name, array in program.weights.items()}
    return save(weights, {"graph": program.graph.dumps()})


def unpack(data: bytes, vocab_size: int) -> Compiled:
    """What `pack` made. ValueError for anything else, for weights that are no numbers, and for another vocabulary."""
    with foreign("this draft model"):
        arrays = load(data)  # checks that the header fits the file
        header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")], "its header")
        graph = graph_from_json(parse_json(header["__metadata__"]["graph"], "its graph"))
    if other := [name for name, array in arrays.items() if array.dtype != np.float32]:
        raise ValueError(f"the draft model's weight {other[0]!r} is not of float32")
    weights = {name: array.astype(np.float64) for name, array in arrays.items()}
    if {name: array.shape for name, array in weights.items()} != dict(graph.weight_shapes):
        raise ValueError("the draft model's weights are not those of its graph")
    if graph.shapes[graph.output] != (graph.length, vocab_size):
        raise ValueError(f"the draft model gives {list(graph.shapes[graph.output])}, not rows of {vocab_size} logits")
    return Compiled(Program(graph, weights))


class Draft:
    """Guesses with a compiled model. Of the last texts it keeps what it has read of them."""

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._texts: list[tuple[list[int], dict[str, np.ndarray]]] = []

    def guess(self, ids: Sequence[int], most: int) -> list[int]:
        """The most likely tokens after `ids`, one after the other; fewer than `most` at the end of its context."""
        text, found = list(ids), list[int]()
        at, read, state = self._known(text)
        while len(found) < most and len(text) <= self._compiled.context:
            if state:
                program = self._compiled.decode(read, len(text) - read)
            else:
                program = self._compiled.prefill(len(text), leave_state=True)
            logits, state = interpret_step(program, np.array(text[read:]), state)
            read = len(text)
            found.append(int(logits[0].argmax()))
            text.append(found[-1])
        if found:
            stem = [] if at is None else self._texts[at][0][:-_BEHIND]
            if at is not None and stem == list(ids[: len(stem)]):
                del self._texts[at]  # it is this text, some tokens ago
            self._texts = [*self._texts[1 - _TEXTS :], (text[:read], state)]
        return found

    def _known(self, ids: list[int]) -> tuple[int | None, int, dict[str, np.ndarray]]:
        """In which of the texts the most of all but the last of the ids were read before, how many, and what they left
        there."""
        at, best = None, 0
        for index, (text, _) in enumerate(self._texts):
            pairs = zip(text, ids[:-1], strict=False)
            same = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(text), len(ids) - 1))
            if same > best:
                at, best = index, same
        return at, best, {} if at is None else {name: rows[:best] for name, rows in self._texts[at][1].items()}
