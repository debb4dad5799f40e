"""`aero search`: the best model under a private budget."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from aero.cli.computer import computer
from aero.cli.console import wide_console
from aero.cli.many_runs import CpusPerRun, GpusPerRun, On, run_bars, trainer
from aero.cli.options import (
    BatchSize,
    LearningRate,
    MachineOption,
    Size,
    TeacherTemperature,
    TeacherWeight,
    TrainingSeed,
    json_option,
)

if TYPE_CHECKING:
    from aero.cost.budget import Deployment, PrivateCost
    from aero.ladder.search import Entry, Found, Heat, Plan


class TeacherUse(StrEnum):
    """both: each candidate with the baseline as its teacher, and without."""

    both = "both"
    always = "always"
    never = "never"


_TAUGHT = {TeacherUse.both: (False, True), TeacherUse.always: (True,), TeacherUse.never: (False,)}
_COSTS = ("MB a token", "rounds", "s", "MB a prompt", "rounds", "s")
_NAME = "candidate"


def search(
    out: Annotated[Path, typer.Argument(help="Folder for the runs.")],
    data: Annotated[Path, typer.Option(help="Data folder, from `aero data`.")],
    budget: Annotated[
        list[str],
        typer.Option(
            help="What may be spent in private, of bytes both ways or seconds: 3MB (of a token), 2s, 40MB/prompt. "
            "Repeatable: all of them hold."
        ),
    ],
    size: Size = "demo",
    baseline: Annotated[
        str | None, typer.Option(help="Notation to compare with, and to learn from; by default the size's first rung.")
    ] = None,
    notation: Annotated[
        list[str] | None,
        typer.Option(help="Architecture to try; by default some cheap ones of the family. Repeatable."),
    ] = None,
    layers: Annotated[
        list[int] | None, typer.Option(help="Layers to try; by default the size's and twice it. Repeatable.")
    ] = None,
    heads: Annotated[list[int] | None, typer.Option(help="Heads to try; by default likewise. Repeatable.")] = None,
    width: Annotated[list[int] | None, typer.Option(help="Widths to try; by default likewise. Repeatable.")] = None,
    teacher: Annotated[
        TeacherUse, typer.Option(help="Whether candidates learn from the baseline, too.")
    ] = TeacherUse.both,
    teacher_weight: TeacherWeight = 0.9,
    teacher_temperature: TeacherTemperature = 2.0,
    network: Annotated[str, typer.Option(help="Of the seconds: loopback, lan, wan, or like 300mbit,40ms.")] = "wan",
    machine: MachineOption = None,
    threads: Annotated[int, typer.Option(help="Of each party of our own engine, on cores of its own.", min=1)] = 1,
    steps: Annotated[int, typer.Option(help="Optimizer steps of the baseline, and of the last heat.", min=1)] = 1000,
    lr: LearningRate = 2e-3,
    batch_size: BatchSize = 16,
    zatt: Annotated[float, typer.Option(help="Weight of the penalty on attention's log-sum-exp.")] = 0.01,
    seed: TrainingSeed = 0,
    plan: Annotated[bool, typer.Option("--plan", help="Show candidates, prices and tokens; train nothing.")] = False,
    on: On = None,
    cpus_per_run: CpusPerRun = None,
    gpus_per_run: GpusPerRun = None,
    json: Annotated[Path | None, json_option("Write search.json (with --plan, the plan) here as well.")] = None,
) -> None:
    """Find the best model under a private budget: notations and shapes, with and without a teacher, by halving.

    Candidates are priced as `aero cost --preset --batch 1` does, but for windows of scores, which --zatt gives to
    trained models: more bytes, fewer rounds. Those over the budget are dropped. All others are trained for a ninth of
    --steps, the better third for a third of them, and the better third of that for all: the better ones in perplexity
    and cost together. What is left is priced as `aero cost RUN --batch 1` does. A shape wider than the size learns at
    the rate and with the multipliers that the muP rule gives it.

    Stopped, the same command goes on where it was. OUT gets the run folders, search.json (keys: budgets, network,
    machine, threads, windows, unit, heats, baseline, candidates, figure, front, choice), front.png and index.html. A
    baseline or candidate has name, notation, layers, heads, width, taught, within, cost, served (both of a token and a
    prompt: bytes, rounds, seconds), problem, and trials: steps, folder, status, perplexity.
    """
    from dataclasses import replace

    from aero.cost.budget import Budget, Deployment
    from aero.data.folder import DataFolder
    from aero.ladder.search import plan_json, plan_search
    from aero.ladder.search import search as carry_out
    from aero.ladder.space import Space
    from aero.models import presets
    from aero.report.record import write_json
    from aero.train.settings import TrainSettings
    from aero.wire.network import Network

    console = wide_console()
    budgets = [Budget.parse(text) for text in budget]
    deployment = Deployment(Network.parse(network), computer(machine, threads))
    settings = TrainSettings(steps=steps, learning_rate=lr, batch_size=batch_size, seed=seed, zatt=zatt)
    folder = DataFolder(data)
    base = replace(presets.size(size), vocab_size=folder.info.vocab_size)
    space = Space.around(
        base, baseline, notation or (), layers or (), heads or (), width or (), taught=_TAUGHT[teacher]
    )
    with console.status("pricing"):
        ahead = plan_search(space, budgets, deployment, steps, windows=zatt > 0)
    if plan:
        console.print(_plan_table(ahead))
        console.print(_heats(ahead, batch_size), soft_wrap=True, markup=False)
        if json is not None:
            write_json(json, {**plan_json(ahead), "tokens": ahead.tokens(batch_size)})
        return
    console.print(_heats(ahead, batch_size), soft_wrap=True, markup=False)

    def say(heat: Heat) -> None:
        console.print(f"{heat.runs} candidates, {heat.steps} steps each", markup=False)

    with trainer(on, cpus_per_run, gpus_per_run) as train, run_bars(console) as show:
        found = carry_out(
            out,
            folder,
            ahead,
            settings,
            lambda run: _price_run(run, deployment),
            teacher_weight,
            teacher_temperature,
            train,
            on_heat=say,
            on_progress=show,
        )
    header, rows = _header(found), _rows(found)
    table = Table()
    for column in header:
        table.add_column(column, justify="left" if column == _NAME else "right", no_wrap=column == _NAME)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    _page(found, out, header, rows)
    for line in (*_summary(found), f"wrote {out / 'index.html'}"):
        console.print(line, soft_wrap=True, markup=False)
    if json is not None:
        write_json(json, found.to_json())


def _price_run(run: Path, deployment: Deployment) -> PrivateCost:
    """Of a trained run, as our own engine serves it."""
    from aero.cli.served import serve_run
    from aero.compiler.run import load_model

    served, _ = serve_run(run, load_model(run))
    return deployment.cost(served.compiled, served.quantized.plan)


# --- how it is shown ------------------------------------------------------------------------------------------------


def _cells(cost: PrivateCost) -> list[str]:
    return [
        cell
        for work in (cost.token, cost.prompt)
        for cell in (f"{work.bytes / 1e6:,.2f}", f"{work.rounds:,.0f}", f"{work.seconds:,.1f}")
    ]


def _heats(plan: Plan, batch_size: int) -> str:
    within, all_ = sum(each.within for each in plan.candidates), len(plan.candidates)
    heats = ", ".join(f"{heat.runs} x {heat.steps} steps" for heat in plan.heats)
    return (
        f"{within} of {all_} candidates within {_budgets(plan)}; the baseline, then {heats}: "
        f"{plan.tokens(batch_size):,} tokens"
    )


def _budgets(plan: Plan) -> str:
    network = plan.deployment.network
    seconds = f" on {network}" if any(budget.unit == "seconds" for budget in plan.budgets) else ""
    return " and ".join(map(str, plan.budgets)) + seconds


def _plan_table(plan: Plan) -> Table:
    table = Table(title=f"s on {plan.deployment.network}, MB = 10^6 bytes, both ways", title_justify="left")
    for column in (_NAME, *_COSTS, "within"):
        table.add_column(column, justify="left" if column == _NAME else "right", no_wrap=column == _NAME)
    for index, priced in enumerate((plan.baseline, *plan.candidates)):
        name = priced.candidate.name if index else f"{priced.candidate.name}, the baseline"
        table.add_row(name, *_cells(priced.cost), "yes" if priced.within else "", end_section=not index)
    return table


def _header(found: Found) -> list[str]:
    return [_NAME, *_COSTS, *(f"after {heat.steps}" for heat in found.plan.heats), "front"]


def _rows(found: Found) -> list[list[str]]:
    """The baseline, then the candidates that were trained: the longest and best first."""
    trained = [entry for entry in found.candidates if entry.trials]
    trained.sort(key=lambda entry: (-len(entry.trials), entry.perplexity or float("inf")))
    return [_row(found, found.baseline), *(_row(found, entry) for entry in trained)]


def _row(found: Found, entry: Entry) -> list[str]:
    name = entry.priced.candidate.name
    steps = [heat.steps for heat in found.plan.heats]
    shown = [f"{t.perplexity:.2f}" if t.perplexity is not None else t.status for t in entry.trials]
    if entry is found.baseline:
        name, shown = f"{name}, the baseline", [""] * (len(steps) - 1) + shown
    shown += [""] * (len(steps) - len(shown))
    fronts = [work for work, names in found.fronts.items() if entry.priced.candidate.name in names]
    return [name, *_cells(entry.served or entry.priced.cost), *shown, ", ".join(fronts) or (entry.problem or "")]


def _summary(found: Found) -> list[str]:
    baseline, choice, budgets = found.baseline, found.choice, _budgets(found.plan)
    lines = [
        f"The baseline {baseline.priced.candidate.name}: perplexity {baseline.perplexity:.2f}, {_takes(baseline)}."
    ]
    if choice is None:
        return [*lines, f"As they would be served, no candidate of the last heat is within {budgets}."]
    assert choice.perplexity is not None and baseline.perplexity is not None
    change = choice.perplexity / baseline.perplexity - 1
    name = choice.priced.candidate.name
    lines.append(
        f"Within {budgets}: {name}, perplexity {choice.perplexity:.2f} ({change:+.1%}), {_takes(choice)}; "
        f"in {choice.trials[-1].folder}."
    )
    return lines


def _takes(entry: Entry) -> str:
    cost = entry.served or entry.priced.cost
    works = {"token": cost.token, "prompt": cost.prompt}
    return " and ".join(f"{c.bytes / 1e6:,.2f} MB and {c.seconds:,.1f} s a {work}" for work, c in works.items())


def _page(found: Found, out: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from aero.ladder.plots import draw_search
    from aero.report.page import Page

    plan = found.plan
    over = [each.candidate.name for each in plan.candidates if not each.within]
    page = Page(f"A search within {_budgets(plan)}")
    for line in _summary(found):
        page.text(line)
    draw_search(found, out / "front.png")
    page.png(out / "front.png", "perplexity against what a token costs in private, and against what a prompt does")
    page.table(header, rows)
    page.text(
        f"MB are 10^6 bytes, both ways; s are on {plan.deployment.network}, computing included. What the last heat "
        "trained is priced as it would be served, the others with weights of trained-like scale."
    )
    if over:
        page.text(f"Over the budget, and not trained: {'; '.join(over)}.")
    page.write(out / "index.html")
