"""The real thing: a server process and a client process, TLS between them, our own engine, on a tiny model."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aero.compiler.verify import model_logits
from aero.models import AeroForCausalLM
from aero.wire.keys import make_keys
from small_models import save_run

PATIENCE = 240


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("private")
    make_keys(folder / "keys")
    (folder / "keys" / "server" / "limits.toml").write_text("sessions = 100\n")  # the tests' clients are one
    make_keys(folder / "other-keys")
    save_run(folder / "run")
    return folder


def start_server(folder: Path, *options: str) -> tuple[subprocess.Popen, str]:
    command = [sys.executable, "-m", "aero.cli.main", "serve", str(folder / "run"), "--port", "0"]
    server = subprocess.Popen(
        [*command, "--keys", str(folder / "keys"), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    line = server.stdout.readline()
    match = re.search(r" at (\S+:\d+)", line)
    assert match, line + server.stderr.read()
    return server, match[1]


def client(folder: Path, address: str, *options: str, keys: str = "keys") -> subprocess.Popen:
    command = [sys.executable, "-m", "aero.cli.main", "generate", "--private", address, "--keys", str(folder / keys)]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_private_tokens_are_those_of_the_model(folder, tmp_path):
    server, address = start_server(folder, "--once", "--json", str(tmp_path / "server.json"))
    with server:
        done = client(folder, address, "--prompt", "def main", "-n", "3", "--json", str(tmp_path / "client.json"))
        out, err = done.communicate(timeout=PATIENCE)
        server_out, server_err = server.communicate(timeout=PATIENCE)
    assert done.returncode == 0 and server.returncode == 0, err + server_err
    result = json.loads((tmp_path / "client.json").read_text())
    assert out.strip() == ("def main" + result["text"]).strip()

    model, ids = AeroForCausalLM.from_pretrained(folder / "run"), list(result["prompt_ids"])
    for token, logits in zip(result["new_ids"], result["logits"], strict=True):
        expected = model_logits(model, np.array([ids]))[0]
        # What softmax's stated errors and 16 fractional bits leave on such small logits
        assert np.abs(np.array(logits) - expected).max() < 1e-2
        ids.append(token)

    # Both parties report the same traffic, and the server's output knows nothing of the text.
    ours = [r for r in result["records"] if r["work"] != "set-up"]
    assert [r["work"] for r in ours] == ["prefill", "next-token", "next-token"]
    theirs = json.loads((tmp_path / "server.json").read_text())
    for mine, other in zip(ours, theirs, strict=True):
        for key in ("context", "engine", "bytes_client_to_server", "bytes_server_to_client", "messages"):
            assert mine[key] == other[key]
    assert "main" not in server_out + server_err


def test_the_token_alone_is_revealed(folder, tmp_path):
    server, address = start_server(folder, "--once", "--reveal", "token")
    with server:
        options = ["--json", str(tmp_path / "client.json"), "--report", str(tmp_path / "session.html")]
        done = client(folder, address, "--prompt", "def main", "-n", "2", *options)
        _, err = done.communicate(timeout=PATIENCE)
        server.communicate(timeout=PATIENCE)
    assert done.returncode == 0 and "the most likely token alone" in err, err
    result = json.loads((tmp_path / "client.json").read_text())
    assert result["reveal"] == "token" and not {"logits", "revealed"} & set(result)
    model, ids = AeroForCausalLM.from_pretrained(folder / "run"), list(result["prompt_ids"])
    for token in result["new_ids"]:
        assert token == model_logits(model, np.array([ids]))[0].argmax()
        ids.append(token)
    assert "2 ids, without their logits in 2 outputs" in (tmp_path / "session.html").read_text()
    operations = json.loads((tmp_path / "session.json").read_text())["answers"][0]["tokens"][1]["operations"]
    assert {"linear", "softmax", "output"} <= {line["op"] for line in operations}


def test_prompts_together_are_those_of_the_model(folder, tmp_path):
    server, address = start_server(folder, "--once", "--max-prompts", "2", "--json", str(tmp_path / "server.json"))
    prompts = ["--prompt", "def main", "--prompt", "return"]
    with server:
        options = ["-n", "2", "--json", str(tmp_path / "client.json"), "--report", str(tmp_path / "session.html")]
        done = client(folder, address, *prompts, *options)
        out, err = done.communicate(timeout=PATIENCE)
        _, server_err = server.communicate(timeout=PATIENCE)
    assert done.returncode == 0 and server.returncode == 0, err + server_err
    result, model = json.loads((tmp_path / "client.json").read_text()), AeroForCausalLM.from_pretrained(folder / "run")
    for answer in result["answers"]:
        ids = list(answer["prompt_ids"])
        for token, logits in zip(answer["new_ids"], answer["logits"], strict=True):
            assert np.abs(np.array(logits) - model_logits(model, np.array([ids]))[0]).max() < 1e-2
            ids.append(token)
        assert answer["prompt"] + answer["text"] in out
    ours, theirs = result["records"][1:], json.loads((tmp_path / "server.json").read_text())
    assert [(r["work"], r["prompts"]) for r in ours] == [("prefill", 2), ("next-token", 2)]
    for mine, other in zip(ours, theirs, strict=True):
        for key in ("context", "prompts", "bytes_client_to_server", "bytes_server_to_client", "messages"):
            assert mine[key] == other[key]


def test_spu_computes_one_prompt_at_a_time(folder):
    command = [sys.executable, "-m", "aero.cli.main", "serve", str(folder / "run"), "--keys", str(folder / "keys")]
    done = subprocess.run([*command, "--engine", "spu-cheetah", "--max-prompts", "2"], capture_output=True, text=True)
    assert done.returncode == 1 and "one prompt at a time" in done.stderr


def test_spu_reveals_all_logits(folder):
    command = [sys.executable, "-m", "aero.cli.main", "serve", str(folder / "run"), "--keys", str(folder / "keys")]
    done = subprocess.run([*command, "--engine", "spu-cheetah", "--reveal", "token"], capture_output=True, text=True)
    assert done.returncode == 1 and "reveals all logits" in done.stderr


@pytest.mark.slow
def test_a_server_outlives_strangers_and_lost_clients(folder):
    server, address = start_server(folder)
    try:
        stranger = client(folder, address, keys="other-keys")
        _, err = stranger.communicate(timeout=PATIENCE)
        assert stranger.returncode == 1 and len(err.strip().splitlines()) == 1 and "error:" in err

        lost = client(folder, address, "--prompt", "def main", "-n", "4")
        assert "prompt tokens" in lost.stderr.readline()
        lost.kill()
        lost.communicate()

        good = client(folder, address, "--prompt", "def", "-n", "1")
        out, err = good.communicate(timeout=PATIENCE)
        assert good.returncode == 0 and out.startswith("def"), err
    finally:
        server.kill()
        out, _ = server.communicate()
    assert re.findall(r"^(no session|session 1 ended|session 2 finished)", out, re.MULTILINE) == [
        "no session",
        "session 1 ended",
        "session 2 finished",
    ]


@pytest.mark.slow
def test_a_client_notices_a_lost_server(folder):
    server, address = start_server(folder)
    lonely = client(folder, address, "--prompt", "def main", "-n", "4")
    assert "prompt tokens" in lonely.stderr.readline()
    server.kill()
    server.communicate()
    _, err = lonely.communicate(timeout=PATIENCE)
    assert lonely.returncode == 1 and "error:" in err and "Traceback" not in err
