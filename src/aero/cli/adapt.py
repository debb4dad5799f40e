"""`aero adapt`: from a model that exists towards a cheaper rung."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.table import Table

from aero.cli.console import wide_console
from aero.cli.many_runs import run_bars
from aero.cli.options import (
    BatchSize,
    FreezeOrders,
    RunFolder,
    TeacherTemperature,
    TeacherWeight,
    TrainingSeed,
    json_option,
)

if TYPE_CHECKING:
    from aero.ladder.adapt import Adapted, Step
    from aero.train.freezing import FreezeOrder

_HEADER = ("stage", "notation", "tokens", "perplexity", "MB per token", "rounds")


def adapt(
    run: RunFolder,
    out: Annotated[Path, typer.Argument(help="Folder for the stages, each a run folder.")],
    to: Annotated[str, typer.Option(help="Architecture to end with: SM+FLN+R, SM+FRMS+ScFuFFN_i2, ...")],
    data: Annotated[Path | None, typer.Option(help="Data folder; by default the one that RUN was trained on.")] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Of all stages together; by default a quarter of what RUN was trained on.", min=1)
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Increase of perplexity to bear: 0.02 is 2%.")] = 0.02,
    lr: Annotated[float, typer.Option(help="Peak learning rate of each stage.")] = 1e-3,
    batch_size: BatchSize = 8,
    freeze_order: FreezeOrders = "together",
    teacher_weight: TeacherWeight = 0.9,
    teacher_temperature: TeacherTemperature = 2.0,
    seed: TrainingSeed = 0,
    profile: Annotated[
        str, typer.Option(help="Prices of communication, as in `aero cost`: of our own engine, or another.")
    ] = "two-party",
    plan: Annotated[bool, typer.Option("--plan", help="Show stages, tokens and prices, and run nothing.")] = False,
    json: Annotated[Path | None, json_option("Write adapt.json (with --plan, its steps) here as well.")] = None,
) -> None:
    """Make a trained or imported model cheaper in private by stages, each fine-tuned with the original as its teacher.

    Smooth activations become ReLU, norms affine (FLN, FRMS), FFNs lose their gates, are scaled or fused, then left out
    from the deepest.
    Ends at the first stage beyond the tolerance. Stopped, the same command goes on where it was. OUT gets the run
    folders, adapt.json (keys: source, target, tolerance, profile, planned, steps, done, choice), front.png and
    index.html.
    """
    from aero.ladder.adapt import adapt as take
    from aero.ladder.adapt import plan as look_ahead
    from aero.report.record import write_json
    from aero.train.settings import TrainSettings

    console = wide_console()
    if plan:
        with console.status("compiling"):
            ahead = look_ahead(run, to, tokens, data, profile)
        console.print(_table(ahead))
        if json is not None:
            write_json(json, [vars(step) for step in ahead])
        return
    settings = TrainSettings(
        learning_rate=lr, batch_size=batch_size, seed=seed, freeze_order=cast("FreezeOrder", freeze_order)
    ).by_rule()
    with run_bars(console) as show:
        found = take(
            out, run, to, settings, tokens, tolerance, data, teacher_weight, teacher_temperature, profile, show
        )
    console.print(_table(found.steps))
    for line in (_last(found), _choice(found, out)):
        console.print(line, soft_wrap=True, markup=False)
    _page(found, out)
    console.print(f"wrote {out / 'index.html'}", soft_wrap=True, markup=False)
    if json is not None:
        write_json(json, found.to_json())


def _table(steps: list[Step] | tuple[Step, ...]) -> Table:
    table = Table()
    for column in _HEADER:
        table.add_column(column, justify="left" if column in ("stage", "notation") else "right")
    for row in _rows(steps):
        table.add_row(*row)
    return table


def _rows(steps: list[Step] | tuple[Step, ...]) -> list[list[str]]:
    return [
        [
            step.name,
            step.notation,
            f"{step.tokens:,}",
            "" if step.perplexity is None else f"{step.perplexity:.2f}",
            "" if step.bytes is None else f"{step.bytes / 1e6:,.2f}",
            "" if step.rounds is None else f"{step.rounds:,.0f}",
        ]
        for step in steps
    ]


def _last(found: Adapted) -> str:
    if len(found.steps) == 1:
        return f"{found.source} is {found.target} already."
    before, last = found.steps[-2:]
    if last.perplexity is None:
        return f"The last stage, {last.name}, diverged; try a lower learning rate."
    assert before.perplexity is not None
    saved = ""
    if before.bytes and last.bytes is not None:
        saved = f", and saves {(before.bytes - last.bytes) / 1e6:,.2f} MB a token ({1 - last.bytes / before.bytes:.0%})"
    return f"The last stage, {last.name}, costs {last.perplexity / before.perplexity - 1:+.1%} of perplexity{saved}."


def _choice(found: Adapted, out: Path) -> str:
    choice = found.choice
    place = choice.folder if choice is found.steps[0] else str(out / choice.folder)
    perplexity, of_bytes = found.change(choice)
    cost = "" if of_bytes is None else f", bytes {of_bytes:+.0%}"
    verdict = "Reached" if found.done else "Stopped at the tolerance; the cheapest within it is"
    return f"{verdict} {choice.notation} in {place}: perplexity {perplexity or 0:+.1%} against the original{cost}."


def _page(found: Adapted, out: Path) -> None:
    from aero.ladder.plots import draw_adapted
    from aero.report.page import Page

    page = Page(f"{found.source} towards {found.target}")
    page.text(_last(found))
    page.text(_choice(found, out))
    page.table(_HEADER, _rows(found.steps))
    draw_adapted(found, out / "front.png")
    page.png(out / "front.png", "perplexity against bytes, stage by stage")
    page.write(out / "index.html")
