"""Training runs side by side: what is compared, as data. `aero.report.run_plots` draws it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aero.cost.flops import PaperCount, paper_count
from aero.data.folder import DataFolder
from aero.entropy.record import EntropyRecord
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.notation import parse
from aero.models.presets import Size
from aero.train.jsonl import read_rows
from aero.train.measures import FILE as MEASURES_FILE
from aero.train.run_folder import METRICS_FILE, RunInfo

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSummary:
    """One run. name: unique among those compared. metrics, measures: lines of its files (`aero.train`). entropy: of its
    heads on validation text, or as last measured where it has no model; None where it was not measured. count: as the
    papers' tables count, None where they have no name for the architecture.
    """

    name: str
    folder: Path
    info: RunInfo
    metrics: list[dict[str, Any]]
    measures: list[dict[str, Any]]
    entropy: EntropyRecord | None
    count: PaperCount | None

    def to_json(self) -> dict[str, Any]:
        result = self.info.result or {}
        return {
            "name": self.name,
            "folder": str(self.folder),
            "notation": self.info.notation,
            "status": self.info.status,
            "context": self.info.context,
            "parameters": self.info.parameters,
            "settings": self.info.settings and self.info.settings.to_json(),
            "result": result,
            "paper_count": None if self.count is None else self.count.to_json(),
            "entropy": None if self.entropy is None else self.entropy.to_json(),
            "metrics": self.metrics,
            "measures": self.measures,
        }


def summarise(
    folders: Sequence[Path], blocks: int = 32, on_progress: Callable[[int, int], None] | None = None
) -> list[RunSummary]:
    """Read runs, finished or not, and measure the entropy of those that have a model on `blocks` validation blocks.

    FileNotFoundError where a folder is no run.
    """
    infos = [RunInfo.read(folder) for folder in folders]
    found = []
    for done, (folder, info, name) in enumerate(zip(folders, infos, _names(folders, infos), strict=True)):
        measures = read_rows(folder / MEASURES_FILE)
        found.append(
            RunSummary(
                name=name,
                folder=folder,
                info=info,
                metrics=read_rows(folder / METRICS_FILE),
                measures=measures,
                entropy=_entropy(folder, info, name, measures, blocks),
                count=_count(AeroConfig.from_pretrained(folder), info),
            )
        )
        if on_progress:
            on_progress(done + 1, len(folders))
    return found


def _names(folders: Sequence[Path], infos: Sequence[RunInfo]) -> list[str]:
    """The papers' names where they tell the runs apart, else the folders'."""
    names = [info.notation or folder.name for folder, info in zip(folders, infos, strict=True)]
    return names if len(set(names)) == len(names) else [folder.name for folder in folders]


def _entropy(
    folder: Path, info: RunInfo, name: str, measures: list[dict[str, Any]], blocks: int
) -> EntropyRecord | None:
    if info.status == "finished" and info.data is not None:
        try:
            data = DataFolder(info.data.path)
        except (FileNotFoundError, ValueError) as error:
            logger.warning("%s is measured by its last live measures: %s", folder, error)
        else:
            texts = [data.valid.block(i, info.context) for i in range(min(blocks, data.valid.blocks(info.context)))]
            return EntropyRecord.of_model(AeroForCausalLM.from_pretrained(folder), texts, name)
    for row in reversed(measures):
        if not any(row["nan_counts"]):
            return EntropyRecord(name, row["context"], 1, tuple(tuple(heads) for heads in row["head_entropy"]))
    return None


def _count(config: AeroConfig, info: RunInfo) -> PaperCount | None:
    if info.notation is None:
        return None
    shape = (config.vocab_size, config.context, config.num_layers, config.num_heads, config.hidden_size)
    size = Size(*shape, num_key_heads=config.num_key_heads, head_width=config.head_width, ffn_width=config.ffn_width)
    return paper_count(parse(info.notation), size)
