"""A run folder: what was trained, how, on what, and what came out.

config.json model.safetensors generation_config.json    the model, for `AeroForCausalLM.from_pretrained`
tokenizer.json tokenizer_config.json                    copied from the data folder, for `AutoTokenizer`
chat_template.jinja                                     of an imported model that has one
run.json                                                settings, data, versions, results, the hashes of the other files
metrics.jsonl measures.jsonl tensorboard/               the course of training
divergence.json                                         where it broke down: why
checkpoints/                                            states to resume from (`aero.train.checkpoints`)
.lock                                                   held while a training is at work here
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from aero.data import chat_template, tokenizer
from aero.data.folder import DataFolder
from aero.files import manifest
from aero.files.reading import interpreting, present, typed
from aero.train.settings import TrainSettings

FORMAT_VERSION = 2
FILE = "run.json"
CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"

# What a run has from its first moment to its last; what else a finished one has comes at its end.
_FROM_THE_START = (CONFIG_FILE, tokenizer.FILE, tokenizer.CONFIG_FILE)
_REMEDY = "copy the folder again from where it is whole, or train or convert the model again"

Status = Literal["unfinished", "diverged", "finished"]


@dataclass(frozen=True)
class DataUsed:
    """Which data folder a run reads. path: absolute; the rest tells whether it is still the same."""

    path: str
    tokenizer_sha256: str
    train_sha256: str
    train_tokens: int
    valid_tokens: int

    @classmethod
    def of(cls, data: DataFolder) -> DataUsed:
        info = data.info
        place, tokens = str(data.path.resolve()), (info.train.tokens, info.valid.tokens)
        return cls(place, info.tokenizer_sha256, data.train_sha256, *tokens)


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
        (`aero.entropy.window.AttentionWindow`).
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
        """Write run.json, with the hashes of what is in the folder and will stay as it is."""
        data = {**asdict(self), "settings": self.settings and self.settings.to_json()}
        names = _files(folder) if self.status == "finished" else set(_FROM_THE_START)
        manifest.write(folder / FILE, data, names)

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
        """FileNotFoundError where there is no run; ValueError where it is of another version, or a file of it is not as
        it was written: its own, and all others that it names."""
        path = folder / FILE
        try:
            data, files = manifest.read(path, _REMEDY, FORMAT_VERSION)
        except FileNotFoundError:
            raise FileNotFoundError(f"no run at {folder} ({FILE} is missing); make one with `aero train`") from None
        manifest.check(folder, files, _REMEDY)
        if data.get("status") == "finished":
            manifest.check_nothing_added(folder, {FILE, *files})
        with interpreting(str(path), _REMEDY):
            found: RunInfo = typed(cls, {f.name: data[f.name] for f in fields(cls)})
        return found

    @classmethod
    def read_finished(cls, folder: Path) -> RunInfo:
        """As `read`, and ValueError where the run has no model yet."""
        info = cls.read(folder)
        if info.status != "finished":
            raise ValueError(
                f"{folder} is {info.status} and has no model yet; go on with `aero train {folder} --resume`"
            )
        return info


def copy_text_files(source: Path, folder: Path) -> None:
    """Copy how a model reads and writes text: its tokenizer, and its chat template where it has one."""
    for name in (tokenizer.FILE, tokenizer.CONFIG_FILE, chat_template.FILE):
        if present(source / name):
            shutil.copyfile(source / name, folder / name)


def finished_with_data(run: Path, data: Path | None = None) -> tuple[RunInfo, DataFolder]:
    """A finished run, and the data folder to read: the given one, or the one that it was trained on.

    FileNotFoundError where either is missing; ValueError where the run has no model yet or another tokenizer.
    """
    info = RunInfo.read_finished(run)
    folder = DataFolder(info.data_path(data))
    if folder.info.tokenizer_sha256 != manifest.file_sha256(run / tokenizer.FILE):
        raise ValueError(f"{folder.path} has another tokenizer than {run}; use data built with the same one")
    return info, folder


def _files(run: Path) -> set[str]:
    """What lies in a run folder beside run.json, hidden files left out."""
    return {path.name for path in run.iterdir() if path.is_file() and not path.name.startswith(".")} - {FILE}
