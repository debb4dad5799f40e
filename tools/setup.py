"""Make a virtual environment with everything that the targets of the Makefile use, and this project in it.

    sh tools/with_python.sh tools/setup.py VENV [--resolve highest|lowest-direct]

Versions and hashes are those of `requirements/PYTHON.txt`, written by `make lock`; with --resolve they are the newest
that `pyproject.toml` allows, or its oldest. PyTorch is pinned by version, and its build chosen for the machine: without
an NVIDIA GPU, the CPU build. TORCH in the environment overrides the choice: what is given to `pip install`.

Standard library only, since it runs before anything is installed. Any failure ends in one line and exit code 1.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
EXTRAS = ("train", "plot", "eval", "server", "proxy", "cluster", "dev", "docs")
# Made by an earlier run, but not finished; and finished, which is what the Makefile waits for.
BEGUN, DONE = ".begun", ".installed"
# What a new environment takes, without CUDA.
BYTES = 3.3e9

# What an output of pip, uv or CMake means, and what to do about it. The first that is found counts.
REMEDIES = (
    (
        r"No space left on device|Disk quota exceeded",
        "the disk is full: free some space, or name another place with VENV=...",
    ),
    (
        r"do not match the hash|Hash mismatch|hash mismatch",
        "a package is not the one of the lock file: run again with another package index, or report it",
    ),
    (
        r"dns error|Name or service not known|nodename nor servname|name resolution|error sending request|"
        r"Failed to establish a new connection|Connection refused|Network is unreachable|timed out|Could not connect|"
        r"Failed to fetch|error trying to connect|tunnel error|"
        # pip names an index that it cannot reach where it retries; otherwise it found no version of a package there.
        r"No matching distribution|has no wheels with a matching|no wheels are available",
        "the package index cannot be reached, or has nothing for this Python: check the network, or name an index with "
        "PIP_INDEX_URL=..., another Python with PYTHON=...",
    ),
)


class SetupError(Exception):
    """What went wrong and what to do, in one line. output: what the failing program said, where no remedy is known."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("venv", type=Path)
    parser.add_argument("--resolve", choices=("highest", "lowest-direct"), help="without the lock file")
    options = parser.parse_args(arguments)
    try:
        check_compiler()
        check_space(options.venv.absolute())
        install(options.venv.absolute(), options.resolve)
    except SetupError as error:
        if error.output:
            print(error.output.rstrip(), file=sys.stderr)
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {explain(str(error)) or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; run it again", file=sys.stderr)
        return 130
    return 0


def check_compiler() -> None:
    """The kernels need a C++ compiler and Python's headers."""
    candidates = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    if not any(_runs([*shlex.split(name), "--version"]) for name in candidates):
        raise SetupError(
            f"no C++ compiler runs ({', '.join(candidates)}): install one (Debian, Ubuntu: apt install g++; "
            "macOS: xcode-select --install), or name it with CXX=..."
        )
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise SetupError(
            f"Python.h of {sys.executable} is missing: install it (Debian, Ubuntu: apt install python{version}-dev), "
            "or name another Python with PYTHON=..."
        )


def check_space(venv: Path) -> None:
    """A new environment needs room: said before, since not every program that runs out of it says so."""
    place = next(folder for folder in (venv, *venv.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if free < BYTES and not (venv / DONE).exists():
        raise SetupError(
            f"{free / 1e9:.1f} GB are free in {place}, and the environment takes {BYTES / 1e9:.0f}: free some space, "
            "or name another place with VENV=..."
        )


def install(venv: Path, resolve: str | None) -> None:
    make_venv(venv)
    python = str(venv / "bin" / "python")
    environment = uv_environment(_run([python, "-m", "pip", "config", "list"]))
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    lock = REQUIREMENTS / f"{version}.txt"

    _say(f"Python {version}, in {venv}: installing packages")
    _run([python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(REQUIREMENTS / "uv.txt")])
    uv = [str(venv / "bin" / "uv"), "pip", "install", "--python", python]
    if resolve is None:
        # Build tools of the few packages that have no wheel are those of the lock, too.
        locked = ["--no-deps", "--require-hashes", "--build-constraints", str(lock), "-r", str(lock)]
        _run([*uv, *locked], environment)
    else:
        extras = [word for extra in EXTRAS for word in ("--extra", extra)]
        sources = ["-r", str(ROOT / "pyproject.toml"), "-r", str(REQUIREMENTS / "tools.in"), *extras]
        _run([*uv, "--resolution", resolve, "--excludes", str(REQUIREMENTS / "excludes.txt"), *sources], environment)
    install_torch(python)
    _say("compiling the native kernels")
    # Where Python is told to keep no bytecode, every process would compile all that it imports, anew each time.
    compiled = ["--compile-bytecode"] if sys.dont_write_bytecode else []
    _run([*uv, *compiled, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], environment)
    (venv / BEGUN).unlink()
    (venv / DONE).touch()


def make_venv(venv: Path) -> None:
    """A new virtual environment; one that was finished, with the same Python, is kept and brought up to date.

    What an interrupted run has left is removed. What something else has made is not ours to alter.
    """
    finished, begun = (venv / DONE).exists(), (venv / BEGUN).exists()
    if venv.exists() and not finished and not begun and any(venv.iterdir()):
        raise SetupError(f"{venv} exists and was not made by this: remove it, or name another place with VENV=...")
    if begun or not (finished and _same_python(venv)):
        shutil.rmtree(venv, ignore_errors=True)
        venv.mkdir(parents=True)
        (venv / BEGUN).touch()
        _run([sys.executable, "-m", "venv", str(venv)])
    (venv / BEGUN).touch()
    (venv / DONE).unlink(missing_ok=True)


def install_torch(python: str) -> None:
    """PyTorch by pip, which may know of builds beside the index: find-links, extra indexes."""
    pip = [python, "-m", "pip", "install", "--quiet"]
    requirement = ["-r", str(REQUIREMENTS / "torch.txt")]
    given = os.environ.get("TORCH")
    if given:
        _say(f"PyTorch: {given}")
        _run([*pip, *shlex.split(given)])
    elif sys.platform == "linux" and not has_nvidia_gpu():
        _say("PyTorch: the CPU build, as no NVIDIA GPU was found (TORCH=... overrides)")
        try:
            # Few retries: where the index cannot be reached at all, pip would go on for a minute.
            _run([*pip, "--retries", "1", "--timeout", "20", "--index-url", CPU_INDEX, *requirement])
        except SetupError:
            _say(f"PyTorch: no CPU build at {CPU_INDEX}; taking the package index's build, some gigabytes with CUDA")
            _run([*pip, *requirement])
    else:
        _say("PyTorch: the package index's build")
        _run([*pip, *requirement])


def has_nvidia_gpu() -> bool:
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def uv_environment(pip_config: str) -> dict[str, str]:
    """The environment for uv, which does not read pip's configuration: the same index, the same certificates.

    pip_config: the output of `pip config list`, in which environment variables come last.
    """
    environment = dict(os.environ)
    for name, value in re.findall(r"^\S+\.([\w-]+)='(.*)'$", pip_config, re.MULTILINE):
        if name == "index-url" and "UV_DEFAULT_INDEX" not in os.environ:
            environment["UV_DEFAULT_INDEX"] = value
        if name == "cert" and "SSL_CERT_FILE" not in os.environ:
            environment["SSL_CERT_FILE"] = value
    return environment


def explain(output: str) -> str | None:
    """What to do about a failure, from what a program said; None where nothing is known."""
    return next((remedy for pattern, remedy in REMEDIES if re.search(pattern, output)), None)


def _same_python(venv: Path) -> bool:
    probe = "import json, sys; print(json.dumps(sys.version_info[:2]))"
    try:
        return json.loads(_run([str(venv / "bin" / "python"), "-c", probe])) == list(sys.version_info[:2])
    except (OSError, SetupError, ValueError):
        return False


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        remedy = explain(done.stdout)
        raise (
            SetupError(remedy) if remedy else SetupError(f"see the lines above, of: {shlex.join(command)}", done.stdout)
        )
    return done.stdout


def _runs(command: list[str]) -> bool:
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
