"""Fuzzing of all that reads bytes which somebody else may have written (`targets.py`).

    python tests/fuzz/fuzz.py --seconds 60          the corpus, then inputs made from valid ones, for so long
    python tests/fuzz/fuzz.py --inputs 50           the corpus, and so many inputs for each target, the same each time

Inputs are read in a process of its own, because some have made libraries abort it. A finding is an error of a kind that
a loader does not raise, a message of several lines, an abort, an input that takes `PATIENCE` seconds of the processor,
or one for which `MEMORY` bytes do not suffice (where the system has such a limit). Findings are written to --findings,
and printed; one that is mended belongs into `corpus/TARGET/`.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent
PATIENCE = 20.0
MEMORY = 1 << 30
FOUND = 3  # exit code of a worker that lives, and has found something


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--inputs", type=int, help="for each target, in place of --seconds")
    parser.add_argument("--seed", type=int, help="another one each time, unless --inputs")
    parser.add_argument("--only", help="one target")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.seed = options.seed if options.seed is not None else 0 if options.inputs else time.time_ns() % (1 << 32)
    if options.worker:
        return _work(options)
    return _supervise(options)


def _supervise(options: argparse.Namespace) -> int:
    """Run workers until the time is over; one that dies has found something, and another goes on."""
    end, found = time.monotonic() + options.seconds, 0
    current = options.findings / "current"
    while True:
        command = [
            sys.executable,
            __file__,
            "--worker",
            "--seed",
            str(options.seed),
            "--findings",
            str(options.findings),
        ]
        command += ["--seconds", f"{max(0.0, end - time.monotonic()):.1f}"]
        command += ["--inputs", str(options.inputs)] if options.inputs is not None else []
        command += ["--only", options.only] if options.only else []
        options.findings.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(command)
        if done.returncode in (0, FOUND):
            found += done.returncode
        elif current.exists():
            name, _, data = current.read_bytes().partition(b"\n")
            print(f"FINDING: the process died (exit code {done.returncode})", flush=True)
            _keep(options.findings, name.decode(), data)
            found += 1
        else:
            return done.returncode
        current.unlink(missing_ok=True)
        options.seed += 1
        if done.returncode in (0, FOUND) or options.inputs is not None or time.monotonic() > end:
            break
    with suppress(OSError):
        options.findings.rmdir()  # if nothing is in it
    return 1 if found else 0


def _work(options: argparse.Namespace) -> int:
    logging.disable()  # rows that are left out are warned of
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    os.environ |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    from mutate import mutate
    from targets import targets, temporary

    with temporary() as home:
        found = targets(Path(home))
        names = [name for name in found if options.only in (None, name)]
        _limit_memory()
        reader = _Reader(found, options.findings)
        corpus = {name: [p.read_bytes() for p in sorted((HERE / "corpus" / name).glob("*"))] for name in names}
        for name, inputs in corpus.items():
            for data in inputs:
                reader.read(name, data)
        chance, end, count = random.Random(options.seed), time.monotonic() + options.seconds, 0
        others = [data for target in found.values() for data in target.inputs]
        while count < options.inputs if options.inputs is not None else time.monotonic() < end:
            for name in names:
                data = chance.choice(found[name].inputs + corpus[name])
                reader.read(name, mutate(chance, data, others))
            count += 1
        print(f"{reader.count} inputs for {len(names)} targets, {reader.accepted} accepted, "
              f"{len(reader.seen)} findings (seed {options.seed})")  # fmt: skip
        return FOUND if reader.seen else 0


class _Reader:
    def __init__(self, targets: dict, findings: Path) -> None:
        self.count = self.accepted = 0
        self.seen: set[tuple[str, ...]] = set()
        self._targets, self._findings = targets, findings
        self._current = os.open(findings / "current", os.O_WRONLY | os.O_CREAT, 0o600)

    def read(self, name: str, data: bytes) -> None:
        content = name.encode() + b"\n" + data
        os.ftruncate(self._current, 0)
        os.pwrite(self._current, content, 0)
        signal.setitimer(signal.ITIMER_PROF, PATIENCE)  # of the processor, however busy it is; then SIGPROF ends us
        self.count += 1
        try:
            self._targets[name].read(data)
            self.accepted += 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if not _allowed(error):
                self._finding(name, data, error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _finding(self, name: str, data: bytes, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        where = name, type(error).__name__, f"{frames[-1].filename}:{frames[-1].lineno}"
        if where not in self.seen:
            self.seen.add(where)
            print(f"FINDING: {name}: {type(error).__name__}: {str(error)[:300]!r}", flush=True)
            traceback.print_exception(error, limit=-6)
            _keep(self._findings, name, data)


def _allowed(error: BaseException) -> bool:
    from aero.wire import WireError

    return isinstance(error, (ValueError, FileNotFoundError, WireError)) and "\n" not in str(error)


def _keep(folder: Path, name: str, data: bytes) -> None:
    path = folder / name / hashlib.sha256(data).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    print(f"  written to {path}", flush=True)


def _limit_memory() -> None:
    if sys.platform != "linux":
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, resource.RLIM_INFINITY))


if __name__ == "__main__":
    sys.exit(main())
