"""A server under mixed clients, faults and strangers for as long as one likes: `make soak`, SOAK_SECONDS=1800.

    python benchmarks/soak.py --seconds 1800 [--run RUN] [--out runs/soak]
    python benchmarks/soak.py --page docs/results.md --record docs/figures/soak.json

Clients take turns at random: single answers, several prompts at once, conversations, sessions through a relay that
cuts, delays or changes their bytes at a random place, clients that leave in mid-step; beside them silent connections,
bytes that are no greeting, and clients with keys that the server does not know. Every so often a session's process is
killed. Each token is compared with the model in plaintext: it is wrong where its logit is further below the largest
than the engine's errors allow.

Writes soak.json, soak.svg and the server's log into the folder. The exit code is 1 where an answer was wrong, a client
without a fault failed, the parent ended or did not end well at last, or a process or a descriptor was left. The second
form writes a record into a page. Without RUN the demo's model is served, or, where that has not been made, one that is
trained in a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from figures import INK, MUTED, OURS, SERVER, STYLE, save
from sections import table, write_section

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from aero.cli.private import private_session
from aero.compiler.run import load_model
from aero.files.atomic import write_text
from aero.report.record import Record
from aero.serve.reconnecting import Reconnecting
from aero.wire import WireError
from aero.wire.keys import Identity, make_keys
from faults import WHAT, Fault, Relay

DEMO = Path("runs/demo/SM+ScFuFFN")
ERROR = 0.02
"""How far below the largest logit in plaintext a chosen token's may be: the engine's error of two logits."""
SESSIONS, CLIENTS = 4, 3
KILL_EVERY, SAMPLE_EVERY = 20.0, 2.0
SAMPLES_KEPT = 240
TITLE = "Memory and descriptors of the server's parent, and what its clients did, over time"
TEXTS = ("def main", "return", "import os\n", "for i in", "class A:\n    def", "1 + 2 ==", "x = {")


class Soak:
    """What happens, counted."""

    def __init__(self, run: Path, out: Path, seed: int) -> None:
        self.rng, self.out, self.seed = random.Random(seed), out, seed
        self.model = load_model(run).eval()
        self.keys = out / "keys"
        for folder in (self.keys, out / "strangers"):
            make_keys(folder, force=True)
        many = "".join(f"{name} = {10**9}\n" for name in ("sessions", "tokens_a_minute", "tokens_a_day", "outputs"))
        (self.keys / "server" / "limits.toml").write_text(many)  # all clients here are one by name
        aero("compile", str(run), "--out", str(out / "compiled"), "--force")
        command = [sys.executable, "-m", "aero.cli.main", "serve", str(out / "compiled"), "--keys", str(self.keys)]
        self._log = (out / "server.log").open("w+")
        self.server = subprocess.Popen(
            [*command, "--port", "0", "--sessions", str(SESSIONS)],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.port = self._port()
        self.over, self.lock = threading.Event(), threading.Lock()
        self.begun = time.monotonic()
        self.sessions = self.tokens = self.answers = self.killed = 0
        self.wrong: list[dict[str, Any]] = []
        self.done, self.failures, self.unexpected = Counter[str](), Counter[str](), list[str]()
        self.samples: list[dict[str, float]] = []
        self.context = self.model.config.context

    def _port(self) -> int:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.server.poll() is None:
            found = re.search(r" at \S+:(\d+)$", (self.out / "server.log").read_text(), re.MULTILINE)
            if found:
                return int(found[1])
            time.sleep(0.1)
        raise SystemExit(f"the server did not start: {(self.out / 'server.log').read_text()}")

    # Clients

    def work(self, number: int) -> None:
        """One client after another."""
        rng = random.Random(f"{self.seed} {number}")
        kinds: list[tuple[Callable[[random.Random], None], int, bool]] = [
            (self.answer, 6, False), (self.batch, 2, False), (self.conversation, 2, False),
            (self.through_a_fault, 8, True), (self.leave_in_mid_step, 2, True), (self.silent, 1, True),
            (self.no_greeting, 1, True), (self.stranger, 1, True),
        ]  # fmt: skip
        while not self.over.is_set():
            kind, _, faulty = rng.choices(kinds, [weight for _, weight, _ in kinds])[0]
            name, killed = kind.__name__.replace("_", " "), self.killed
            try:
                kind(rng)
                with self.lock:
                    self.done[name] += 1
            except WireError as error:
                with self.lock:
                    self.failures[f"{name}: {type(error).__name__}"] += 1
                    if not faulty and self.killed == killed:
                        self.unexpected.append(f"{name}: {type(error).__name__}: {error}")
            except Exception as error:
                with self.lock:
                    self.unexpected.append(f"{name}: {type(error).__name__}: {error}")

    def client(self, port: int, keys: Path | None = None) -> Reconnecting:
        def session() -> Any:
            with self.lock:
                self.sessions += 1
            return private_session(f"127.0.0.1:{port}", identity, lambda *_: None, wait=120.0)

        identity = Identity((keys or self.keys) / "client")
        return Reconnecting(session, 3, lambda _: None)

    def check(self, ids: Sequence[int], tokens: Sequence[int]) -> None:
        """Each token, after what was read before it."""
        with torch.inference_mode():
            logits = self.model(torch.tensor([[*ids, *tokens]])).logits[0]
        with self.lock:
            self.tokens += len(tokens)
            self.answers += 1
            for place, token in enumerate(tokens, len(ids) - 1):
                if (below := float(logits[place].max() - logits[place, token])) > ERROR:
                    self.wrong.append({"ids": [*ids], "tokens": [*tokens], "place": place, "below": below})

    def prompt(self, rng: random.Random, client: Reconnecting, room: int) -> list[int]:
        ids = client.tokenizer.encode_prompt(rng.choice(TEXTS))
        return ids[: rng.randint(1, max(min(len(ids), self.context - room), 1))]

    def answer(self, rng: random.Random, port: int | None = None) -> None:
        with self.client(port or self.port) as client:
            count = rng.randint(1, 6)
            ids = self.prompt(rng, client, count)
            self.check(ids, [token.id for token in client.generate(ids, count)])

    def batch(self, rng: random.Random) -> None:
        with self.client(self.port) as client:
            prompts = [self.prompt(rng, client, 3) for _ in range(3)]
            found: list[list[int]] = [[] for _ in prompts]
            for place, token in client.generate_batch(prompts, 3):
                found[place].append(token.id)
            for ids, tokens in zip(prompts, found, strict=True):
                self.check(ids, tokens)

    def conversation(self, rng: random.Random) -> None:
        with self.client(self.port) as client:
            ids = self.prompt(rng, client, 8)[:3]
            for _ in range(2):
                tokens = [token.id for token in client.generate(ids, 2, keep=True)]
                self.check(ids, tokens)
                ids = [*ids, *tokens, *client.tokenizer.encode("a")[:1]]
            client.forget([0])

    def through_a_fault(self, rng: random.Random) -> None:
        fault = Fault(rng.choice(WHAT), int(10 ** rng.uniform(1, 7)), rng.random() < 0.5, rng.uniform(0, 2))
        with Relay(self.port, lambda n: fault if n == 0 else None) as relay:
            self.answer(rng, relay.port)

    def leave_in_mid_step(self, rng: random.Random) -> None:
        with (
            suppress(WireError),
            private_session(
                f"127.0.0.1:{self.port}", Identity(self.keys / "client"), lambda *_: None, wait=120.0
            ) as client,
        ):
            with self.lock:
                self.sessions += 1
            for _ in client.generate([1, 2], 4):
                if rng.random() < 0.5:
                    client.channel.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)

    def silent(self, rng: random.Random) -> None:
        held = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(20)]
        self.over.wait(rng.uniform(0, 5))
        for sock in held:
            sock.close()

    def no_greeting(self, rng: random.Random) -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)) as sock:
            sock.sendall(rng.randbytes(rng.randint(1, 2000)))
            sock.settimeout(5)
            sock.recv(1)

    def stranger(self, rng: random.Random) -> None:
        with suppress(WireError), self.client(self.port, keys=self.out / "strangers"):
            self.unexpected.append("a stranger was let in")

    # The server

    def children(self) -> list[int]:
        found = subprocess.run(["pgrep", "-P", str(self.server.pid)], capture_output=True, text=True).stdout
        return [int(pid) for pid in found.split()]

    def sample(self) -> None:
        pids = [self.server.pid, *self.children()]
        shown = subprocess.run(
            ["ps", "-o", "pid=,rss=", "-p", ",".join(map(str, pids))], capture_output=True, text=True
        ).stdout
        sizes = {int(pid): int(size) / 1e3 for pid, size in map(str.split, shown.splitlines())}
        parent = sizes.pop(self.server.pid, 0.0)
        files = Path(f"/proc/{self.server.pid}/fd")
        self.samples.append({
            "seconds": round(time.monotonic() - self.begun, 1), "parent_mb": round(parent, 1),
            "sessions_mb": round(sum(sizes.values()), 1), "processes": len(sizes),
            "descriptors": len(list(files.iterdir())) if files.exists() else 0,
            "tokens": self.tokens, "failures": sum(self.failures.values()),
        })  # fmt: skip

    def kill_one(self) -> None:
        if children := self.children():
            with suppress(ProcessLookupError):
                self.killed += 1
                os.kill(self.rng.choice(children), signal.SIGKILL)

    def run(self, seconds: float) -> dict[str, Any]:
        threads = [threading.Thread(target=self.work, args=(number,), daemon=True) for number in range(CLIENTS)]
        self.begun = time.monotonic()
        for thread in threads:
            thread.start()
        next_kill = self.begun + KILL_EVERY
        while (now := time.monotonic()) < self.begun + seconds and self.server.poll() is None and not self.wrong:
            self.sample()
            if now > next_kill:
                self.kill_one()
                next_kill = now + self.rng.uniform(0.5, 1.5) * KILL_EVERY
            time.sleep(SAMPLE_EVERY)
        self.over.set()
        for thread in threads:
            thread.join(300)
            if thread.is_alive():
                self.unexpected.append("a client hangs")
        lasted = time.monotonic() - self.begun
        alive = self.server.poll() is None
        left = self._settled()
        self.sample()
        idle = self.samples[-1]
        self.server.terminate()
        code = self.server.wait(120)
        self._log.close()
        if not alive or code != 0:
            self.unexpected.append(f"the server ended with {code}" + ("" if alive else " by itself"))
        if left:
            self.unexpected.append(f"{left} processes were left")
        if idle["descriptors"] > self.samples[0]["descriptors"]:
            self.unexpected.append(
                f"{idle['descriptors']} descriptors at the end, {self.samples[0]['descriptors']} at first"
            )
        about = Record("soak", "two-party", str(self.model.config.notation), None, lasted).to_json()
        return about | {
            "context": self.context, "sessions": self.sessions, "answers": self.answers, "tokens": self.tokens,
            "killed": self.killed, "wrong": self.wrong, "unexpected": self.unexpected, "done": dict(self.done),
            "failures": dict(sorted(self.failures.items())),
            "samples": self.samples[:: -(-len(self.samples) // SAMPLES_KEPT)],
        }  # fmt: skip

    def _settled(self) -> int:
        """How many processes there are when what was cut has been noticed."""
        deadline = time.monotonic() + 90
        while self.children() and time.monotonic() < deadline:
            time.sleep(0.5)
        return len(self.children())


def trained(folder: Path) -> Path:
    """A small run, in a minute."""
    aero("data", str(folder / "data"), "--max-megabytes", "1", "--vocab", "512")
    aero("train", str(folder / "run"), "--data", str(folder / "data"), "--notation", "SM+ScFuFFN", "--steps", "40")
    return folder / "run"


def aero(*command: str) -> None:
    subprocess.run([sys.executable, "-m", "aero.cli.main", *command], check=True, stdout=subprocess.DEVNULL)


def draw(record: dict[str, Any], path: Path) -> None:
    """Memory, descriptors and processes, and tokens so far, over time."""
    import matplotlib
    from matplotlib.figure import Figure

    minutes = [sample["seconds"] / 60 for sample in record["samples"]]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.7, 4.6))
        axes = figure.subplots(3, sharex=True)
        lines = (
            ("MB resident", (("parent_mb", "parent", SERVER),)),
            (
                "count",
                (("descriptors", "descriptors of the parent", OURS), ("processes", "sessions' processes", MUTED)),
            ),
            ("so far", (("tokens", "tokens", OURS), ("failures", "clients that failed, as they should", SERVER))),
        )
        for axis, (unit, found) in zip(axes, lines, strict=True):
            for key, label, colour in found:
                axis.plot(
                    minutes, [sample[key] for sample in record["samples"]], label=label, color=colour, linewidth=1.2
                )
            axis.set_ylim(bottom=0)
            axis.set_ylabel(unit, color=INK)
            axis.legend(frameon=False, fontsize=9)
            axis.spines[["top", "right"]].set_visible(False)
        axes[-1].set_xlabel("minutes", color=INK)
        figure.tight_layout()
        save(figure, path, TITLE)


def page(record: dict[str, Any]) -> str:
    """The section of docs/results.md."""
    samples = record["samples"]
    settled = [sample for sample in samples if sample["seconds"] > 60] or samples
    tokens = record["tokens"]
    memory, descriptors = ([sample[key] for sample in settled] for key in ("parent_mb", "descriptors"))
    rows = [
        ("minutes", f"{record['seconds'] / 60:.0f}"),
        ("sessions begun", f"{record['sessions']}"),
        ("answers, tokens", f"{record['answers']}, {record['tokens']}"),
        ("wrong answers", f"{len(record['wrong'])}"),
        ("sessions' processes killed", f"{record['killed']}"),
        ("failures of clients without a fault", f"{len(record['unexpected'])}"),
        ("memory of the parent after a minute, MB: least, most, at the end",
         f"{min(memory):.1f}, {max(memory):.1f}, {memory[-1]:.1f}"),
        ("descriptors of the parent: at first, most, at the end",
         f"{samples[0]['descriptors']}, {max(descriptors)}, {samples[-1]['descriptors']}"),
    ]  # fmt: skip
    failed = [("of " + kind, str(count)) for kind, count in record["failures"].items()]
    return "\n".join([
        "## A soak of the server\n",
        f"![{TITLE}: at most {max(memory):.0f} MB and {max(descriptors)} descriptors, {tokens} tokens."
        "](figures/soak.svg)\n",
        f"Made by `make soak SOAK_SECONDS={round(record['seconds'], -1):.0f}` on {record['machine']}; aero "
        f"{record['version']}. {record['notation']}, a context of {record['context']}; {CLIENTS} clients at a time, "
        f"{SESSIONS} places.\n",
        *table(("what", "count"), rows), "",
        "Clients that failed, as those do whose connection is cut while they connect:\n",
        *table(("client and error", "count"), failed),
    ])  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="A server under mixed clients and faults.")
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/soak"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    if options.page is not None:
        write_section(options.page, "soak", page(json.loads(options.record.read_text())))
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        run = options.run or (DEMO if DEMO.is_dir() else trained(Path(made)))
        soak = Soak(run, options.out, options.seed)
        try:
            record = soak.run(options.seconds)
        finally:
            soak.server.kill()
            soak.server.wait()
    write_text(options.out / "soak.json", json.dumps(record, indent=1) + "\n")
    draw(record, options.out / "soak.svg")
    print(page(record))
    for what in (*record["unexpected"][:20], *(f"wrong: {one}" for one in record["wrong"])):
        print(f"error: {what}", file=sys.stderr)
    return int(bool(record["unexpected"] or record["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
