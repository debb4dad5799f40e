"""An encoder: its structure, its task, and its arrays by the structure's names.

Encoders are imported and never trained here, so there is no model in torch: the graph is the model, and to read one
takes no torch. That it is the right one is shown when it is imported (`aero.compiler.import_encoder`).

    config.json          "model_type": "aero_encoder", the structure's fields, the task
    model.safetensors    the arrays, in float32
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from aero.compiler.run import MODEL_TYPE
from aero.files.atomic import replacing, write_text
from aero.files.reading import foreign, interpreting, read_json, typed
from aero.graph import Program
from aero.graph.task import Task
from aero.models.notation import Notation
from aero.structure import Encoder

FORMAT_VERSION = 1
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
_REMEDY = "convert the model again with `aero convert`"


@dataclass(frozen=True)
class EncoderModel:
    """weights: of any type of float; positions for the whole context."""

    structure: Encoder
    task: Task
    weights: Mapping[str, np.ndarray]

    @property
    def notation(self) -> str:
        """In the papers' names, which say nothing of where norms stand and of what positions see."""
        return str(Notation(activation="relu" if self.structure.activation == "relu" else "gelu"))

    @property
    def parameters(self) -> int:
        return sum(array.size for array in self.weights.values())

    def program(self, length: int) -> Program:
        """As it is, for texts of `length` tokens, in float64. ValueError beyond the context."""
        graph = self.structure.graph(length)
        rows = {"positions.w": self.weights["positions.w"][:length]}
        return Program(graph, {name: rows.get(name, self.weights[name]) for name in graph.weight_shapes})

    def save(self, folder: Path) -> None:
        """Into an existing folder."""
        arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in self.weights.items()}
        with replacing(folder / WEIGHTS_FILE) as temporary:
            save_file(arrays, temporary)
        about = {"model_type": MODEL_TYPE, "format_version": FORMAT_VERSION}
        about |= {"structure": asdict(self.structure), "task": self.task.to_json()}
        write_text(folder / CONFIG_FILE, json.dumps(about, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> EncoderModel:
        """What `save` wrote. ValueError for what is not usable."""
        about = read_json(folder / CONFIG_FILE)
        if about.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"{folder} holds an encoder of another format than {FORMAT_VERSION}; {_REMEDY}")
        with interpreting(f"{folder}/{CONFIG_FILE}", _REMEDY):
            structure, task = typed(Encoder, about["structure"]), typed(Task, about["task"])
        with foreign(f"{folder}/{WEIGHTS_FILE}", _REMEDY):
            return cls(structure, task, load_file(folder / WEIGHTS_FILE))
