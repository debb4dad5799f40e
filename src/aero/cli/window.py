"""`aero window`: what attention's log-sum-exp reaches, and how far other text leaves it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from aero.cli.console import wide_console
from aero.cli.options import Records, RunFolder

if TYPE_CHECKING:
    from aero.entropy.window import AttentionWindow

_OWN = "validation text"


def window(
    run: RunFolder,
    data: Annotated[Path | None, typer.Option(help="Data folder; by default the one it was trained on.")] = None,
    text: Annotated[list[Path] | None, typer.Option(help="Measure on this text file, too. Repeatable.")] = None,
    blocks: Annotated[int, typer.Option(help="Texts of the context length, of each kind.", min=1)] = 32,
    json: Records = None,
) -> None:
    """Measure the window of a run's attention logits on validation text, and on text that is nothing like it.

    The window of a head is the range of the log-sum-exp of its rows' logits; a private softmax without a maximum relies
    on it for every prompt. The table shows how far prose, other languages and noise leave the window of the validation
    text. --json adds to a record's usual keys: folder, data, blocks, and windows: for each kind of text low and high
    (log-sum-exp, nats, layers by heads), depth (largest log-sum-exp minus logit), bound, widest, deepest, beyond (how
    far a head leaves the validation window) and heads_beyond (share of heads that do).
    """
    from aero.data.probes import PROBES, probe
    from aero.data.text_files import read_text
    from aero.entropy.window import AttentionWindow
    from aero.models import AeroForCausalLM
    from aero.report.record import Record, write_records
    from aero.train.run_folder import finished_with_data

    console = wide_console()
    started = time.perf_counter()
    info, folder = finished_with_data(run, data)
    tokenizer, length = folder.tokenizer(), info.context
    texts = {_OWN: [folder.valid.block(i, length) for i in range(min(blocks, folder.valid.blocks(length)))]}
    texts |= {name: probe(name, tokenizer, blocks, length) for name in PROBES}
    for path in text or []:
        ids = tokenizer.encode(read_text(path))
        if len(ids) < length:
            raise ValueError(f"{path} has {len(ids)} tokens, less than the context of {length}; give a longer text")
        count = min(blocks, len(ids) // length)
        texts[str(path)] = [_array(ids[i * length : (i + 1) * length]) for i in range(count)]
    model = AeroForCausalLM.from_pretrained(run)
    windows: dict[str, AttentionWindow] = {}
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("measuring", total=len(texts))
        for name, blocks_of_it in texts.items():
            windows[name] = AttentionWindow.of_model(model, blocks_of_it)
            bar.advance(task)
    console.print(_table(info.notation or run.name, windows))
    if json is not None:
        own = windows[_OWN]
        kinds: dict[str, Any] = {}
        for name, found in windows.items():
            beyond = own.beyond(found)
            kinds[name] = {**found.to_json(), "beyond": beyond.tolist(), "heads_beyond": float((beyond > 0).mean())}
        extra = {"folder": str(run), "data": str(folder.path), "blocks": blocks, "windows": kinds}
        seconds = time.perf_counter() - started
        write_records(json, [Record("window", "torch", info.notation, length, seconds=seconds, extra=extra)])


def _array(ids: list[int]) -> Any:
    import numpy as np

    return np.asarray(ids, dtype=np.int64)


def _table(name: str, windows: dict[str, AttentionWindow]) -> Table:
    table = Table(title=f"{name}: log-sum-exp of attention rows (nats)")
    table.add_column("text", no_wrap=True)
    for heading in ("largest", "widest", "depth", "heads beyond", "by up to"):
        table.add_column(heading, justify="right")
    own = windows[_OWN]
    for kind, found in windows.items():
        beyond = own.beyond(found)
        outside = ("-", "-") if found is own else (f"{(beyond > 0).mean():.0%}", f"{beyond.max():.2f}")
        table.add_row(kind, f"{found.bound:.2f}", f"{found.widest:.2f}", f"{found.deepest:.1f}", *outside)
    return table
