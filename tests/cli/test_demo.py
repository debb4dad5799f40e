"""`aero demo`, with models that have hardly learnt anything."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aero.cli.demo import BASELINE, FROZEN, PAPERS, PREDICTED
from aero.cli.main import app

TABLE = Path(__file__).parents[2] / "benchmarks" / "demo_table.py"


@pytest.mark.slow
def test_everything_is_there_and_the_readme_can_have_it(tmp_path):
    out, readme = tmp_path / "demo", tmp_path / "README.md"
    options = ["--steps", "20", "--vocab", "400", "--max-megabytes", "0.3", "--tokens", "2"]
    result = CliRunner().invoke(app, ["demo", "--out", str(out), *options])
    assert result.exit_code == 0, result.output
    records = json.loads((out / "results.json").read_text())
    for notation in (BASELINE, PAPERS, FROZEN):
        mine = [record for record in records if record["notation"] == notation]
        works = ["set-up", "prefill", "next-token", "eval", "set-up", "prefill", *["next-token"] * (PREDICTED - 1)]
        assert [record["work"] for record in mine] == works
        assert [record["prompts"] for record in mine[1:3]] == [2, 2] and all(r["same_token"] for r in mine[1:3])
        evaluation = mine[3]
        assert evaluation["perplexity"] == pytest.approx(evaluation["model_perplexity"], rel=2e-3)
        assert f"{evaluation['perplexity']:.2f}" in result.output
        assert (out / f"session-{notation}.html").is_file()
    alone = json.loads((out / f"session-{FROZEN}-token.json").read_text())
    assert alone["reveal"] == "token" and "What each party saw" in result.output
    assert "2 ids, without their logits in 2 outputs" in result.output

    readme.write_text("above\n<!-- demo: begin -->\n<!-- demo: end -->\nbelow\n")
    subprocess.run([sys.executable, str(TABLE), str(out / "results.json"), "--out", str(readme)], check=True)
    text = readme.read_text()
    assert text.startswith("above\n") and text.endswith("below\n")
    assert f"| {FROZEN} |" in text and "2 of 2" in text


@pytest.mark.slow
def test_a_chat_in_the_browser_ends_at_control_c(tmp_path):
    options = ["--out", str(tmp_path / "demo"), "--steps", "5", "--vocab", "400", "--max-megabytes", "0.3"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "aero.cli.main", "demo", "--web", "--port", str(port), *options]
    page = f"http://127.0.0.1:{port}"
    for trains in (True, False):  # the second time on what the first has made
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            said = ""
            while "page:" not in said:
                line = process.stdout.readline()
                assert line, said + process.stderr.read()
                said += line
            assert ("Train" in said) is trains and page in said
            for _ in range(600):
                with contextlib.suppress(urllib.error.URLError):
                    assert b"AERO" in urllib.request.urlopen(page).read()
                    break
                time.sleep(0.1)
            asked = {"model": FROZEN, "prompt": "import", "max_tokens": 2, "temperature": 0}
            request = urllib.request.Request(page + "/v1/completions", json.dumps(asked).encode())
            assert json.loads(urllib.request.urlopen(request).read())["usage"]["completion_tokens"] == 2
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the server gets it, too
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0 and not err, err
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
