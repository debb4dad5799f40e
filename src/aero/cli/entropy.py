"""`aero entropy`: how spread the attention of every head is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress, TaskID
from rich.table import Table

from aero.cli.console import wide_console
from aero.cli.options import Records

if TYPE_CHECKING:
    from aero.entropy.record import EntropyRecord


def entropy(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of trained models.")],
    data: Annotated[Path | None, typer.Option(help="Data folder; by default the one each was trained on.")] = None,
    blocks: Annotated[int, typer.Option(help="Measure on the first so many blocks.", min=1)] = 64,
    out: Annotated[Path | None, typer.Option(help="Draw heat maps into this PNG file.")] = None,
    json: Records = None,
) -> None:
    """Measure the entropy of every attention head on validation text, and draw it as heat maps side by side.

    The table shows the shares of heads in the quarters of the largest entropy: many in the first mean collapse, many
    in the last overload. --json adds to a record's usual keys: folder, data, name, blocks, head_entropy (nats, layers
    by heads), layer_means, mean, maximum, log_context, uniform (of a head that attends to all alike), shares,
    shares_of_log_context (the same for quarters of log T).
    """
    from aero.entropy.record import EntropyRecord
    from aero.models import AeroForCausalLM
    from aero.report.record import Record, write_records
    from aero.train.run_folder import finished_with_data

    if out is not None:
        from aero.entropy.plots import draw_heat_maps  # first, so that a missing package costs no work

    console = wide_console()
    found: list[EntropyRecord] = []
    records: list[Record] = []
    with Progress(console=console, transient=True) as bar:
        for run in runs:
            started = time.perf_counter()
            info, folder = finished_with_data(run, data)
            count = min(blocks, folder.valid.blocks(info.context))
            texts = [folder.valid.block(index, info.context) for index in range(count)]
            name = info.notation or run.name
            task = bar.add_task(name, total=count)
            model = AeroForCausalLM.from_pretrained(run)

            def show(done: int, total: int, task: TaskID = task) -> None:
                bar.update(task, completed=done)

            measured = EntropyRecord.of_model(model, texts, name, on_progress=show)
            found.append(measured)
            extra = {"folder": str(run), "data": str(folder.path), **measured.to_json()}
            context = extra.pop("context")
            seconds = time.perf_counter() - started
            records.append(Record("entropy", "torch", info.notation, context, seconds=seconds, extra=extra))
    console.print(_table(found))
    if out is not None:
        draw_heat_maps(found, out)
        console.print(f"wrote {out}", soft_wrap=True, markup=False)
    if json is not None:
        write_records(json, records)


def _table(records: list[EntropyRecord]) -> Table:
    table = Table(title="head entropy (nats), and shares of heads in the quarters of the largest")
    table.add_column("model")
    for heading in ("mean", "of log T", "largest", "1st: collapsed", "2nd", "3rd", "4th: overloaded"):
        table.add_column(heading, justify="right")
    for record in records:
        shares = (f"{share:.0%}" for share in record.shares)
        relative = f"{record.mean / record.log_context:.2f}" if record.log_context else "-"
        table.add_row(record.name, f"{record.mean:.2f}", relative, f"{record.maximum:.2f}", *shares)
    return table
