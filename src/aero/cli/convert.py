"""`aero convert`: a model of Hugging Face as a run folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from aero.cli.options import Records


def convert(
    source: Annotated[str, typer.Argument(help="Local folder, or a name on the Hugging Face Hub: gpt2, ...")],
    out: Annotated[Path, typer.Argument(help="Run folder to make.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an existing run.")] = False,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="Of an encoder, what its embeddings are: mean, of all tokens' vectors, or first. By default as its "
            "files say, else mean.",
            metavar="mean|first",
        ),
    ] = None,
    json: Records = None,
) -> None:
    """Import a GPT-2, GPT-NeoX (Pythia), OPT, Llama, Mistral, Qwen2 or Qwen3, with its tokenizer; compare the logits.
    Or an encoder: a BERT (MiniLM) or DistilBERT that gives embeddings, or that classifies texts.

    OUT is a run folder like one that `aero train` makes, without training settings and data: verbs that read text need
    --data, made with `aero data --tokenizer OUT`. --json adds to a record's usual keys: folder, source, parameters,
    relative_error (largest difference of a logit, or of an encoder's output, relative to the largest).
    """
    from aero.files.atomic import check_replaceable
    from aero.models.reference import is_encoder
    from aero.report.record import Record, write_records
    from aero.train.imported import checkpoint_folder, import_checkpoint
    from aero.train.run_folder import FILE

    started = time.perf_counter()
    console = Console(highlight=False)
    check_replaceable(out, FILE, force)
    with console.status(f"converting {source}"):
        folder = checkpoint_folder(source)
        if encoder := is_encoder(folder):
            from aero.cli.import_encoder import import_encoder_checkpoint

            imported: Any = import_encoder_checkpoint(folder, source, out, pooling=pooling, force=force)
        elif pooling is not None:
            raise ValueError(f"{source} is no encoder: --pooling says what its embeddings are")
        else:
            imported = import_checkpoint(source, out, force)
    info, error = imported.info, imported.error
    lines = [
        f"{info.notation}: {info.parameters:,} parameters, context {info.context}; "
        f"{'outputs' if encoder else 'logits'} equal to {error:.1e} of the largest",
        *imported.notes,
        f"wrote {out}",
    ]
    console.print(
        "\n".join(lines),
        soft_wrap=True,
        markup=False,
    )
    if json is not None:
        extra = {"folder": str(out), "source": source, "parameters": info.parameters, "relative_error": error}
        seconds = time.perf_counter() - started
        write_records(json, [Record("convert", "torch", info.notation, info.context, seconds=seconds, extra=extra)])
