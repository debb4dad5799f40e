"""Write the section of docs/results.md on models that were not run here: what `aero cost` predicts of them.

python benchmarks/predictions_table.py --out docs/results.md
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from sections import table, write_section

from aero.compiler.architecture import outline
from aero.cost.estimate import seconds_on
from aero.cost.machine import Computer, load_machine
from aero.cost.memory import memory
from aero.cost.session import estimate_session
from aero.engines.planning.step_plans import checked_schedule
from aero.models.notation import parse
from aero.models.presets import SIZES
from aero.wire.network import LAN, LOOPBACK, WAN

MODELS = ("smollm2-135m", "qwen2.5-0.5b", "llama-3.2-1b", "tinyllama-1.1b")
NOTATION, LENGTH, MACHINE = "SM+RMS+SiLU+GaFFN", 64, "avx512"
HEADER = (
    "model", "run", "MB client to server", "MB server to client", "rounds", "s loopback", "s LAN", "s WAN",
    "GB client", "GB server", "without transforms",
)  # fmt: skip


def rows(preset: str) -> list[list[str]]:
    """A prompt, and the token after it."""
    found = outline(parse(NOTATION), replace(SIZES[preset], context=LENGTH + 1))
    session = estimate_session(found.programs, 1, LENGTH, 2, found.plan, on=Computer(load_machine(MACHINE)))
    graphs = found.programs.prefill(LENGTH, leave_state=True).graph, found.programs.decode(LENGTH).graph
    held = memory([checked_schedule([graph], found.plan) for graph in graphs])
    sizes = held.client, held.server, held.server - held.transforms
    lines = []
    for work in session.works[1:]:
        cost = work.cost
        sent = cost.bytes_client_to_server or 0, cost.bytes_server_to_client or 0
        line = [preset, f"prompt of {LENGTH}" if work.name == "prefill" else "next token"]
        line += [f"{size / 1e6:,.1f}" for size in sent] + [f"{cost.rounds:,.0f}"]
        line += [f"{seconds_on(network, cost).total:,.1f}" for network in (LOOPBACK, LAN, WAN)]
        lines.append([*line, *(f"{size / 1e9:.2f}" if work.name == "prefill" else "" for size in sizes)])
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    text = [
        "## Larger models, predicted",
        "",
        f"Made by `python benchmarks/predictions_table.py`: {NOTATION}, as `aero cost --machine {MACHINE}` prices it, "
        "one thread. GB: the most that a party holds in such a session, within 15 %; without transforms of weights, a "
        "next token computes longer.",
        "",
        *table(HEADER, [line for preset in MODELS for line in rows(preset)], words=2),
    ]
    write_section(parser.parse_args().out, "predictions", "\n".join(text))
