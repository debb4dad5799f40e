"""The set-up: the right Python and PyTorch are chosen, the lock fits the project, and each failure is one line."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SPEC = importlib.util.spec_from_file_location("aero_setup", ROOT / "tools" / "setup.py")
setup = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(setup)


def locked(name: str) -> dict[str, tuple[Requirement, list[str]]]:
    """The lock file's requirements and their hashes, by name."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    found = {}
    for entry in re.split(r"\n(?=\w)", text):
        if "==" in entry:
            requirement = Requirement(entry.split("\\")[0])
            found[canonicalize_name(requirement.name)] = requirement, re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_is_exact_and_within_the_ranges(python):
    lock = locked(python)
    for name, (requirement, hashes) in lock.items():
        assert [s.operator for s in requirement.specifier] == ["=="] and hashes, name
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    wanted += [line for extra in setup.EXTRAS for line in extras[extra]]
    for requirement in map(Requirement, wanted):
        if requirement.name != "torch":
            (pin,) = lock[canonicalize_name(requirement.name)][0].specifier
            assert requirement.specifier.contains(pin.version), requirement
    assert ("spu" in lock) == (python == "3.11")


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_holds_no_pytorch_and_no_cuda(python):
    assert not [name for name in locked(python) if re.match(r"torch$|nvidia|cuda|triton", name)]


def test_the_lock_is_for_every_platform():
    # grpcio has a wheel for each platform and Python: 3 of them and an archive of the source is a lower bound.
    assert all(len(hashes) >= 4 for hashes in (locked(python)["grpcio"][1] for python in PYTHONS))
    assert len(locked("uv")["uv"][1]) >= 4


def executable(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def fake_python(folder: Path, name: str, code: int = 0) -> None:
    """Answers the probe with the exit code, and says its name when it is run."""
    executable(folder / name, f'case "$1" in -c) exit {code};; *) echo {name} "$@";; esac')


def with_python(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    shell = shutil.which("sh")
    return subprocess.run(
        [shell, str(ROOT / "tools" / "with_python.sh"), "script.py", "a b"],
        env={"PATH": str(folder), **environment},
        capture_output=True,
        text=True,
    )


def assert_one_line(done: subprocess.CompletedProcess, *parts: str) -> None:
    lines = done.stderr.strip().splitlines()
    assert done.returncode != 0 and len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert all(part in lines[0] for part in parts), lines[0]


def test_the_newest_python_that_works(tmp_path):
    fake_python(tmp_path, "python3.13", 127)  # a shim without a version behind it
    fake_python(tmp_path, "python3.12", 4)  # without venv
    fake_python(tmp_path, "python3.11")
    assert with_python(tmp_path).stdout == "python3.11 script.py a b\n"
    fake_python(tmp_path, "python3.12")
    assert with_python(tmp_path).stdout == "python3.12 script.py a b\n"
    assert with_python(tmp_path, PYTHON="python3.11").stdout == "python3.11 script.py a b\n"


def test_no_python_that_works(tmp_path):
    assert_one_line(with_python(tmp_path), "no Python 3.11, 3.12 or 3.13", "PYTHON=")
    fake_python(tmp_path, "python3", 3)
    assert_one_line(with_python(tmp_path), "no Python 3.11, 3.12 or 3.13", "PYTHON=")
    assert_one_line(with_python(tmp_path, PYTHON="python3"), "python3 is not Python 3.11", "PYTHON=")
    assert_one_line(with_python(tmp_path, PYTHON="python3.99"), "python3.99 does not run", "PYTHON=")
    fake_python(tmp_path, "python3.12", 4)
    assert_one_line(with_python(tmp_path), "venv and ensurepip", "apt install")


def run_setup(venv: Path, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "tools" / "setup.py"), str(venv)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)


def test_no_compiler(tmp_path):
    assert_one_line(run_setup(tmp_path / "venv", PATH=str(tmp_path), CXX=""), "no C++ compiler", "apt install g++")
    assert_one_line(run_setup(tmp_path / "venv", CXX="no-such-compiler"), "no-such-compiler", "CXX=")
    assert not (tmp_path / "venv").exists()


def test_a_disk_without_room(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**10, 10**10 - 10**9, 10**9))
    with pytest.raises(setup.SetupError, match=r"1\.0 GB are free in .* takes 3: .*VENV="):
        setup.check_space(tmp_path / "new" / "venv")


