"""A server in a process of its own, for the verbs that need both parties on this machine."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PATIENCE = 600.0
"""Seconds for a server to wait for its client, and to finish after it; on a busy machine both take long."""
_LAST_WORDS = 5.0  # seconds


@contextmanager
def server_process(run: Path, keys: Path, *options: str, once: bool = True) -> Iterator[str]:
    """`aero serve RUN`, for one client or (once false) any number of them, with further options; gives its address. It
    never outlives the block.

    ConnectionError, with the server's own words, where it does not start or fails before its client is done.
    """
    command = [sys.executable, "-m", "aero.cli.main", "serve", str(run), "--keys", str(keys), "--port", "0"]
    command += [*(("--once", "--wait", str(PATIENCE)) if once else ()), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    said: list[str] = []
    # What it says of each step has to be read, or it would wait for a reader.
    readers = [_reader(process.stderr, said)]
    try:
        match = None
        while match is None and (line := process.stdout.readline()):
            match = re.search(r" at (\S+:\d+)$", line.strip())
        if match is None:
            readers[0].join(_LAST_WORDS)
            raise ConnectionError(f"the server did not start: {_words(said)}")
        readers.append(_reader(process.stdout, []))
        try:
            yield match[1]
        except ConnectionError as error:
            readers[0].join(_LAST_WORDS)  # it ends with the process, should that have failed
            if process.poll():
                raise ConnectionError(f"the server failed: {_words(said)}") from error
            raise
        if not once:
            return
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise ConnectionError(f"the server did not finish within {PATIENCE:g} s after its client") from None
    finally:
        process.terminate()  # so that it ends its sessions' processes itself
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_WORDS)
        process.kill()
        for reader in readers:
            reader.join()
        process.communicate()


def _reader(pipe: IO[str], lines: list[str]) -> threading.Thread:
    """A thread that puts all lines of a pipe into a list."""
    thread = threading.Thread(target=lambda: lines.extend(pipe), daemon=True)
    thread.start()
    return thread


def _words(lines: list[str]) -> str:
    return " ".join("".join(lines).split()).removeprefix("error: ") or "it said nothing"
