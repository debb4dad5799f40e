"""`aero ladder`: the papers' four steps as one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.table import Table

from aero.cli.console import wide_console
from aero.cli.many_runs import CpusPerRun, GpusPerRun, On, run_bars, trainer
from aero.cli.options import BatchSize, LearningRate, Size, TrainingSeed, json_option

if TYPE_CHECKING:
    from aero.ladder.climb import Ladder
    from aero.train.recipes import Flavour

_HEADER = ("step", "rung", "perplexity", "MB per token", "front")


def ladder(
    out: Annotated[Path, typer.Argument(help="Folder for the rungs, each a run folder.")],
    data: Annotated[Path, typer.Option(help="Data folder, from `aero data`.")],
    size: Size = "nano",
    tolerance: Annotated[float, typer.Option(help="Increase of perplexity to bear: 0.02 is 2%.")] = 0.02,
    steps: Annotated[int, typer.Option(help="Optimizer steps of each rung.")] = 1000,
    lr: LearningRate = 2e-3,
    batch_size: BatchSize = 16,
    zatt: Annotated[float, typer.Option(help="Weight of the penalty on attention's log-sum-exp.")] = 0.01,
    entropy_weight: Annotated[float, typer.Option(help="Weight of the entropy regulariser in step 4.")] = 0.1,
    seed: TrainingSeed = 0,
    profile: Annotated[
        str, typer.Option(help="Prices of communication, as in `aero cost`: of our own engine, or another.")
    ] = "two-party",
    flavour: Annotated[
        str, typer.Option(help="recommended, or papers: without norms that end as constants, which are ours.")
    ] = "recommended",
    on: On = None,
    cpus_per_run: CpusPerRun = None,
    gpus_per_run: GpusPerRun = None,
    json: Annotated[Path | None, json_option("Write ladder.json here as well.")] = None,
) -> None:
    """Train with ever fewer nonlinearities, choose the stabiliser, prune FFNs, regularise entropy; draw the front.

    Some twelve trainings. Stopped, the same command goes on where it was. OUT gets the run folders, ladder.json (keys:
    tolerance, stabilizer, pruned, rungs, front, choice), front.png and index.html.
    """
    from aero.data.folder import DataFolder
    from aero.ladder.climb import climb
    from aero.ladder.plots import draw_front
    from aero.report.page import Page
    from aero.report.record import write_json
    from aero.train.settings import TrainSettings

    console = wide_console()
    settings = TrainSettings(
        steps=steps, learning_rate=lr, batch_size=batch_size, seed=seed, zatt=zatt, entropy_weight=entropy_weight
    ).by_rule()
    folder, kind = DataFolder(data), cast("Flavour", flavour)
    with trainer(on, cpus_per_run, gpus_per_run) as train, run_bars(console) as show:
        found = climb(out, folder, size, settings, tolerance, profile, kind, train, show)
    rows = _rows(found)
    table = Table()
    for column in _HEADER:
        table.add_column(column, justify="left" if column == "rung" else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    page = Page("The ladder")
    page.text(_summary(found))
    page.table(_HEADER, rows)
    draw_front(found, out / "front.png")
    page.png(out / "front.png", "perplexity against bytes")
    page.write(out / "index.html")
    console.print(_summary(found), soft_wrap=True, markup=False)
    console.print(f"wrote {out / 'index.html'}", soft_wrap=True, markup=False)
    if json is not None:
        write_json(json, found.to_json())


def _rows(found: Ladder) -> list[list[str]]:
    front = found.front
    return [
        [
            str(rung.step),
            rung.name,
            rung.status if rung.perplexity is None else f"{rung.perplexity:.2f}",
            "" if rung.bytes is None else f"{rung.bytes / 1e6:,.1f}",
            "yes" if rung in front else "",
        ]
        for rung in found.rungs
    ]


def _summary(found: Ladder) -> str:
    choice = "none: the baseline diverged" if found.choice is None else found.choice.name
    return (
        f"Stabiliser: {found.stabilizer}. FFNs pruned: {found.pruned}. "
        f"Fewest bytes within {found.tolerance:.1%} of the baseline's perplexity: {choice}."
    )
