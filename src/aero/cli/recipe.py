"""`aero recipe`: the papers' experiments, one command each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.table import Table

from aero.cli.console import wide_console
from aero.cli.many_runs import CpusPerRun, GpusPerRun, On, run_bars, trainer
from aero.cli.options import Records, TrainingSeed

if TYPE_CHECKING:
    from aero.train.recipes import Flavour


def recipe(
    name: Annotated[str | None, typer.Argument(help="The experiment; without it, all are listed.")] = None,
    variant: Annotated[list[str] | None, typer.Option(help="One of its runs, by default all. Repeatable.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder, from `aero data`.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to make the run folders in.")] = Path("runs"),
    flavour: Annotated[str, typer.Option(help="Settings: papers, or recommended.")] = "papers",
    steps: Annotated[int | None, typer.Option(help="Optimizer steps; by default the recipe's.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Blocks of the context length for one step; by default the recipe's.")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="Forward passes of that many blocks for one step; by default the recipe's.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Number format of matrix products; by default the recipe's.")
    ] = None,
    seed: TrainingSeed = 0,
    valid_blocks: Annotated[
        int | None, typer.Option(help="Blocks for the perplexity at the end; by default all.")
    ] = None,
    on: On = None,
    cpus_per_run: CpusPerRun = None,
    gpus_per_run: GpusPerRun = None,
    json: Records = None,
) -> None:
    """Train the runs of a published experiment, each into OUT/EXPERIMENT/VARIANT. Finished ones stay, others go on.

    Without NAME: the experiments, their runs, and how their data are made. --json adds to a record's usual keys:
    folder, status, and those of run.json's result.
    """
    from aero.data.folder import DataFolder
    from aero.report.record import Record, write_records
    from aero.train.many import Wanted
    from aero.train.recipes import EXPERIMENTS, experiment

    console = wide_console()
    if name is None:
        console.print(_list(EXPERIMENTS))
        return
    chosen = experiment(name)
    recipes = [chosen.recipe(v, cast("Flavour", flavour)) for v in variant or chosen.variants]
    if data is None:
        made_of = recipes[0]
        tokenizer = f" --tokenizer {made_of.tokenizer}" if made_of.tokenizer else " --vocab 16384"
        raise ValueError(f"name the data: --data DIR, made by `aero data DIR --source {made_of.source}{tokenizer}`")
    changes: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "gradient_accumulation": accumulate}
    changes |= {"precision": precision, "valid_blocks": valid_blocks}
    changes = {key: value for key, value in changes.items() if value is not None}
    folder, records = DataFolder(data), []
    runs = [
        Wanted(
            each.variant,
            out / chosen.name / each.variant.replace("/", "_"),
            each.config(folder.info.vocab_size),
            replace(each.settings, seed=seed, **changes),
        )
        for each in recipes
    ]
    with trainer(on, cpus_per_run, gpus_per_run) as train, run_bars(console) as show:
        infos = train(runs, folder, show)
    for run, info in zip(runs, infos, strict=True):
        result = dict(info.result or {})
        outcome = f"perplexity {result['perplexity']:.3f}" if result else info.status
        console.print(f"{run.name}: {outcome}, {run.out}", soft_wrap=True, markup=False)
        extra = {"folder": str(run.out), "status": info.status}
        seconds = result.pop("seconds", None)
        records.append(
            Record("train", "torch", info.notation, info.context, seconds=seconds, extra={**extra, **result})
        )
    if json is not None:
        write_records(json, records)


def _list(experiments: dict[str, Any]) -> Table:
    table = Table(title="aero recipe NAME --data DIR")
    table.add_column("name")
    table.add_column("what")
    table.add_column("runs")
    for found in experiments.values():
        table.add_row(found.name, found.title, ", ".join(found.variants))
    return table
