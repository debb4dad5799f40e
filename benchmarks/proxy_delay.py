"""What `aero proxy` adds to a private session, and what sharing one session gains.

    make demo-web && python benchmarks/proxy_delay.py runs/demo/SM+ScFuFFN --json runs/bench/proxy.json

Server, endpoint and program are three processes on this machine. On each emulated network the program asks:

- one prompt, token by token as they stream, beside the same prompt by `Client.generate`, as `aero generate` does. What
  lies between two tokens and is neither computation nor set-up, as the session counts them, is the way from the session
  to the program; added_ms is the difference of the two medians.
- as many prompts as share a session, of different lengths, one after another and then at once.
- the most likely tokens, and tokens drawn by a seed, of the endpoint and of `Client.generate`: same_greedy, same_drawn;
  and the drawn ones of `Client.generate` twice: drawn_again. Roundings on shares are random, so that a logit differs by
  about 1e-3 from one run to the next, and a draw that lies so near to a border may fall on its other side.

Records: "proxy-delay" (seconds a token through the endpoint; added_ms, of which the bar is 5) and "proxy-throughput"
(seconds of all prompts at once; gain: how many times as fast as one after another, bars 3 on loopback and 5 on wan).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from multiprocessing.queues import Queue
from pathlib import Path
from statistics import median
from typing import Any

from aero.cli.security import security_of
from aero.compiler.run import CompiledRun
from aero.data import tokenizer
from aero.engines.connect import TWO_PARTY, connect_engine
from aero.mpc.party import Role
from aero.report.record import Record, write_records
from aero.serve.client import Client
from aero.serve.sampling import Sampling
from aero.serve.server import DEFAULT_MAX_PROMPTS, IDLE_SECONDS, Server
from aero.wire.keys import make_keys
from aero.wire.network import Network
from aero.wire.tcp import Listener, connect

TEXTS = [
    "def main():",
    "class Node:\n    def",
    "import os",
    "for i in range(",
    "return self.name",
    "x = [",
    "try:",
    "if",
]
SEED = 7


def serve(folder: Path, keys: Path, network: Network, ports: Queue[int]) -> None:
    """A process: the server."""
    model = CompiledRun.load(folder)
    server = Server(
        notation=model.notation, context=model.context, vocab_size=model.vocab_size,
        tokenizer=(folder / tokenizer.FILE).read_bytes(), programs=model.compiled, engine=TWO_PARTY,
        engine_for=lambda channel: connect_engine(TWO_PARTY, Role.SERVER, channel, plan=model.plan),
        end_tokens=(),  # every answer has as many tokens as it may
    )  # fmt: skip
    security = security_of(keys, Role.SERVER, False)
    with Listener("127.0.0.1", 0, security, timeout=IDLE_SECONDS, network=network) as listener:
        ports.put(listener.port)
        while True:
            with suppress(ConnectionError), listener.accept(None) as channel:  # an endpoint is ended without a goodbye
                server.handle(channel)


@contextmanager
def session(keys: Path, network: Network, port: int) -> Iterator[Client]:
    security = security_of(keys, Role.CLIENT, False)
    with (
        connect("127.0.0.1", port, security, timeout=IDLE_SECONDS, network=network) as channel,
        Client(channel, lambda name, channel: connect_engine(name, Role.CLIENT, channel)) as client,
    ):
        yield client


def endpoint(keys: Path, network: Network, port: int, ports: Queue[int]) -> None:
    """A process: what `aero proxy` runs."""
    import asyncio

    import uvicorn

    from aero.proxy.app import Endpoint
    from aero.proxy.batcher import Batcher
    from aero.proxy.guard import Guard
    from aero.serve.chat import Template

    batcher = Batcher(lambda: session(keys, network, port))
    client = batcher.start()
    app = Endpoint(batcher, client.tokenizer, "model", Template(client.tokenizer), Guard()).app()
    served = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))

    async def run() -> None:
        task = asyncio.create_task(served.serve())
        while not served.started:
            await asyncio.sleep(0.01)
        ports.put(served.servers[0].sockets[0].getsockname()[1])
        await task

    asyncio.run(run())


@contextmanager
def process(target: Any, *arguments: Any) -> Iterator[int]:
    """A process that tells its port, for the length of the block."""
    context = multiprocessing.get_context("spawn")
    ports = context.Queue()
    started = context.Process(target=target, args=(*arguments, ports), daemon=True)
    started.start()
    try:
        yield ports.get(timeout=600)
    finally:
        started.kill()
        started.join()


def ask(url: str, prompt: str, tokens: int, **more: Any) -> dict[str, Any]:
    body = {"model": "model", "prompt": prompt, "max_tokens": tokens, "temperature": 0, **more}
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=IDLE_SECONDS) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


def streamed(url: str, tokens: int) -> tuple[list[float], list[float]]:
    """Seconds between tokens as a program gets them, and what of them is neither computation nor set-up."""
    body = {"model": "model", "prompt": TEXTS[0], "max_tokens": tokens, "temperature": 0, "stream": True}
    times, costs = [], []
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=IDLE_SECONDS) as answer:
        for line in answer:
            if line.startswith(b"data: {"):
                times.append(time.perf_counter())
                cost = json.loads(line[6:])["x_aero"]
                costs.append(cost["seconds"] + cost["set_up"]["seconds"])
    return between(times, costs)


def generated(client: Client, tokens: int) -> tuple[list[float], list[float]]:
    """The same of `Client.generate`."""
    times, costs = [], []
    for token in client.generate(client.tokenizer.encode_prompt(TEXTS[0]), tokens):
        times.append(time.perf_counter())
        costs.append(token.run.cost.seconds + token.run.set_up.seconds)
    return between(times, costs)


def between(times: list[float], costs: list[float]) -> tuple[list[float], list[float]]:
    passed = [later - earlier for earlier, later in pairwise(times)]
    return passed, [one - cost for one, cost in zip(passed, costs[1:], strict=True)]


def measure(folder: Path, keys: Path, network: Network, tokens: int, repeat: int) -> Iterator[Record]:
    notation = CompiledRun.load(folder).notation
    sampling = Sampling(1.0, seed=SEED)
    direct: tuple[list[float], list[float]] = [], []
    with process(serve, folder, keys, network) as port:
        with session(keys, network, port) as client:
            ids = client.tokenizer.encode_prompt(TEXTS[1])
            greedy, drawn, again = (
                "".join(token.text for token in client.generate(ids, tokens, sampling=how))
                for how in (Sampling(), sampling, sampling)
            )
            for _ in range(repeat):
                for all_of_it, part in zip(direct, generated(client, tokens), strict=True):
                    all_of_it += part
        with process(endpoint, keys, network, port) as own:
            url = f"http://127.0.0.1:{own}/v1/completions"
            asked = ask(url, TEXTS[1], tokens), ask(url, TEXTS[1], tokens, temperature=1, seed=SEED)
            found_greedy, found_drawn = (one["choices"][0]["text"] for one in asked)
            proxied: tuple[list[float], list[float]] = [], []
            for _ in range(repeat):
                for all_of_it, part in zip(proxied, streamed(url, tokens), strict=True):
                    all_of_it += part
            overhead = {"endpoint": median(proxied[1]) * 1e3, "generate": median(direct[1]) * 1e3}
            extra = {
                "network": network.name, "tokens": len(proxied[0]), "generate_seconds": median(direct[0]),
                "beyond_computation_ms": overhead, "added_ms": overhead["endpoint"] - overhead["generate"],
                "same_greedy": found_greedy == greedy, "same_drawn": found_drawn == drawn,
                "drawn_again": again == drawn,
            }  # fmt: skip
            yield Record("proxy-delay", TWO_PARTY, notation, seconds=median(proxied[0]), extra=extra)

            spent, texts = {"one by one": 0.0, "at once": 0.0}, []
            for _ in range(repeat):  # by turns, so that what else the machine does falls on both
                for how, workers in (("one by one", 1), ("at once", len(TEXTS))):
                    begun = time.perf_counter()
                    with ThreadPoolExecutor(workers) as pool:
                        found = list(pool.map(lambda text: ask(url, text, tokens), TEXTS))
                    spent[how] += (time.perf_counter() - begun) / repeat
                    texts.append([one["choices"][0]["text"] for one in found])
            extra = {
                "network": network.name, "prompts": len(TEXTS), "tokens": tokens * len(TEXTS),
                "one_by_one_seconds": spent["one by one"], "gain": spent["one by one"] / spent["at once"],
                "same_text": all(one == texts[0] for one in texts),
            }  # fmt: skip
            yield Record("proxy-throughput", TWO_PARTY, notation, seconds=spent["at once"], extra=extra)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder, with its data")
    parser.add_argument("--network", action="append", type=Network.parse, help="loopback and wan if not given")
    parser.add_argument("--tokens", type=int, default=32, help="new tokens of each prompt")
    parser.add_argument("--repeat", type=int, default=3, help="times that each is done")
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    networks = given.network or [Network.parse("loopback"), Network.parse("wan")]
    with tempfile.TemporaryDirectory(prefix="aero-") as name:
        keys, compiled = Path(name) / "keys", Path(name) / "compiled"
        make_keys(keys)
        command = [sys.executable, "-m", "aero.cli.main", "compile", str(given.run), "--out", str(compiled)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        records = []
        for network in networks:
            for record in measure(compiled, keys, network, given.tokens, given.repeat):
                print(json.dumps({"work": record.work, "seconds": record.seconds, **record.extra}), flush=True)
                records.append(record)
        write_records(given.json, records)


if __name__ == "__main__":
    assert len(TEXTS) == DEFAULT_MAX_PROMPTS
    main()
