#!/bin/sh
# lock.sh [--upgrade]: write requirements/*.txt, the versions and hashes that `make` installs, for every platform.
# UV names uv. PyTorch and its CUDA are left out: requirements/torch.txt, requirements/excludes.txt.
set -eu
cd "$(dirname "$0")/.."
uv=${UV:-uv}

lock() { # lock NAME PYTHON SOURCES...
    name=$1 python=$2
    shift 2
    UV_CUSTOM_COMPILE_COMMAND="make lock" "$uv" pip compile --quiet --universal --python-version "$python" \
        --generate-hashes --no-annotate --output-file "requirements/$name.txt" "$@"
}

lock uv 3.11 requirements/uv.in "$@"
for python in 3.11 3.12 3.13; do
    lock "$python" "$python" pyproject.toml requirements/tools.in --extra train --extra plot --extra eval --extra dev \
        --extra docs --extra server --extra postgresql --extra proxy --extra cluster --excludes requirements/excludes.txt --no-emit-package torch "$@"
done
