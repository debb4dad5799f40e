"""`aero eval --engine`: perplexity in a private session, beside the same predictions in plaintext."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from aero.cli.console import wide_console
from aero.cli.private import cost_line, private_session
from aero.cli.security import security_of
from aero.cli.server_process import server_process
from aero.data.text_files import Skipped
from aero.engines.connect import ENGINES
from aero.engines.engine import RunCost
from aero.engines.insecure.plain import InsecurePlainEngine
from aero.engines.reveal import Reveal
from aero.mpc.party import Role
from aero.report.record import Record, write_records
from aero.report.session import mean_cost, total
from aero.wire.keys import make_keys

if TYPE_CHECKING:
    from aero.compiler.compiled import Compiled
    from aero.data.packing import Shard
    from aero.data.tokenizer import Tokenizer
    from aero.graph.ring_plan import RingPlan
    from aero.models import AeroForCausalLM
    from aero.report.perplexity import Disagreement, Predictions, Text

PLAIN = InsecurePlainEngine.name
_SHOWN = 10


@dataclass(frozen=True)
class PrivateEvaluation:
    """The same predictions by the model in float64, by the fixed-point reference and in a private session.

    where: the text. different: predictions whose greedy token is not the reference's. records: of the session.
    """

    notation: str
    context: int
    where: str
    texts: list[Text]
    exact: Predictions
    plain: Predictions
    private: Predictions
    different: list[Disagreement]
    records: list[Record]
    tokenizer: Tokenizer
    engine: str
    reveal: Reveal

    @property
    def tokens(self) -> int:
        return len(self.exact.actual)

    def costs(self, work: str | None = None) -> list[RunCost]:
        """Of the session's set-up and steps; of one kind of work where it is named."""
        return [
            RunCost(r.seconds or 0.0, r.bytes_client_to_server, r.bytes_server_to_client, r.rounds, r.extra["messages"])
            for r in self.records
            if work in (None, r.work)
        ]


def evaluate_privately(
    run: Path,
    data: Path | None,
    text: str | None,
    *,
    engine: str,
    reveal: str,
    tokens: int,
    prefill: int | None,
    json: Path | None,
) -> None:
    """Predict so many tokens of a text, and print and write what `aero eval` says. prefill: tokens of each text that
    are read at once, before the first prediction; by default half the context."""
    started = time.perf_counter()
    if engine not in ENGINES:
        raise ValueError(f"no engine {engine!r}; there are {', '.join(ENGINES)}")
    console = wide_console()
    found = _computed(console, run, data, text, engine, Reveal.parse(reveal), tokens, prefill)
    for part in _explained(found):
        if isinstance(part, str):
            console.print(part, soft_wrap=True, markup=False)
        else:
            console.print(part)
    if json is not None:
        write_records(json, [_record(found, run, time.perf_counter() - started), *found.records])


