"""The ordering study: what each nonlinearity is worth at small scale, over several seeds, in the papers' and in scaled
settings (Jha & Reagen 2024, §3: SM+LN+R ~ SM+LN+G < SM+R < SM+G < SM+LN, and SM diverges).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from aero.data.folder import DataFolder
from aero.models import AeroConfig
from aero.models.presets import Scale, Size
from aero.report.record import Record
from aero.train.jsonl import read_rows
from aero.train.many import OnProgress, TrainMany, Wanted, one_after_another
from aero.train.measures import FILE as MEASURES_FILE
from aero.train.settings import TrainSettings

NOTATIONS = (
    "SM+LN+G",
    "SM+LN+R",
    "SM+LN",
    "SM+G",
    "SM+R",
    "SM+FLN+R",
    "SM",
    "SM+ScFFN",
    "SM+ScFuFFN",
    "EReg(SM(t_h)+ScFuFFN)",
)
SCALES: dict[str, Scale] = {"recommended": "width", "gpt2": "gpt2"}
# Of GPT-2 small on CodeParrot, T=128 (2024, tables of §3 and §5), to compare the order with.
PUBLISHED = {
    "SM+LN+G": 2.69,
    "SM+LN+R": 2.76,
    "SM+LN": 3.38,
    "SM+G": 3.20,
    "SM+R": 2.94,
    "SM": None,
    "SM+ScFFN": 3.50,
    "SM+ScFuFFN": 3.48,
    "EReg(SM(t_h)+ScFuFFN)": 3.21,
}


def run_study(
    out: Path,
    data: DataFolder,
    size: str | Size,
    settings: TrainSettings,
    seeds: Sequence[int] = (0, 1, 2),
    notations: Sequence[str] = NOTATIONS,
    train: TrainMany = one_after_another,
    on_progress: OnProgress | None = None,
) -> list[Record]:
    """Train every architecture with every seed, at GPT-2's scale and at the recommended one, by the rule; each run a
    folder of `out`. Stopped, the same call goes on. Records: work "ordering/SCALE", extra seed, status, perplexity,
    shares (of heads, in the quarters of the largest entropy, as last measured), tokens, precision.
    """
    each = [(scale, notation, seed) for scale in SCALES for notation in notations for seed in seeds]
    runs = []
    for scale, notation, seed in each:
        name = f"{scale}/{notation}/{seed}"
        config = AeroConfig.from_notation(notation, size, scale=SCALES[scale], vocab_size=data.info.vocab_size)
        scaled = settings.by_rule() if SCALES[scale] == "width" else settings
        runs.append(Wanted(name, out / name, config, replace(scaled, seed=seed)))
    records = []
    for (scale, notation, seed), run, info in zip(each, runs, train(runs, data, on_progress), strict=True):
        result = info.result or {}
        measures = read_rows(run.out / MEASURES_FILE)
        extra: dict[str, Any] = {
            "seed": seed,
            "status": info.status,
            "perplexity": result.get("perplexity"),
            "shares": measures[-1]["shares"] if measures else None,
            "tokens": result.get("train_tokens"),
            "precision": result.get("precision"),
        }
        seconds = result.get("seconds")
        records.append(Record(f"ordering/{scale}", "torch", notation, info.context, seconds=seconds, extra=extra))
    return records


def study_rows(records: Sequence[Record]) -> list[list[str]]:
    """For each architecture: perplexity at each scale as mean ± standard deviation over seeds, heads collapsed and
    overloaded at the recommended one, and the papers' perplexity. Diverged runs are counted, not averaged away.
    """
    rows = []
    for notation in dict.fromkeys(record.notation or "" for record in records):
        own = [record for record in records if record.notation == notation]
        by_scale = {scale: [r for r in own if r.work == f"ordering/{scale}"] for scale in SCALES}
        shares = [r.extra["shares"] for r in by_scale["recommended"] if r.extra["shares"]]
        published = PUBLISHED.get(notation, "-")
        rows.append(
            [
                notation,
                _over_seeds(by_scale["gpt2"]),
                _over_seeds(by_scale["recommended"]),
                f"{mean(s[0] for s in shares):.0%}" if shares else "-",
                f"{mean(s[3] for s in shares):.0%}" if shares else "-",
                "NaN" if published is None else str(published),
            ]
        )
    return rows


STUDY_HEADER = (
    "network",
    "perplexity, GPT-2's scale",
    "perplexity, recommended scale",
    "heads in the lowest quarter",
    "heads in the highest",
    "papers, 768 wide, 2.1B tokens",
)


def _over_seeds(records: Sequence[Record]) -> str:
    found = [r.extra["perplexity"] for r in records if r.extra["perplexity"] is not None]
    lost = len(records) - len(found)
    text = f"{mean(found):.2f}" if found else "-"
    if len(found) > 1:
        text += f" ± {stdev(found):.2f}"
    return text + (f" ({lost} of {len(records)} diverged)" if lost else "")
