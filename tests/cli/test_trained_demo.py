"""The demo's models, trained as `make demo` trains them: privately, their tokens and perplexity are the plain engine's.

Training takes minutes, so the runs stay in runs/trained; delete that folder to have them made again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from aero.cli.calibration import BLOCKS
from aero.cli.data import data
from aero.cli.demo import BASELINE, BATCH, FROZEN, MEGABYTES, PAPERS, PROMPTS, SIZE, STEPS, VOCABULARY
from aero.cli.main import app
from aero.cli.private import private_session
from aero.cli.private_eval import compile_into
from aero.cli.security import security_of
from aero.cli.server_process import server_process
from aero.cli.train import train
from aero.compiler.compiled import Compiled
from aero.compiler.run import load_model
from aero.data.folder import DataFolder
from aero.graph.ring_plan import RingPlan
from aero.models import AeroForCausalLM
from aero.mpc.party import Role
from aero.report.perplexity import Text, by_plain_engine
from aero.train.run_folder import RunInfo
from aero.wire.keys import make_keys
from conformance import stated

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "runs" / "trained"
REVEALS = ("logits", "top-k:5", "token")
NEW = 50  # after each of the two prompts, as the demo's models read 64 tokens


@dataclass(frozen=True)
class Trained:
    run: Path
    folder: Path
    keys: Path
    model: AeroForCausalLM
    compiled: Compiled
    plan: RingPlan


def trained_run(notation: str) -> Path:
    """As `aero demo` makes it, or as it was made before."""
    run = FOLDER / notation
    if not (FOLDER / "data" / "data.json").is_file():
        data(FOLDER / "data", vocab=VOCABULARY, max_megabytes=MEGABYTES)
    try:
        settings = RunInfo.read_finished(run).settings
        made = settings is not None and (settings.steps, settings.batch_size) == (STEPS, BATCH)
    except (OSError, ValueError):
        made = False
    if not made:
        train(run, FOLDER / "data", notation, SIZE, steps=STEPS, batch_size=BATCH, force=True)
    return run


@pytest.fixture(scope="module", params=[BASELINE, PAPERS, FROZEN])
def trained(request, tmp_path_factory) -> Trained:
    run, folder = trained_run(request.param), tmp_path_factory.mktemp("served")
    make_keys(folder / "keys")
    model = load_model(run)
    return Trained(run, folder / "compiled", folder / "keys", model, *compile_into(folder / "compiled", run, model))


def stated_error(trained: Trained, ids: np.ndarray) -> float:
    """By how much a logit may be off, if every operation errs as much as its protocol states."""
    program = trained.compiled.every_position(len(ids))
    return stated.tolerance(program, ids, stated.protocols(program, trained.plan))


@pytest.mark.parametrize("reveal", REVEALS)
def test_a_hundred_greedy_tokens(trained, reveal):
    """They are the plain engine's; another one only where its two best are nearer than the stated errors."""
    texts = []
    with (
        server_process(trained.folder, trained.keys, "--reveal", reveal) as address,
        private_session(address, security_of(trained.keys, Role.CLIENT, False), lambda *_: None) as client,
    ):
        vocabulary, end = client.tokenizer.vocab_size, client.tokenizer.end_of_text
        for prompt in PROMPTS:
            ids = client.tokenizer.encode(prompt)
            new = [token.id for token in client.generate(ids, NEW)]
            texts.append(Text(np.array([*ids, *new], dtype=np.int64), len(ids)))
    plain = by_plain_engine(trained.compiled, trained.plan, texts, vocabulary)
    assert all(len(text.actual) == NEW or text.ids[-1] == end for text in texts)
    owners = np.repeat(range(len(texts)), [len(text.actual) for text in texts])
    differing = np.flatnonzero(plain.greedy != plain.actual)
    for index in differing:
        row, text = plain.logits[index], texts[owners[index]]
        margin = row[plain.greedy[index]] - row[plain.actual[index]]
        assert margin <= 2 * stated_error(trained, text.ids[:-1]), "no tie"
    assert len(differing) <= 2


@pytest.mark.parametrize("reveal", ["logits", "token"])
def test_perplexity_and_tokens_of_validation_text(trained, reveal, tmp_path):
    options = ["--engine", "two-party", "--tokens", "64", "--reveal", reveal, "--json", str(tmp_path / "r.json")]
    result = CliRunner().invoke(app, ["eval", str(trained.run), *options])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "r.json").read_text())[0]
    assert found["same_tokens_as_plain"] >= 58
    folder = DataFolder(FOLDER / "data")
    context = trained.compiled.context
    ids = folder.valid.block(BLOCKS, context).astype(np.int64)
    limit = stated_error(trained, ids)
    for different in found["different_tokens"]:
        assert different["margin"] <= 2 * limit, "no tie"
    if reveal == "logits":
        assert found["max_difference_from_plain"] <= limit
        assert found["perplexity"] == pytest.approx(found["plain_perplexity"], rel=2e-3)
        assert found["perplexity"] == pytest.approx(found["model_perplexity"], rel=2e-3)