def _computed(
    console: Console,
    run: Path,
    data: Path | None,
    text: str | None,
    engine: str,
    reveal: Reveal,
    tokens: int,
    prefill: int | None,
) -> PrivateEvaluation:
    from aero.cli.calibration import BLOCKS
    from aero.compiler.run import load_model
    from aero.data import tokenizer as tokenizers
    from aero.report.perplexity import by_model, by_plain_engine, by_session, disagreements, texts_of
    from aero.train.run_folder import RunInfo

    info, tokenizer = RunInfo.read_finished(run), tokenizers.load(run)
    prefill = max(info.context // 2, 1) if prefill is None else prefill
    enough = info.context * (1 + math.ceil(tokens / max(info.context - prefill, 1)))
    skipped = Skipped()
    with _text(run, data, text, tokenizer, enough, skipped) as (shard, where):
        # The first blocks of the validation text choose the number formats.
        texts = texts_of(shard, info.context, prefill, tokens, first=BLOCKS if text is None else 0)
    for line in skipped.lines:
        console.print(line, style="yellow", soft_wrap=True, markup=False)
    with Progress(console=console, transient=True) as bar, tempfile.TemporaryDirectory(prefix="aero-") as name:
        doing = bar.add_task("compiling", total=tokens)
        model = load_model(run)
        folder, keys = Path(name) / "compiled", Path(name) / "keys"
        compiled, plan = compile_into(folder, run, model)
        make_keys(keys)
        bar.update(doing, description=PLAIN)
        exact = by_model(model, texts, tokenizer.vocab_size)
        plain = by_plain_engine(compiled, plan, texts, tokenizer.vocab_size)
        bar.update(doing, description=engine)
        security = security_of(keys, Role.CLIENT, False)
        with (
            server_process(folder, keys, "--engine", engine, "--reveal", str(reveal)) as address,
            private_session(address, security, lambda label, share: None) as client,
        ):
            private, records = by_session(client, texts, lambda done: bar.update(doing, completed=done))
    different = disagreements(private, plain, texts)
    return PrivateEvaluation(
        str(model.config.notation),
        info.context,
        where,
        texts,
        exact,
        plain,
        private,
        different,
        records,
        tokenizer,
        engine,
        reveal,
    )


def compile_into(folder: Path, run: Path, model: AeroForCausalLM) -> tuple[Compiled, RingPlan]:
    """Compile a run's model into a new folder, from which a server serves the very program and number formats that are
    given back."""
    from aero.cli.served import serve_run
    from aero.compiler.folder import write
    from aero.data import tokenizer

    served, _ = serve_run(run, model)
    compiled, plan = served.compiled, served.quantized.plan
    folder.mkdir()
    shutil.copyfile(run / tokenizer.FILE, folder / tokenizer.FILE)
    write(folder, compiled, str(model.config.notation), plan=plan)
    return compiled, plan


@contextmanager
def _text(
    run: Path, data: Path | None, text: str | None, tokenizer: Tokenizer, enough: int, skipped: Skipped
) -> Iterator[tuple[Shard, str]]:
    """The text to predict, and what to call it. enough: tokens that suffice of a text without end."""
    from aero.train.evaluate import shard_of_text
    from aero.train.run_folder import finished_with_data

    if text is None:
        _, folder = finished_with_data(run, data)
        yield folder.valid, str(folder.path)
    else:
        with shard_of_text(text, tokenizer, enough, skipped) as shard:
            yield shard, text


def _explained(found: PrivateEvaluation) -> Iterator[Table | str]:
    """What is printed."""
    read = found.texts[0].reads
    yield f"{found.notation}: {found.tokens} tokens of {found.where}, each after {read[0]} to {read[-1]} others"
    yield _table(found)
    for token in found.different[:_SHOWN]:
        said, expected = (repr(found.tokenizer.decode([token])) for token in (token.token, token.expected))
        yield (
            f"after {token.read} tokens {found.engine} says {said}, {PLAIN} {expected}, whose logit is there "
            f"{token.margin:.4f} larger"
        )
    if len(found.different) > _SHOWN:
        yield f"and {len(found.different) - _SHOWN} more"
    if found.private.loss is None:
        yield f"no perplexity by {found.engine}: the server reveals {found.reveal.described}"
    for work in ("set-up", "prefill", "next-token"):
        costs = found.costs(work)
        if costs:
            name = work if work == "set-up" else f"{work}, the mean of {len(costs)}"
            yield cost_line(Record.of_cost(mean_cost(costs), name, found.engine, found.notation, None))


def _table(found: PrivateEvaluation) -> Table:
    table = Table(box=None)
    for index, name in enumerate(("", "model, float64", PLAIN, found.engine)):
        table.add_column(name, justify="right" if index else "left")
    computed = (found.exact, found.plain, found.private)
    table.add_row("perplexity", *("" if c.perplexity is None else f"{c.perplexity:.3f}" for c in computed))
    for place, name in enumerate(("the model", PLAIN)):
        reference, others, empty = computed[place], computed[place + 1 :], [""] * (place + 1)
        distances = (other.distance(reference) for other in others)
        table.add_row(f"logits: off {name} by", *empty, *("" if d is None else f"{d:.4f}" for d in distances))
        same = (f"{other.agreement(reference)} of {found.tokens}" for other in others)
        table.add_row(f"greedy tokens: as {name}", *empty, *same)
    return table


def _record(found: PrivateEvaluation, run: Path, seconds: float) -> Record:
    """One record for the whole, as `aero eval` has it in plaintext."""
    token_bytes = found.tokenizer.token_bytes()
    width, loss = sum(token_bytes[token] for token in found.exact.actual), found.private.loss
    extra: dict[str, Any] = {
        "folder": str(run),
        "data": found.where,
        "loss": loss,
        "perplexity": found.private.perplexity,
        "bits_per_byte": None if loss is None else loss * found.tokens / math.log(2) / max(width, 1),
        "tokens": found.tokens,
        "blocks": len(found.texts),
        "prefill": found.texts[0].given,
        "reveal": str(found.reveal),
        "model_perplexity": found.exact.perplexity,
        "plain_perplexity": found.plain.perplexity,
        "plain_max_abs_error": found.plain.distance(found.exact),
        "max_difference_from_plain": found.private.distance(found.plain),
        "same_tokens_as_model": found.private.agreement(found.exact),
        "same_tokens_as_plain": found.private.agreement(found.plain),
        "different_tokens": [vars(token) for token in found.different],
    }
    record = Record.of_cost(total(found.costs()), "eval", found.engine, found.notation, found.context)
    error = found.private.distance(found.exact)
    return replace(record, seconds=seconds, max_abs_error=error, extra={**record.extra, **extra})
