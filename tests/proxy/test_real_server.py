"""The endpoint over the real thing: a server process, TLS, our own engine, on a tiny model."""

import json
import subprocess
import time

import numpy as np
import openai
import pytest

from aero.cli.private import private_session
from aero.cli.security import security_of
from aero.compiler.verify import model_logits
from aero.models import AeroForCausalLM
from aero.mpc.party import Role
from aero.proxy import batcher as batching
from aero.proxy.app import RETRY_AFTER
from aero.proxy.guard import Guard
from serve.test_two_processes import folder, start_server
from served_endpoint import Served

assert folder  # the fixture: a tiny run, and keys

PATIENCE = 240


class Sessions:
    """With the server at an address."""

    def __init__(self, address, keys):
        self.address, self.security = address, security_of(keys, Role.CLIENT, False)

    def open(self):
        return private_session(self.address, self.security, lambda *_: None)


@pytest.fixture
def server(folder):
    """Starts a server, at a port of its own or the given one; all of them are ended."""
    started = []

    def start(port="0") -> tuple[subprocess.Popen, str]:
        started.append(start_server(folder, "--port", port))
        return started[-1]

    yield start
    for process, _ in started:
        process.kill()
        process.communicate()


def expected(folder, ids, count):
    model, ids = AeroForCausalLM.from_pretrained(folder / "run"), list(ids)
    for _ in range(count):
        ids.append(int(model_logits(model, np.array([ids]))[0].argmax()))
    return ids[-count:]


def test_a_server_that_is_killed_and_comes_back(folder, server, monkeypatch):
    monkeypatch.setattr(batching, "PAUSE", 0.05)
    monkeypatch.setattr(batching, "RETRY_AFTER", 1)  # seconds between looking for the server
    process, address = server()
    served = Served(Sessions(address, folder / "keys"), Guard())
    asked = {"model": "toy", "prompt": [5, 6, 7], "max_tokens": 8, "temperature": 0}
    try:
        text = served.tokenizer.decode(expected(folder, [5, 6, 7], 8))
        whole = served.client().completions.create(**asked)
        assert whole.choices[0].text == text
        assert whole.model_extra["x_aero"]["set_up"]["bytes_client_to_server"] > 1e6  # keys

        stream = iter(served.client().completions.create(**asked, stream=True))
        next(stream)
        process.kill()
        process.communicate()
        with pytest.raises(openai.APIError, match="private server is away"):
            list(stream)
        with pytest.raises(openai.APIStatusError) as refused:
            served.client().completions.create(**asked)
        assert refused.value.status_code == 503 and refused.value.response.headers["Retry-After"] == str(RETRY_AFTER)
        assert served.ask("/health")[0] == 503

        server(address.rpartition(":")[2])
        for _ in range(PATIENCE):
            if served.ask("/health")[0] == 200:
                break
            time.sleep(1)
        assert served.client().completions.create(**asked).choices[0].text == text
        assert served.batcher.sessions == 2
    finally:
        served.close()


def test_a_program_that_hangs_up_and_others_that_go_on(folder, server):
    _, address = server()
    served = Served(Sessions(address, folder / "keys"), Guard())
    try:
        gone = served.client().completions.create(model="toy", prompt=[5, 6], max_tokens=11, stream=True)
        next(iter(gone))
        gone.close()
        found = served.client().completions.create(model="toy", prompt=[[8], [9, 10]], max_tokens=3, temperature=0)
        assert [choice.text for choice in found.choices] == [
            served.tokenizer.decode(expected(folder, ids, 3)) for ids in ([8], [9, 10])
        ]
        runs = json.loads(served.ask("/v1/x_aero/runs")[1])["runs"]
        assert len(runs) < 11 and served.batcher.running == 0
    finally:
        served.close()
