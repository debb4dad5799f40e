"""What `aero cost --clients` adds: what a server holds, and the records from which it knows processor seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.table import Table

from aero.cost.capacity import CLIENTS, Capacity, Processor, capacities
from aero.cost.compare import Subject
from aero.cost.session import SessionEstimate
from aero.cost.two_party import NAME
from aero.files.reading import interpreting, typed
from aero.graph.count import count
from aero.report.record import read_records
from aero.wire.network import Network


@dataclass(frozen=True)
class ServerCapacity:
    """What a server of so many cores holds of a subject. measured: mean processor seconds of each work, on `machine`;
    command: what measures them."""

    clients: int
    cores: int | None
    session: SessionEstimate
    measured: dict[str, Processor] | None
    machine: str | None
    command: str
    found: tuple[Capacity, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "clients": self.clients,
            "cores": self.cores,
            "length": self.session.length,
            "new_tokens": self.session.new_tokens,
            "machine": self.machine,
            "processor_seconds": self.measured and {work: vars(taken) for work, taken in self.measured.items()},
            "works": [work.to_json() for work in self.found],
        }

    @property
    def note(self) -> str:
        if self.measured is None:
            return (
                f"Processors are left out, so all is an upper bound: `{self.command}`, then --measured FILE --cores N."
            )
        parts = [f"a {work} {taken.server:.3g} s" for work, taken in self.measured.items()]
        return f"Cores: {self.cores}; of the server's processor, {', '.join(parts)}, measured on {self.machine}."

    def table(self, name: str) -> Table:
        length, new, clients = self.session.length, self.session.new_tokens, self.clients
        title = (
            f"{name}, {length} tokens and {new} new ones, {clients} clients at one server: tokens/s by what bounds them"
        )
        table = Table(title=title, title_justify="left")
        for heading in ("work", "network"):
            table.add_column(heading, no_wrap=True)
        bounds = {
            "processors": "processors",
            "client-to-server": "clients send",
            "server-to-client": "server sends",
            CLIENTS: f"{clients} clients",
        }
        for heading in (*bounds.values(), "least", "which", "s a token of each", "sessions before they slow"):
            table.add_column(heading, justify="left" if heading == "which" else "right")
        for work in self.found:
            which = "-" if work.limit is None else bounds[work.limit]
            rest = which, _figure(work.seconds_per_token), _figure(work.sessions)
            figures = map(_figure, (*map(work.bounds.get, bounds), work.tokens_per_second))
            table.add_row(work.work, work.network, *figures, *rest)
        return table


def server_capacity(
    subject: Subject,
    session: SessionEstimate,
    networks: Sequence[Network],
    clients: int,
    cores: int | None,
    path: Path | None,
    preset: str | None,
) -> ServerCapacity:
    """path: records of `aero bench generate`. ValueError where they are of anything but the subject's session."""
    named = f"--preset {preset or 'SIZE'} --notation '{subject.notation}'"
    command = f"aero bench generate {named} --context {session.length} --json FILE"
    measured, machine = (None, None) if path is None else _processors(path, subject, session, command)
    bound = None if measured is None else cores
    found = [work for network in networks for work in capacities(session, network, clients, bound, measured)]
    return ServerCapacity(clients, cores, session, measured, machine, command, tuple(found))


def _processors(
    path: Path, subject: Subject, session: SessionEstimate, command: str
) -> tuple[dict[str, Processor], str]:
    """Of each work, and the machine."""
    assert subject.programs is not None
    remedy, records = f"measure it with `{command}`", read_records(path)
    kinds = {(record.machine, record.notation, str(record.extra.get("prompts"))) for record in records}
    if len(kinds) != 1:
        raise ValueError(f"{path} has records of {len(kinds)} machines, models or batches, not of one; {remedy}")
    machine, _, prompts = kinds.pop()
    found = {}
    for work in (work.name for work in session.works if work.runs):
        mine = [record for record in records if (record.engine, record.work) == (NAME, work)]
        if not mine:
            raise ValueError(f"{path} has no record of a {work} by our own engine; {remedy}")
        past = session.length if work == "next-token" else 0
        program = subject.programs.decode(past) if past else subject.programs.prefill(session.length, leave_state=True)
        first, length = min(mine, key=lambda record: record.context or 0), past + 1 if past else session.length
        had = (first.notation, first.context, first.extra.get("multiplications"), prompts)
        wanted = (subject.notation, length, count(program.graph).multiplications, "1")
        if had != wanted:
            raise ValueError(f"{path}: a {work} of {_said(*had)}, not of {_said(*wanted)}; {remedy}")
        with interpreting(str(path), remedy):
            taken = [typed(Processor, record.extra["cpu_seconds"], "cpu_seconds") for record in mine]
        found[work] = Processor(fmean(each.client for each in taken), fmean(each.server for each in taken))
    return found, machine


def _said(notation: str | None, context: int | None, multiplications: object, prompts: str) -> str:
    return f"{notation}, {context} tokens, {multiplications} multiplications, {prompts} at once"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
