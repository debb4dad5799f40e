"""`aero eval --engine two-party`: both parties in processes of their own, on a tiny trained model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from aero.cli.calibration import BLOCKS
from aero.cli.eval import eval_
from aero.cli.served import serve_run
from aero.compiler.run import load_model
from aero.compiler.verify import every_logit
from aero.data.build import build
from aero.data.folder import DataFolder
from aero.data.settings import DataSettings
from aero.models import AeroConfig
from aero.train.run import train
from aero.train.settings import TrainSettings
from conformance import stated

CONTEXT, TOKENS, GIVEN = 12, 10, 7

app = typer.Typer()
app.command()(eval_)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("private-eval")
    (folder / "texts").mkdir()
    for i in range(30):
        (folder / "texts" / f"{i}.py").write_text("".join(f"def f{i}_{j}(x):\n    return x + {j}\n" for j in range(20)))
    data = build(folder / "data", DataSettings(sources=(str(folder / "texts"),), vocab_size=300, valid_fraction=0.1))
    config = AeroConfig.from_notation(
        "SM+ScFuFFN", "demo", vocab_size=data.info.vocab_size, context=CONTEXT, hidden_size=16, num_layers=1
    )
    settings = TrainSettings(steps=40, batch_size=8, log_every=20, precision="float32", valid_blocks=None)
    train(folder / "run", data, config, settings)
    return folder / "run"


def test_perplexities_of_the_same_tokens(run, tmp_path):
    options = ["--engine", "two-party", "--tokens", str(TOKENS), "--prefill", str(GIVEN)]
    result = CliRunner().invoke(app, [str(run), *options, "--json", str(tmp_path / "r.json")])
    assert result.exit_code == 0, result.output
    whole, set_up, *steps = json.loads((tmp_path / "r.json").read_text())

    # The model's own, by the definition: two blocks that did not choose the number formats, each once.
    model, data = load_model(run), DataFolder(run.parent / "data")
    blocks = np.stack([data.valid.block(BLOCKS + i, CONTEXT).astype(np.int64) for i in range(2)])
    rows = torch.tensor(every_logit(model, blocks)[:, GIVEN - 1 : -1]).reshape(TOKENS, -1)
    loss = torch.nn.functional.cross_entropy(rows, torch.tensor(blocks[:, GIVEN:].reshape(-1))).item()
    assert whole["model_perplexity"] == pytest.approx(np.exp(loss), rel=1e-9)

    # The engine's, within what it states of its errors: log p moves by at most twice as much as a logit.
    served, by_text = serve_run(run, model)
    compiled, plan = served.compiled, served.quantized.plan
    assert by_text
    program = compiled.every_position(CONTEXT)
    limit = max(stated.tolerance(program, ids, stated.protocols(program, plan)) for ids in blocks)
    assert 0 < whole["max_difference_from_plain"] <= limit < np.abs(rows.numpy()).max()
    assert abs(whole["loss"] - np.log(whole["plain_perplexity"])) <= 2 * whole["max_difference_from_plain"]
    assert whole["tokens"] == TOKENS and whole["blocks"] == 2 and whole["prefill"] == GIVEN
    assert len(whole["different_tokens"]) == TOKENS - whole["same_tokens_as_plain"]

    assert set_up["work"] == "set-up"
    assert [(s["work"], s["context"]) for s in steps] == [
        ("prefill" if read == GIVEN else "next-token", read) for _ in range(2) for read in range(GIVEN, CONTEXT)
    ]
    assert whole["rounds"] == set_up["rounds"] + sum(s["rounds"] for s in steps)
    for perplexity in (whole["model_perplexity"], whole["plain_perplexity"], whole["perplexity"]):
        assert f"{perplexity:.3f}" in result.output
    rounds = round(np.mean([s["rounds"] for s in steps if s["work"] == "next-token"]))
    assert f"{rounds} rounds" in result.output.split("next-token, the mean of 8")[1]


def test_a_token_alone_has_no_perplexity(run, tmp_path):
    options = ["--engine", "two-party", "--tokens", "2", "--prefill", "11", "--reveal", "token"]
    result = CliRunner().invoke(app, [str(run), *options, "--json", str(tmp_path / "r.json")])
    assert result.exit_code == 0, result.output
    whole = json.loads((tmp_path / "r.json").read_text())[0]
    assert whole["perplexity"] is None and whole["loss"] is None and whole["max_difference_from_plain"] is None
    assert whole["reveal"] == "token" and whole["plain_perplexity"] > 1
    assert "no perplexity by two-party: the server reveals the most likely token alone" in result.output


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (["--tokens", "3"], "name its --engine"),
        (["--engine", "two-party", "--stride", "2"], "--tokens how much"),
        (["--engine", "none"], "there are two-party"),
        (["--engine", "two-party", "--reveal", "all"], "top-k:K"),
        (["--engine", "two-party", "--prefill", "12"], "read 1 to 11"),
        (["--engine", "two-party", "--tokens", "100000"], "ask for fewer"),
    ],
)
def test_bad_input_is_named(run, options, remedy):
    result = CliRunner().invoke(app, [str(run), *options])
    assert isinstance(result.exception, (ValueError, ConnectionError)) and remedy in str(result.exception)
