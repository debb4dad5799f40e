"""One party of a measurement of guesses, in a process of its own: a session as `aero serve` and `aero generate` have
it, without their programs around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aero.bench.parties import connect, report_on
from aero.compiler.draft import Draft, unpack
from aero.compiler.run import CompiledRun
from aero.data import tokenizer
from aero.engines.connect import TWO_PARTY, connect_engine
from aero.mpc.party import Role
from aero.serve.client import Client
from aero.serve.drafts import Guess
from aero.serve.server import Server
from aero.wire.keys import Identity
from aero.wire.network import Network


def main(job: dict[str, Any]) -> dict[str, Any]:
    role, shared = Role[job["role"]], Path(job["shared"])
    security, network = Identity(shared / "keys" / role.word), Network.parse(job["network"])
    with connect(role, Path(job["folder"]), network, security) as channel:
        if role is Role.CLIENT:
            return _ask(channel, job)
        folder = Path(job["run"])
        model = CompiledRun.load(folder)
        Server(
            notation=model.notation,
            context=model.context,
            vocab_size=model.vocab_size,
            tokenizer=(folder / tokenizer.FILE).read_bytes(),
            programs=model.compiled,
            engine=TWO_PARTY,
            engine_for=lambda channel: connect_engine(TWO_PARTY, role, channel, plan=model.plan),
            end_tokens=(),  # every answer has as many tokens as it may
            draft=(shared / "draft").read_bytes() if job.get("draft") else b"",
        ).handle(channel)
    return {}


def _ask(channel: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Every answer's tokens, and what each computation after an answer's first cost."""
    answers, runs = [], {}
    with Client(
        channel,
        lambda name, channel: connect_engine(name, Role.CLIENT, channel),
        guesses=job["guesses"],
        steady=job.get("steady", False),
        draft_for=_draft if job.get("draft") else None,
    ) as client:
        for ids in job["prompts"]:
            found = list(client.generate(ids, job["tokens"]))
            answers.append([token.id for token in found])
            runs.update({token.run.index: token.run for token in found[1:]})
    return {
        "answers": answers,
        "runs": [{"cost": vars(run.cost), "guessed": run.guessed, "held": run.held} for run in runs.values()],
    }


def _draft(data: bytes, vocab_size: int) -> Guess:
    return Draft(unpack(data, vocab_size)).guess


if __name__ == "__main__":
    report_on(main)
