"""The two parties of a benchmark, each a process of its own on this machine.

A module of parties ends with `report_on(main)`. Each process reads its job from the file that is its argument, and
leaves the report, what `main(job)` returns, in a file beside it; what else it makes lies in the job's folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from aero.engines.memory import keep_little
from aero.mpc.party import Role
from aero.wire import Channel, PeerClosedError, PeerVanishedError, tcp
from aero.wire.keys import Identity
from aero.wire.network import Network

_TIME_LIMIT = 3600.0
_PATIENCE = 600.0
_GONE = PeerClosedError.__name__, PeerVanishedError.__name__
_SINGLE = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def run_parties(
    module: str, folder: Path, job: Mapping[str, Any] | None = None, *, threads: int = 1
) -> dict[Role, dict[str, Any]]:
    """Start a module as both parties, wait for both, read their reports.

    job: for both, beside "role" and "folder". threads: of each party's kernels. ConnectionError when a party fails.
    """
    processes: dict[Role, subprocess.Popen[str]] = {}
    try:
        for role in Role:
            path = folder / f"{role.word}.job.json"
            path.write_text(json.dumps({**(job or {}), "role": role.name, "folder": str(folder)}))
            processes[role] = subprocess.Popen(
                [sys.executable, "-m", module, str(path)],
                env={**os.environ, **_SINGLE, "AERO_THREADS": str(threads)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        failures = []
        for role, process in processes.items():
            _, errors = process.communicate(timeout=_TIME_LIMIT)
            if process.returncode:
                last = (errors.strip().splitlines() or [f"no message, exit status {process.returncode}"])[-1]
                failures.append(f"the {role.word} failed: {last}")
        if failures:  # when one party fails, the other only sees it go
            raise ConnectionError(min(failures, key=lambda failure: any(name in failure for name in _GONE)))
        return {role: json.loads(_report(folder, role).read_text()) for role in Role}
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def report_on(main: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """What a party's process does, with memory as a served session's."""
    keep_little()
    job = json.loads(Path(sys.argv[1]).read_text())
    _report(Path(job["folder"]), Role[job["role"]]).write_text(json.dumps(main(job)))


def connect(role: Role, folder: Path, network: Network, security: Identity | tcp.InsecurePlaintext) -> Channel:
    """A channel to the other process. The server leaves its port in the folder. Both parties emulate the network."""
    path = folder / "port"
    if role is Role.SERVER:
        with tcp.Listener("127.0.0.1", 0, security, network=network, timeout=_PATIENCE) as listener:
            leave_port(path, listener.port)
            return listener.accept(_PATIENCE)
    return tcp.connect("127.0.0.1", wait_for_port(path), security, network=network, timeout=_PATIENCE)


def let_the_client_end(role: Role, channel: Channel) -> None:
    """What a server does last: with a connection that is closed while the client computes and gives signs of life, what
    the client has not yet read would be lost."""
    if role is Role.SERVER:
        with suppress(PeerClosedError):
            channel.recv_control()


def leave_port(path: Path, port: int) -> None:
    """Where the other process finds it; the file appears whole."""
    path.with_suffix(".tmp").write_text(str(port))
    path.with_suffix(".tmp").rename(path)


def wait_for_port(path: Path) -> int:
    deadline = time.monotonic() + _PATIENCE
    while not path.exists():
        if time.monotonic() > deadline:
            raise ConnectionError(f"the other party did not start within {_PATIENCE:g} s")
        time.sleep(0.01)
    return int(path.read_text())


def _report(folder: Path, role: Role) -> Path:
    return folder / f"{role.word}.report.json"
