"""A program on disk: `graph.json` (public structure) and `weights.safetensors` (the server's), in one folder."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from aero.files import manifest
from aero.files.atomic import replacing
from aero.files.reading import foreign, interpreting, typed
from aero.graph.graph import FORMAT_VERSION, Graph, Node, Program, require_finite

GRAPH_FILE = "graph.json"
WEIGHTS_FILE = "weights.safetensors"
_REMEDY = "compile the model again with `aero compile`, or copy the folder again"

# A structure that comes from a peer is refused beyond these sizes, before anything is allocated for it.
MAX_NODES = 100_000
MAX_ELEMENTS = 1 << 34
_AT_ONCE = 1 << 20
"""Numbers of a weight that are checked together; their pages then go back."""


def graph_from_json(data: Mapping[str, Any]) -> Graph:
    """A graph from what `Graph.to_json` gave, perhaps at the other party. ValueError unless all of it is sound."""
    if not isinstance(data, Mapping) or data.get("format_version") != FORMAT_VERSION:
        found = data.get("format_version") if isinstance(data, Mapping) else type(data).__name__
        raise ValueError(
            f"graph format {found!r} is not {FORMAT_VERSION}; compile the model again with this version of aero"
        )
    with interpreting("the graph", "compile the model again"):
        listed = typed(list[dict[str, Any]], data["nodes"], "nodes")
        if len(listed) > MAX_NODES:
            raise ValueError(f"a graph of {len(listed)} nodes exceeds the limit of {MAX_NODES}")
        nodes = tuple(typed(Node, node, f"nodes[{i}]") for i, node in enumerate(listed))
        shapes = typed(dict[str, tuple[int, ...]], data["weight_shapes"], "weight_shapes")
        states = typed(dict[str, tuple[int, ...]], data.get("state_in", {}), "state_in")
        if any(n < 1 for shape in (*shapes.values(), *states.values()) for n in shape):
            raise ValueError("a weight or a state has an empty dimension")
        left = typed(dict[str, str], data.get("state_out", {}), "state_out")
        length, output = typed(int, data["length"], "length"), typed(str, data["output"], "output")
        graph = Graph(length, nodes, shapes, output, states, left)
        sizes = [int(np.prod(shape, dtype=object)) for shape in (*graph.shapes.values(), *shapes.values())]
        if sum(sizes) > MAX_ELEMENTS:
            raise ValueError(f"a graph of {sum(sizes)} elements exceeds the limit of {MAX_ELEMENTS}")
    return graph


def save(program: Program, folder: Path) -> None:
    """Write a program; the structure is written last, with the weights' hash, so a folder with it is complete."""
    with replacing(folder / WEIGHTS_FILE) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in program.weights.items()}, temporary)
    manifest.write(folder / GRAPH_FILE, program.graph.to_json(), (WEIGHTS_FILE,))


def load_graph(folder: Path) -> Graph:
    """The structure alone of what `save` wrote. FileNotFoundError or ValueError name what is wrong."""
    return graph_from_json(manifest.read(folder / GRAPH_FILE, _REMEDY)[0])


def load(folder: Path) -> Program:
    """Read what `save` wrote. FileNotFoundError or ValueError name what is wrong."""
    data, files = manifest.read(folder / GRAPH_FILE, _REMEDY)
    manifest.check(folder, files, _REMEDY)
    graph = graph_from_json(data)
    weights = _read_weights(folder / WEIGHTS_FILE, graph)
    return Program(graph, weights, weights)


def _read_weights(path: Path, graph: Graph) -> dict[str, np.ndarray]:
    """The graph's weights, and no others, in the type in which `save` writes them: in the file's own pages, which the
    system can have back. They must not be overwritten in place, which nothing of ours does."""
    with foreign(str(path), "compile the model again"):
        with safe_open(path, framework="numpy"):  # checks that the header fits the file
            data = np.asarray(np.memmap(path, np.uint8, "r"))
        start = 8 + int(data[:8].view("<u8")[0])
        header = json.loads(data[8:start].tobytes())
    header.pop("__metadata__", None)
    different = sorted(set(header) ^ set(graph.weight_shapes))
    if different:
        raise ValueError(f"{path} and {GRAPH_FILE} disagree on the weight {different[0]!r}; compile the model again")
    if other := [name for name, entry in header.items() if entry["dtype"] != "F64"]:
        raise ValueError(f"{path} holds {other[0]!r} as {header[other[0]]['dtype']}, not F64; compile the model again")
    places = {name: slice(*(start + place for place in entry["data_offsets"])) for name, entry in header.items()}
    weights = {name: data[places[name]].view("<f8").reshape(entry["shape"]) for name, entry in header.items()}
    for name, array in weights.items():
        for first in range(0, array.size, _AT_ONCE):
            some = array.reshape(-1)[first : first + _AT_ONCE]
            require_finite(name, some)
            give_pages_back(some)
    return weights


def give_pages_back(array: np.ndarray) -> None:
    """Let the system have back the pages of a file in which an array of `load` lies: who reads it again reads the file.
    Nothing for other arrays, and where the system has no such call."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        place = array.ctypes.data - np.frombuffer(base, np.uint8).ctypes.data
        start = place // mmap.PAGESIZE * mmap.PAGESIZE
        base.madvise(mmap.MADV_DONTNEED, start, place - start + array.nbytes)
