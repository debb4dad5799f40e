"""`aero report`: compare training runs on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from aero.cli.console import wide_console
from aero.cli.options import json_option

if TYPE_CHECKING:
    from aero.report.runs import RunSummary

_HEADER = (
    "run",
    "status",
    "perplexity",
    "bits/byte",
    "parameters",
    "FFN FLOPs",
    "attention FLOPs",
    "nonlinear",
    "tok/s",
)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, finished or not.")],
    out: Annotated[Path, typer.Option(help="Folder for index.html, the pictures and report.json.")] = Path("report"),
    blocks: Annotated[int, typer.Option(help="Validation blocks to measure head entropies on.", min=1)] = 32,
    json: Annotated[Path | None, json_option("Write report.json here instead.")] = None,
) -> None:
    """Compare runs: loss curves, head entropies, ranges, layers over time, thresholds, perplexity, operations.

    index.html stands alone, with the pictures inside. FLOPs and nonlinear operations are counted as the papers' tables
    do. --json: a list with, for each run, name, folder, notation, status, context, parameters, settings, result (of
    run.json), paper_count, entropy (keys of `aero entropy`), metrics and measures (the lines of its files).
    """
    from aero.report.page import Page
    from aero.report.record import write_json
    from aero.report.run_plots import draw_all
    from aero.report.runs import summarise

    console = wide_console()
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("measuring", total=len(runs))
        found = summarise(runs, blocks, on_progress=lambda done, total: bar.update(task, completed=done))
    rows = [_cells(run) for run in found]
    page = Page("Training runs")
    page.table(_HEADER, rows)
    page.text("FLOPs and nonlinear operations as the papers' tables count them (Jha & Reagen 2024).")
    for title, picture in draw_all(found, out):
        page.heading(title)
        page.png(picture, title)
    page.heading("Runs")
    for run in found:
        data = run.info.data.path if run.info.data is not None else f"none; imported from {run.info.source}"
        page.code(f"{run.name}: {run.folder}\ndata: {data}\n{run.info.settings}")
    page.write(out / "index.html")
    write_json(json or out / "report.json", [run.to_json() for run in found])

    table = Table()
    shown = [_HEADER.index(column) for column in ("run", "status", "perplexity", "bits/byte", "parameters")]
    for index in shown:
        table.add_column(_HEADER[index], justify="left" if index < 2 else "right")
    for row in rows:
        table.add_row(*(row[index] for index in shown))
    console.print(table)
    console.print(f"wrote {out / 'index.html'}", soft_wrap=True, markup=False)


def _cells(run: RunSummary) -> list[str]:
    result, count = run.info.result or {}, run.count
    return [
        run.name,
        run.info.status,
        f"{result['perplexity']:.2f}" if result else "",
        f"{result['bits_per_byte']:.3f}" if result else "",
        f"{run.info.parameters:,}",
        _flops(count.ffn_flops) if count else "",
        _flops(count.attention_flops) if count else "",
        ", ".join(f"{name}: {operations}" for name, operations in count.nonlinear.items()) if count else "",
        f"{result['tokens_per_second']:,.0f}" if result else "",
    ]


def _flops(number: int) -> str:
    return f"{number / 1e9:.1f}B" if number >= 1e8 else f"{number / 1e6:.1f}M"
