"""Programs that people have, as they are, with the endpoint: curl, llm, lm-evaluation-harness."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aero.compiler.compile import compile
from aero.compiler.run import load_model
from aero.proxy.guard import Guard
from aero.train.harness import run_tasks
from aero.train.run import train
from clear_session import LONGER, Sessions, greedy, tokenizer_file
from harness_task import write_task
from served_endpoint import PATIENCE, Served
from train.conftest import config, data, settings

assert config and data and settings  # fixtures of a tiny run


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    one = Served(Sessions(tokenizer_file(tmp_path_factory.mktemp("tokenizer"))), Guard())
    yield one
    one.close()


def said(served, prompt, count):
    return served.tokenizer.decode(greedy(served.tokenizer.encode(prompt), count, LONGER))


def run(*command, **more) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(served):
    asked = {"model": "toy", "prompt": "to be", "max_tokens": 3, "temperature": 0}
    url = served.url + "/v1/completions"
    whole = json.loads(run("curl", "-sS", url, "-d", json.dumps(asked)))
    assert whole["choices"][0]["text"] == said(served, "to be", 3)
    # Server-sent events (WHATWG HTML, section 9.2): each is a line that begins with "data: ", and a blank one.
    stream = run("curl", "-sSN", url, "-d", json.dumps({**asked, "stream": True}))
    *events, done, end = stream.split("\n\n")
    assert (done, end) == ("data: [DONE]", "") and len(events) == 3
    pieces = [json.loads(event.removeprefix("data: "))["choices"][0]["text"] for event in events]
    assert "".join(pieces) == whole["choices"][0]["text"]
    status = run("curl", "-sS", "-o", os.devnull, "-w", "%{http_code}", url, "-d", '{"model": "gpt-9", "prompt": "a"}')
    assert status == "404"


def test_llm(served, tmp_path):
    """`llm`, with the endpoint among its models (its documentation, "OpenAI-compatible models")."""
    pytest.importorskip("llm")
    chat = {"model_id": "private", "model_name": "toy", "api_base": served.url + "/v1"}
    models = [chat, {**chat, "model_id": "continues", "completion": True}]
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models))  # JSON is YAML
    home = {**os.environ, "LLM_USER_PATH": str(tmp_path)}
    for model, prompt in (("private", "User: to be\nAssistant:"), ("continues", "to be")):
        options = ["-m", model, "-o", "temperature", "0", "-o", "max_tokens", "4"]
        for more in ([], ["--no-stream"]):
            found = run(sys.executable, "-m", "llm", "prompt", "to be", *options, *more, env=home)
            assert found.rstrip("\n") == said(served, prompt, 4).rstrip("\n")


@pytest.fixture
def task(tmp_path) -> Path:
    write_task(tmp_path, ["\n  x", " z"], questions=4)
    return tmp_path


@pytest.mark.slow
def test_the_evaluation_harness_finds_what_it_finds_in_plaintext(data, config, settings, task, tmp_path):
    """`local-completions` scores by echo and logprobs, of token ids."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    folder = tmp_path / "run"
    train(folder, data, config, settings)
    expected = run_tasks(folder, ["endings"], task)["endings"]
    program = compile(load_model(folder)).program
    sessions = Sessions((folder / "tokenizer.json").read_bytes(), program=program)
    served = Served(sessions, Guard())
    try:
        arguments = {"model": "toy", "base_url": served.url + "/v1/completions", "tokenizer": str(folder)}
        found = simple_evaluate(
            model="local-completions",
            model_args={**arguments, "max_length": config.context, "num_concurrent": 2},
            tasks=["endings"], task_manager=TaskManager(include_path=str(task)), bootstrap_iters=0, log_samples=True,
        )  # fmt: skip
    finally:
        served.close()
    assert found["results"]["endings"]["acc,none"] == expected["acc"]
    # Each log-likelihood, beside the one that the plaintext model's loader finds.
    reference = simple_evaluate(
        model="hf", device="cpu",
        model_args={"pretrained": str(folder), "dtype": "float32", "max_length": config.context},
        tasks=["endings"], task_manager=TaskManager(include_path=str(task)), bootstrap_iters=0, log_samples=True,
    )  # fmt: skip

    def scores(result):
        samples = sorted(result["samples"]["endings"], key=lambda sample: sample["doc_id"])
        return [response for sample in samples for response in sample["filtered_resps"]]

    for ours, theirs in zip(scores(found), scores(reference), strict=True):
        assert float(ours[0]) == pytest.approx(float(theirs[0]), abs=1e-4)  # float32 through two layers
        assert ours[1] == theirs[1]
    assert max(len(steps) for steps in sessions.steps) == 2  # both of what came at once
