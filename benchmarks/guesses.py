"""What guessing tokens ahead saves (`--guess`): private answers to pieces of the validation text, with and without.

    aero compile RUN --out COMPILED; python benchmarks/guesses.py COMPILED DATA --draft OTHER --json guesses.json

Server and client are two processes on this machine, over TLS, on each emulated network. Prompts are pieces of the text
of up to 64 tokens; each is continued greedily, on slow networks (round trips of 10 ms and more) fewer
and shorter (--slow-prompts, --slow-tokens). Without guesses, with those from phrases, and with those of a draft model
where one is given, then with steady steps: the tokens have to be the same, but for ties within the noise
(`other_answers` counts answers that are not). Records "guess" have seconds, bytes and rounds of a token of an answer
after its first, tokens_a_step, and acceptance: the part of guesses that held, of those before which none failed.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from proxy_delay import process, serve, session

from aero.compiler.draft import Draft, unpack
from aero.compiler.run import CompiledRun
from aero.data.folder import DataFolder
from aero.engines.connect import TWO_PARTY
from aero.engines.engine import RunCost
from aero.report.record import Record, write_records
from aero.serve.client import Client, PrivateToken
from aero.serve.drafts import Guess
from aero.wire.keys import make_keys
from aero.wire.network import Network

SLOW = 0.01
"""Seconds of a round trip from which on a network is slow."""
MOST = 64
"""Tokens of a prompt."""


def answers(client: Client, prompts: list[list[int]], tokens: int) -> list[list[PrivateToken]]:
    return [list(client.generate(ids, tokens)) for ids in prompts]


def record_of(found: list[list[PrivateToken]], plain: list[list[PrivateToken]], notation: str, context: int) -> Record:
    """Of the tokens after each answer's first."""
    runs = {token.run.index: token.run for answer in found for token in answer[1:]}
    count = sum(len(answer) - 1 for answer in found)
    costs = [run.cost for run in runs.values()]
    seconds = sum(cost.seconds for cost in costs) / count
    counts = (
        round(sum(getattr(cost, name) or 0 for cost in costs) / count)
        for name in ("bytes_client_to_server", "bytes_server_to_client", "rounds")
    )
    record = Record.of_cost(RunCost(seconds, *counts), "guess", TWO_PARTY, notation, context)
    other = sum([t.id for t in a] != [t.id for t in b] for a, b in zip(found, plain, strict=True))
    held = sum(run.held for run in runs.values())
    told = held + sum(run.held < run.guessed for run in runs.values())
    extra = {
        "tokens_a_step": count / len(runs),
        "acceptance": held / told if told else None,
        "tokens": count,
        "answers": len(found),
        "other_answers": other,
    }
    return replace(record, extra={**record.extra, **extra})


def draft_for(data: bytes, vocab_size: int) -> Guess:
    return Draft(unpack(data, vocab_size)).guess


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--prompts", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=12, help="of an answer")
    parser.add_argument("--slow-prompts", type=int, default=4)
    parser.add_argument("--slow-tokens", type=int, default=8)
    parser.add_argument("--guess", type=int, default=4)
    parser.add_argument("--draft", type=Path)
    parser.add_argument("--network", action="append")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    model, text, rng = CompiledRun.load(options.run), DataFolder(options.data).valid, np.random.default_rng(0)
    length = min(model.context - options.tokens, MOST)
    prompts = [text.read(int(rng.integers(text.tokens - length)), length).tolist() for _ in range(options.prompts)]
    kinds: dict[str, dict[str, Any]] = {"none": {}, "phrases": {"guesses": options.guess}}
    if options.draft is not None:
        kinds["draft model"] = {"guesses": options.guess, "draft_for": draft_for}
    best = list(kinds)[-1]
    kinds[f"{best}, steady"] = {**kinds[best], "steady": True}
    records = []
    for network in map(Network.parse, options.network or ["loopback", "lan", "wan"]):
        with tempfile.TemporaryDirectory(prefix="aero-") as name:
            keys = Path(name) / "keys"
            make_keys(keys)
            with process(serve, options.run, keys, network, options.draft) as port:
                slow = network.round_trip_seconds >= SLOW
                asked = prompts[: options.slow_prompts] if slow else prompts
                plain: list[list[PrivateToken]] = []
                for kind, how in kinds.items():
                    with session(keys, network, port, **how) as client:
                        found = answers(client, asked, options.slow_tokens if slow else options.tokens)
                    plain = plain or found
                    record = record_of(found, plain, model.notation, model.context)
                    extra = {"network": network.name, "guesses": kind, "most": how.get("guesses", 0)}
                    records.append(replace(record, extra={**extra, **record.extra}))
                    print(
                        f"{network.name}, guesses by {kind}: {record.seconds:.3f} s a token, "
                        f"{record.extra['tokens_a_step']:.2f} tokens a step, "
                        f"{record.extra['other_answers']} other answers",
                        flush=True,
                    )
                    options.json.parent.mkdir(parents=True, exist_ok=True)
                    write_records(options.json, records)


if __name__ == "__main__":
    main()
