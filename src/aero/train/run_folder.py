"""A run folder: what was trained, how, on what, and what came out.

config.json model.safetensors generation_config.json    the model, for `AeroForCausalLM.from_pretrained`
tokenizer.json tokenizer_config.json                    copied from the data folder, for `AutoTokenizer`
run.json                                                settings, data, versions, results
metrics.jsonl measures.jsonl tensorboard/               the course of training
divergence.json                                         where it broke down: why
checkpoints/                                            states to resume from
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from aero.data import tokenizer
from aero.data.atomic import write_text
from aero.data.folder import DataFolder, file_sha256
from aero.train.settings import TrainSettings

FORMAT_VERSION = 1
FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"

Status = Literal["unfinished", "diverged", "finished"]


@dataclass(frozen=True)
class DataUsed:
    """Which data folder a run reads. path: absolute; the rest tells whether it is still the same."""

    path: str
    tokenizer_sha256: str
    train_tokens: int
    valid_tokens: int

    @classmethod
    def of(cls, data: DataFolder) -> DataUsed:
        info = data.info
        return cls(str(data.path.resolve()), info.tokenizer_sha256, info.train.tokens, info.valid.tokens)


@dataclass(frozen=True)
class RunInfo:
    """What run.json says; its keys are these fields.

    notation: the papers' name of the architecture, or null where they have none.
    context: positions the model sees.
    parameters: how many numbers were trained.
    status: "finished" once the model is there; "unfinished" until then; "diverged" where training broke down.
    settings, data: null for a model that was imported; source: where that came from, else null.
    versions: of aero, Python and the libraries.
    result: null until finished. train_loss (nats per token, over the last line of metrics), valid_loss, perplexity,
        bits_per_byte, valid_tokens (predicted), train_tokens (read), seconds (of training), tokens_per_second,
        processes, threads (of each process), precision (of matrix products: "bf16", "fp16" or "float32");
        window, where zatt was used: what attention's log-sum-exp reached on validation text
        (`aero.entropy.window.Window`).
    """

    notation: str | None
    context: int
    parameters: int
    settings: TrainSettings | None
    data: DataUsed | None
    versions: dict[str, str]
    status: Status = "unfinished"
    result: dict[str, Any] | None = None
    source: str | None = None
    format_version: int = field(default=FORMAT_VERSION)

    def write(self, folder: Path) -> None:
        data = {**asdict(self), "settings": self.settings and self.settings.to_json()}
        write_text(folder / FILE, json.dumps(data, indent=2, allow_nan=False) + "\n")

    def data_path(self, given: Path | None = None) -> Path:
        """The data folder to read: the given one, or the one of the run. ValueError where there is none."""
        if given is not None:
            return given
        if self.data is None:
            raise ValueError(
                f"this model was imported from {self.source} and not trained here; name the data: --data DIR"
            )
        return Path(self.data.path)

    @classmethod
    def read(cls, folder: Path) -> RunInfo:
        """FileNotFoundError where there is no run, ValueError where it is of another version or damaged."""
        path = folder / FILE
        if not path.is_file():
            raise FileNotFoundError(f"no run at {folder} ({FILE} is missing); make one with `aero train`")
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not JSON: {error}") from None
        version = data.get("format_version") if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            raise ValueError(f"{path}: run format {version!r} is not {FORMAT_VERSION}; train the model again")
        try:
            values = {f.name: data[f.name] for f in fields(cls) if f.name != "source"}
            values["source"] = data.get("source")  # came later than the others
            values["settings"] = values["settings"] and TrainSettings.from_json(values["settings"])
            values["data"] = values["data"] and DataUsed(**values["data"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); train the model again") from None

    @classmethod
    def read_finished(cls, folder: Path) -> RunInfo:
        """As `read`, and ValueError where the run has no model yet."""
        info = cls.read(folder)
        if info.status != "finished":
            raise ValueError(
                f"{folder} is {info.status} and has no model yet; go on with `aero train {folder} --resume`"
            )
        return info


def finished_with_data(run: Path, data: Path | None = None) -> tuple[RunInfo, DataFolder]:
    """A finished run, and the data folder to read: the given one, or the one that it was trained on.

    FileNotFoundError where either is missing; ValueError where the run has no model yet or another tokenizer.
    """
    info = RunInfo.read_finished(run)
    folder = DataFolder(info.data_path(data))
    if folder.info.tokenizer_sha256 != file_sha256(run / tokenizer.FILE):
        raise ValueError(f"{folder.path} has another tokenizer than {run}; use data built with the same one")
    return info, folder


def latest_checkpoint(folder: Path) -> Path | None:
    """The last complete checkpoint of a run, or None."""
    found = {int(p.name.rpartition("-")[2]): p for p in (folder / CHECKPOINTS).glob("checkpoint-*") if _is_complete(p)}
    return found[max(found)] if found else None


def _is_complete(checkpoint: Path) -> bool:
    # Trainer writes this file last.
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return checkpoint.name.rpartition("-")[2].isdigit()
