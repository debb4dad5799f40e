"""`aero compile` on a run folder, in a process of its own."""

import json
import subprocess
import sys

import pytest

from aero.compiler.folder import read
from aero.compiler.run import CompiledRun


def aero(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aero.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_compile_a_run(tmp_path):
    corpus = tmp_path / "text"
    corpus.mkdir()
    for index in range(40):
        (corpus / f"{index}.py").write_text("".join(f"def f{index}_{j}(x):\n    return {j}\n" for j in range(80)))
    data, run, out = tmp_path / "data", tmp_path / "run", tmp_path / "out"
    assert aero("data", data, "--source", corpus, "--vocab", 300, "--valid-fraction", 0.2).returncode == 0
    done = aero(
        "train", run, "--data", data, "--notation", "SM+ScFuFFN", "--size", "demo", "--steps", 5, "--batch-size", 4
    )
    assert done.returncode == 0, done.stderr
    result = tmp_path / "result.json"
    done = aero("compile", run, "--out", out, "--calibration", 2, "--test", 1, "--json", result)
    assert done.returncode == 0, done.stderr
    assert "FFN elimination" in done.stdout and "perplexity" in done.stdout
    info, compiled, plan = read(out)
    assert info.notation == "SM+ScFuFFN" and plan is not None and compiled.context == 64
    assert CompiledRun.load(out).compiled.prefill(3).graph.length == 3
    table = {row["step"]: row for row in json.loads(result.read_text())["table"]}
    assert table["one more token"]["multiplications"] < table["FFN elimination"]["multiplications"]
    assert table["FFN elimination"]["multiplications"] < table["as trained"]["multiplications"]

    again = aero("compile", run, "--out", out)
    assert again.returncode == 1 and "--force" in again.stderr
    other = aero("compile", run, "--out", tmp_path, "--force")
    assert other.returncode == 1 and "no compiled.json in it" in other.stderr
    options = ["--context", 8, "--no-ring-plan", "--softmax-base", 2, "--profile", "two-party"]
    short = aero("compile", run, "--out", out, "--force", *options)
    assert short.returncode == 0 and read(out)[1].context == 8 and read(out)[2] is None


def test_a_missing_run_is_one_line(tmp_path):
    done = aero("compile", tmp_path / "nothing", "--out", tmp_path / "out")
    assert done.returncode == 1 and done.stderr.startswith("error: no run at")
