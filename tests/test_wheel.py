"""What is shipped: the wheel alone, without torch, in another folder, generates privately against a server process."""

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

import aero
from aero.cli.server_process import server_process
from aero.compiler.verify import model_logits
from aero.wire.keys import make_keys
from small_models import save_run

ROOT = Path(__file__).parent.parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("build", "uv", "scikit_build_core", "nanobind")),
        reason="the build tools of `make venv` are not installed",
    ),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the source distribution and the wheel. The native build folder is shared: it is quick when warm."""
    folder = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--sdist",
        "--wheel",
        "--outdir",
        str(folder),
        str(ROOT),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """The Python of a new environment that holds the wheel and its dependencies, at the versions tested here."""
    import uv

    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = built.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    freeze = subprocess.run([uv.find_uv_bin(), "pip", "freeze", "--python", sys.executable], capture_output=True)
    pinned = [line for line in freeze.stdout.decode().splitlines() if "==" in line]
    (folder / "versions.txt").write_text("\n".join(pinned))
    install = [uv.find_uv_bin(), "pip", "install", "--python", python, "-c", folder / "versions.txt", wheel]
    # What `make venv` installed is in uv's cache, as a rule.
    if subprocess.run([*install, "--offline"], capture_output=True).returncode:
        done = subprocess.run(install, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return python


def run(python: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [python, *arguments], cwd=python.parent, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_in_them(built):
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert sum(name.startswith("aero/kernels/_native") and name.endswith(".so") for name in names) == 1
    assert all(name.startswith(("aero/", f"aero_private_inference-{aero.__version__}.dist-info/")) for name in names)
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    for needed in ("CMakeLists.txt", "csrc/bind.cpp", "csrc/check_variants.cmake", "src/aero/__init__.py", "LICENSE"):
        assert needed in names, needed


def test_it_says_its_version(installed):
    assert run(installed.parent / "aero", "--version").startswith(f"aero {aero.__version__}, kernels: ")


def test_its_kernels_are_as_defined(installed):
    assert "portable: as defined" in run(installed, str(ROOT / "tools" / "check_kernels.py"))


def test_it_generates_privately(installed, tmp_path):
    make_keys(tmp_path / "keys")
    model = save_run(tmp_path / "run")
    assert run(installed, "-c", "import importlib.util as u; print(u.find_spec('torch'))").strip() == "None"
    with server_process(tmp_path / "run", tmp_path / "keys") as address:
        options = [
            "--keys",
            str(tmp_path / "keys"),
            "--prompt",
            "def main",
            "-n",
            "2",
            "--json",
            str(tmp_path / "g.json"),
        ]
        run(installed.parent / "aero", "generate", "--private", address, *options)
    result = json.loads((tmp_path / "g.json").read_text())
    ids = list(result["prompt_ids"])
    for token, logits in zip(result["new_ids"], result["logits"], strict=True):
        # What softmax's stated errors and 16 fractional bits leave on such small logits (tests/serve).
        assert np.abs(np.array(logits) - model_logits(model, np.array([ids]))[0]).max() < 1e-2
        ids.append(token)
