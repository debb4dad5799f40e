"""Oblivious transfers: how many a second one core makes at every instruction-set level, and their bytes on the wire.

Both ends run by turns in one thread, and the processor time of each is counted apart: waiting and the network are left
out. Set-up runs between two threads over memory, in wall time, on the level in use.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from aero.kernels import native
from aero.kernels.ot import receiver_pads, sender_pads
from aero.kernels.prg import Prg
from aero.mpc.ot import ferret, softspoken
from aero.mpc.ot.correlated import CorrelatedOts
from aero.mpc.ot.random_ot import Blocks
from aero.mpc.ot.supply import Extension, set_up_cost, set_up_ots
from aero.mpc.party import Party, Role
from aero.report.record import Record
from aero.wire.memory import channel_pair

EXTENSIONS: tuple[Extension, ...] = ("ferret", "softspoken")
REPETITIONS = 3
_SESSION = bytes(16)  # nothing is secret in a benchmark
_UNITS = {"ferret": 1, "softspoken": 16}

T = TypeVar("T")
Progress = Callable[[str], None]


def bench_ot(levels: Sequence[str] | None = None, progress: Progress = lambda label: None) -> list[Record]:
    """Records whose work is ot/EXTENSION/correlated, ot/EXTENSION/random and ot/EXTENSION/set-up.

    seconds: for one OT, at the end that needs longer; of a set-up, for all of it, both parties on this machine. Bytes:
    of one unit of `unit` OTs, or of the set-up, if the client sends the OTs. `extra`: level; for OTs also unit, bits
    (on the wire, for one), sender_seconds, receiver_seconds.
    """
    records = []
    for level in native.available_levels() if levels is None else levels:
        with native.use_level(level):
            for extension in EXTENSIONS:
                progress(f"{extension}, {level}")
                records += _extension_records(extension, level)
    for extension in EXTENSIONS:
        progress(f"{extension}, set-up")
        records.append(_set_up_record(extension))
    return records


@dataclass
class _Times:
    """Processor seconds of each end, for a batch of OTs."""

    correlated: dict[str, float] = field(default_factory=lambda: {"sender": 0.0, "receiver": 0.0})
    pads: dict[str, float] = field(default_factory=lambda: {"sender": 0.0, "receiver": 0.0})


def _extension_records(extension: Extension, level: str) -> list[Record]:
    delta, sender, receiver = _ends(extension)
    unit, units = (ferret.UNIT if extension == "ferret" else softspoken.UNIT), _UNITS[extension]
    runs = [_run(sender, receiver, delta, units, units * unit) for _ in range(REPETITIONS)]
    unit_bytes = ferret.UNIT_BYTES if extension == "ferret" else softspoken.message_bytes(softspoken.UNIT)
    records = []
    for kind in ("correlated", "random"):
        seconds = {
            end: statistics.median(
                (run.correlated[end] + (run.pads[end] if kind == "random" else 0.0)) / (units * unit) for run in runs
            )
            for end in ("sender", "receiver")
        }
        sent_by_client = extension == "ferret"
        records.append(
            Record(
                f"ot/{extension}/{kind}",
                "kernels",
                seconds=max(seconds.values()),
                bytes_client_to_server=unit_bytes if sent_by_client else 0,
                bytes_server_to_client=0 if sent_by_client else unit_bytes,
                extra={
                    "level": level,
                    "unit": unit,
                    "bits": 8 * unit_bytes / unit,
                    "sender_seconds": seconds["sender"],
                    "receiver_seconds": seconds["receiver"],
                },
            )
        )
    return records


def _run(sender: CorrelatedOts, receiver: CorrelatedOts, delta: Blocks, units: int, count: int) -> _Times:
    """Make units and use all of them up."""
    times = _Times()
    speaker, hearer = ("sender", "receiver") if sender.speaks else ("receiver", "sender")
    ends = {"sender": sender, "receiver": receiver}
    message = _timed(times.correlated, speaker, partial(ends[speaker].speak, units))
    _timed(times.correlated, hearer, partial(ends[hearer].hear, units, message))
    if speaker == "sender":  # Ferret
        challenge = _timed(times.correlated, hearer, ends[hearer].challenge)
        answer = _timed(times.correlated, speaker, partial(ends[speaker].answer, challenge))
        _timed(times.correlated, hearer, partial(ends[hearer].check, answer))
    for done in range(0, count, sender.at_once):
        now = min(sender.at_once, count - done)
        k = _timed(times.correlated, "sender", partial(sender.take, now))
        m = _timed(times.correlated, "receiver", partial(receiver.take, now))
        _timed(times.pads, "sender", partial(sender_pads, _SESSION, 0, done, delta, k))
        _timed(times.pads, "receiver", partial(receiver_pads, _SESSION, 0, done, m))
    return times


def _timed(seconds: dict[str, float], end: str, call: Callable[[], T]) -> T:
    started = time.process_time()
    result = call()
    seconds[end] += time.process_time() - started
    return result


def _ends(extension: Extension) -> tuple[Blocks, CorrelatedOts, CorrelatedOts]:
    """Delta and both ends, from what nobody kept secret."""
    stream = Prg(_SESSION, "bench")

    def blocks(*shape: int) -> Blocks:
        return np.frombuffer(stream.random_bytes(int(np.prod(shape)) * 16), np.uint8).reshape(*shape, 16).copy()

    delta = blocks()
    delta[0] |= 1
    if extension == "softspoken":
        keys = blocks(softspoken.BASE_OTS, 2)
        receiver = softspoken.SoftSpokenReceiver(keys, stream)
        chosen = keys[np.arange(softspoken.BASE_OTS), softspoken.base_choices(delta)]
        return delta, softspoken.SoftSpokenSender(delta, chosen, receiver.opening), receiver
    k = blocks(ferret.SEEDS)
    k[:, 0] &= 0xFE
    m = k ^ delta * stream.bits(ferret.SEEDS)[:, None]
    sender = ferret.FerretSender(_SESSION, 0, delta, k, stream)
    return delta, sender, ferret.FerretReceiver(_SESSION, 0, m)


def _set_up_record(extension: Extension) -> Record:
    channels = channel_pair()
    parties = [Party(role, channel) for role, channel in zip(Role, channels, strict=True)]
    threads = [threading.Thread(target=set_up_ots, args=(party, extension)) for party in parties]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    traffic = parties[Role.CLIENT].channel.traffic
    for channel in channels:
        channel.close()
    cost = set_up_cost(extension)
    assert (traffic.bytes_sent, traffic.bytes_received) == (cost.bytes_client_to_server, cost.bytes_server_to_client)
    return Record(
        f"ot/{extension}/set-up",
        "two-party",
        seconds=seconds,
        bytes_client_to_server=traffic.bytes_sent,
        bytes_server_to_client=traffic.bytes_received,
        rounds=traffic.rounds,
        extra={"level": native.level()},
    )


def table(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: millions a second and core for OTs, seconds and bytes for set-ups."""
    rows = []
    for record in records:
        _, extension, kind = record.work.split("/")
        assert record.seconds is not None
        if kind == "set-up":
            both = (record.bytes_client_to_server or 0) + (record.bytes_server_to_client or 0)
            rows.append([extension, kind, record.extra["level"], "", "", f"{record.seconds:.2f} s, {both:,} bytes"])
            continue
        millions = [f"{1e-6 / record.extra[f'{end}_seconds']:.2f}" for end in ("sender", "receiver")]
        rows.append([extension, kind, record.extra["level"], *millions, f"{record.extra['bits']:.2f} bits each"])
    header = ["extension", "OTs", "level", "sender: 10^6/s and core", "receiver: 10^6/s and core", "on the wire"]
    return header, rows
