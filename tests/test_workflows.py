"""The public forge's workflows: commands are targets of the Makefile, actions are pinned, each wheel is named."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = " ".join(re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)).split()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_steps_are_targets_and_pinned_actions(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"} and workflow[True]  # YAML 1.1 reads "on" as true
    for job in workflow["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        assert job["timeout-minutes"] <= 90 and job["runs-on"]
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"]), step
                continue
            if step["run"].startswith("sudo apt-get update && sudo apt-get install -y "):
                continue  # what the machine lacks, of the distribution's own packages
            command, targets = step["run"].split(maxsplit=1)
            named = (
                [case["target"] for case in matrix["include"]]
                if targets == "${{ matrix.target }}"
                else [word for word in targets.split() if "=" not in word]
            )
            assert command == "make" and named and set(named) <= set(TARGETS), step


def test_the_three_pythons_are_tested():
    matrix = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["locked"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    assert {re.split(r"-\d", os)[0] + ("-arm" if "arm" in os else "") for os in matrix["os"]} == {
        "ubuntu", "ubuntu-arm", "macos",
    }  # fmt: skip


@pytest.mark.skipif(importlib.util.find_spec("cibuildwheel") is None, reason="cibuildwheel is not installed")
@pytest.mark.parametrize(("platform", "archs"), [("linux", "x86_64"), ("linux", "aarch64"), ("macos", "auto")])
def test_the_wheels_that_are_built(platform, archs):
    command = [sys.executable, "-m", "cibuildwheel", "--platform", platform, "--print-build-identifiers", str(ROOT)]
    if platform == "linux":
        command += ["--archs", archs]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    tags = [f"manylinux_{archs}"] if platform == "linux" else ["macosx_x86_64", "macosx_arm64"]
    assert sorted(done.stdout.split()) == sorted(f"cp{v}-{tag}" for v in (311, 312, 313) for tag in tags)