def test_what_something_else_made_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").write_text("ten years")
    with pytest.raises(setup.SetupError, match=r"not made by this: remove it, or .*VENV="):
        setup.make_venv(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "ten years"


def test_an_interrupted_run_blocks_nothing(tmp_path, monkeypatch):
    run = setup._run
    monkeypatch.setattr(setup, "_run", lambda command: run([*command, *["--without-pip"] * ("venv" in command)]))
    venv = tmp_path / "venv"
    setup.make_venv(venv)
    (venv / "bin" / "python").unlink()
    setup.make_venv(venv)  # begun and not finished: made anew
    assert (venv / "bin" / "python").exists()
    (venv / setup.BEGUN).unlink()
    (venv / setup.DONE).touch()
    (venv / "kept").touch()
    setup.make_venv(venv)  # finished: kept, and unfinished until it is up to date
    assert (venv / "kept").exists() and (venv / setup.BEGUN).exists() and not (venv / setup.DONE).exists()


def test_the_package_index_cannot_be_reached(tmp_path):
    # Port 9 of this machine answers nothing.
    index = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    done = run_setup(tmp_path / "venv", **index, PIP_FIND_LINKS="", PIP_EXTRA_INDEX_URL="", PIP_NO_CACHE_DIR="1")
    assert_one_line(done, "package index cannot be reached", "PIP_INDEX_URL=")


# What the programs say of each: pip 23 to 26, uv 0.13, Python, CMake.
@pytest.mark.parametrize(
    ("output", "remedy"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        (
            "error: Failed to install: numpy\n  cause: failed to copy: No space left on device (os error 28)",
            "disk is full",
        ),
        (
            "THESE PACKAGES DO NOT MATCH THE HASHES; do not match the hashes from the requirements file",
            "package is not the",
        ),
        ("error: Hash mismatch for `six==1.16.0`", "package is not the one"),
        ("NewConnectionError('... [Errno -2] Name or service not known')", "cannot be reached"),
        ("error: Failed to fetch: `https://pypi.org/simple/six/`", "cannot be reached"),
        ("ERROR: No matching distribution found for torch==2.13.0", "cannot be reached, or has nothing"),
    ],
)
def test_a_remedy_for_each_failure(output, remedy):
    assert remedy in setup.explain(output)


def test_an_unknown_failure_is_shown():
    command = [sys.executable, "-c", "print('fatal error: x.h'); raise SystemExit(2)"]
    with pytest.raises(setup.SetupError, match="see the lines above") as caught:
        setup._run(command)
    assert caught.value.output == "fatal error: x.h\n"


@pytest.fixture
def pip(monkeypatch):
    """Commands of pip, in order; `failing` has indexes that cannot be reached."""
    commands, failing = [], set()

    def run(command, environment=None):
        commands.append(" ".join(command[4:]))
        if failing & set(command):
            raise setup.SetupError("unreachable")
        return ""

    monkeypatch.setattr(setup, "_run", run)
    monkeypatch.setattr(setup, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("TORCH", raising=False)
    return commands, failing


PINNED = f"-r {ROOT / 'requirements' / 'torch.txt'}"


def test_the_cpu_build_without_a_gpu(pip, capsys):
    setup.install_torch("python")
    (command,) = pip[0]
    assert f"--index-url {setup.CPU_INDEX} {PINNED}" in command and "CPU build" in capsys.readouterr().out


def test_where_the_cpu_build_cannot_be_had(pip, capsys):
    pip[1].add(setup.CPU_INDEX)
    setup.install_torch("python")
    assert len(pip[0]) == 2 and pip[0][1] == f"--quiet {PINNED}"
    assert capsys.readouterr().out.count("\n") == 2


@pytest.mark.parametrize(("platform", "gpu"), [("linux", True), ("darwin", False)])
def test_the_indexes_build_elsewhere(pip, monkeypatch, platform, gpu):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(setup, "has_nvidia_gpu", lambda: gpu)
    setup.install_torch("python")
    assert pip[0] == [f"--quiet {PINNED}"]


def test_pytorch_as_told(pip, monkeypatch):
    monkeypatch.setenv("TORCH", "torch==2.6.0 --index-url https://example.org/cu")
    setup.install_torch("python")
    assert pip[0] == ["--quiet torch==2.6.0 --index-url https://example.org/cu"]


def test_uv_is_told_of_pips_configuration(monkeypatch):
    for name in ("UV_DEFAULT_INDEX", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    environment = setup.uv_environment(":env:.index-url='https://b/'\nglobal.cert='/c.pem'\nglobal.timeout='3'\n")
    assert (environment["UV_DEFAULT_INDEX"], environment["SSL_CERT_FILE"]) == ("https://b/", "/c.pem")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mine/")
    assert setup.uv_environment("global.index-url='https://a/'")["UV_DEFAULT_INDEX"] == "https://mine/"


@pytest.mark.parametrize("make", ["make", "gmake", "bmake"])
def test_every_make_reads_the_makefile(make, tmp_path):
    if shutil.which(make) is None:
        pytest.skip(f"{make} is not installed")
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    for target in targets:
        done = subprocess.run([make, "-n", target, f"VENV={tmp_path}"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.strip(), (target, done.stderr)
    assert not re.search(
        r"\$\((wildcard|shell|if|foreach|call|patsubst)\b|^(ifeq|ifdef|ifneq)|:=", makefile, re.MULTILINE
    )
