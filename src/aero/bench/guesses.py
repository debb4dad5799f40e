"""What guessing tokens ahead saves (`--guess`): private answers to pieces of a text, without guesses and with them.

Both processes run on this machine, one thread each, our own engine over TLS. Each piece of the validation text is
continued greedily by a session's own code, once for each kind of guesses: none, those from phrases of the text, those
of a draft model where one is given, then with steady steps. The tokens have to be the same, but for ties within the
noise: `other_answers` counts answers that are not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aero.bench.parties import run_parties
from aero.compiler.draft import pack
from aero.compiler.run import CompiledRun
from aero.data import tokenizer
from aero.data.folder import DataFolder
from aero.engines.connect import TWO_PARTY
from aero.engines.engine import RunCost
from aero.files.manifest import file_sha256
from aero.mpc.party import Role
from aero.report.record import Record
from aero.wire.keys import make_keys
from aero.wire.network import LOOPBACK, Network

HEADER = (
    "network",
    "guesses",
    "answers",
    "that are others",
    "tokens",
    "tokens a step",
    "acceptance",
    "MB a token",
    "rounds a token",
    "seconds a token",
    "of those without",
)


def table(records: Sequence[Record]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and rows of records of `bench_guesses`, each beside that without guesses on its network."""
    plain: dict[str, Record] = {}
    return HEADER, [_cells(record, plain.setdefault(record.extra["network"], record)) for record in records]


def _cells(record: Record, plain: Record) -> list[str]:
    more = record.extra
    accepted = more.get("acceptance")
    megabytes = ((record.bytes_client_to_server or 0) + (record.bytes_server_to_client or 0)) / 1e6
    return [
        more["network"],
        more["guesses"],
        f"{more['answers']}",
        f"{more['other_answers']}",
        f"{more['tokens']}",
        f"{more['tokens_a_step']:.2f}",
        "" if accepted is None else f"{accepted:.2f}",
        f"{megabytes:.2f}",
        f"{record.rounds or 0:.0f}",
        f"{record.seconds or 0:.3g}",
        "" if record is plain else f"{(record.seconds or 0) / (plain.seconds or 1):.2f}",
    ]


def bench_guesses(
    run: Path,
    data: Path,
    *,
    draft: Path | None = None,
    guesses: int = 4,
    prompts: int = 30,
    length: int = 64,
    tokens: int = 12,
    networks: tuple[Network, ...] = (LOOPBACK,),
    seed: int = 0,
) -> Iterator[Record]:
    """A record "guess" of each network and kind of guesses, as they come.

    run, draft: compiled folders, of one vocabulary; data: a data folder with the tokenizer of both. `prompts` pieces of
    `length` tokens of its validation text, `tokens` tokens of each answer, up to `guesses` a step.
    A record has the seconds, bytes and rounds of a token of an answer after its first; tokens_a_step; acceptance: the
    part of guesses that held, of those before which none failed.
    ValueError for folders that do not fit, and texts that are too short; ConnectionError when a party fails.
    """
    model, folder = CompiledRun.load(run), DataFolder(data)
    if file_sha256(run / tokenizer.FILE) != folder.info.tokenizer_sha256:
        raise ValueError(f"{run} has another tokenizer than {data}; give the data that the model was trained on")
    if not 2 <= tokens <= model.context - length:
        raise ValueError(
            f"{length} tokens and {tokens} after them: the model has a context of {model.context}; "
            "give a shorter --context, and at least 2 --tokens"
        )
    text, rng = folder.valid, np.random.default_rng(seed)
    if text.tokens <= length:
        raise ValueError(
            f"the validation text has {text.tokens} tokens, no piece of {length}; give a shorter --context"
        )
    pieces = [text.read(int(rng.integers(text.tokens - length)), length).tolist() for _ in range(prompts)]
    kinds: dict[str, dict[str, Any]] = {"none": {"guesses": 0}, "phrases": {"guesses": guesses}}
    if draft is not None:
        kinds["draft model"] = {"guesses": guesses, "draft": True}
    best = list(kinds)[-1]
    kinds[f"{best}, steady"] = {**kinds[best], "steady": True}
    with tempfile.TemporaryDirectory(prefix="aero-") as name:
        job: dict[str, Any] = {"run": str(run.resolve()), "prompts": pieces, "tokens": tokens}
        make_keys(Path(name) / "keys")
        if draft is not None:
            (Path(name) / "draft").write_bytes(pack(CompiledRun.load(draft).compiled.program))
        for network in networks:
            plain: list[list[int]] = []
            for kind, how in kinds.items():
                parties = Path(name) / network.name / kind
                parties.mkdir(parents=True)
                found = run_parties(
                    "aero.bench.guesses_party", parties, {**job, **how, "network": network.name, "shared": name}
                )[Role.CLIENT]
                plain = plain or found["answers"]
                record = _record(found, plain, model)
                extra = {"network": network.name, "threads": 1, "guesses": kind, "most": how["guesses"]}
                yield replace(record, extra={**extra, **record.extra})


def _record(found: dict[str, Any], plain: list[list[int]], model: CompiledRun) -> Record:
    """Of the tokens after each answer's first."""
    answers, runs = found["answers"], found["runs"]
    count = sum(len(answer) - 1 for answer in answers)
    costs = [RunCost(**run["cost"]) for run in runs]
    counts = (
        round(sum(getattr(cost, name) or 0 for cost in costs) / count)
        for name in ("bytes_client_to_server", "bytes_server_to_client", "rounds")
    )
    cost = RunCost(sum(cost.seconds for cost in costs) / count, *counts)
    held = sum(run["held"] for run in runs)
    told = held + sum(run["held"] < run["guessed"] for run in runs)
    extra = {
        "tokens_a_step": count / len(runs),
        "acceptance": held / told if told else None,
        "tokens": count,
        "answers": len(answers),
        "other_answers": sum(mine != other for mine, other in zip(answers, plain, strict=True)),
    }
    record = Record.of_cost(cost, "guess", TWO_PARTY, model.notation, model.context)
    return replace(record, extra={**record.extra, **extra})
