# Each target sets up what it needs in a virtual environment of its own, from the lock files in requirements/.
#
#   make demo      the whole idea on real input: train three small models, generate privately, write runs/demo/
#   make demo-web  a private chat in the browser, on the demo's model
#   make test      the tests            make test-all      with the slow ones
#   make check     ruff, mypy, import contracts
#   make fuzz      all that reads what others wrote, for FUZZ_SECONDS (60)
#   make soak      a server under mixed clients, faults and strangers, for SOAK_SECONDS (1800)
#   make bench     the benchmarks       make docs          the documentation as HTML, in site/
#   make wheel     sdist and wheel, in dist/               make test-wheel: installed alone, elsewhere
#   make lock      the lock files anew, as far as pyproject.toml demands; UPGRADE=--upgrade takes newer versions
#   make test-newest, make test-oldest    the tests without the lock, at both ends of the ranges of pyproject.toml
#   make test-native    the kernels by themselves, without Python
#   make test-arm       the same for arm64, and test-emulated for a processor without AVX: under emulators
#   make sanitize       the same under sanitizers, and constant-time: no branch or address depends on a secret
#
# PYTHON=... names another Python, VENV=... another place, TORCH=... another PyTorch ("torch==2.13.0 --index-url ...").
# Plain make: this file runs under GNU make from 3.81 and BSD make.

VENV         ?= .venv
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 1800

BIN       = $(VENV)/bin
INSTALLED = $(VENV)/.installed
SETUP     = sh tools/with_python.sh tools/setup.py
NATIVE    = CMakeLists.txt csrc/*.*
LOCK      = requirements/*.txt

.PHONY: demo demo-web test test-all fuzz soak check bench docs venv wheel test-wheel wheels lock test-newest test-oldest format clean
.PHONY: test-native test-arm test-emulated sanitize constant-time

venv: $(INSTALLED)

$(INSTALLED): pyproject.toml $(LOCK) $(NATIVE) tools/setup.py
	@$(SETUP) $(VENV)

demo: $(INSTALLED)
	$(BIN)/aero demo

demo-web: $(INSTALLED)
	$(BIN)/aero demo --web

test: $(INSTALLED)
	$(BIN)/python -m pytest

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -m "slow or not slow"

test-newest:
	@$(SETUP) .venv-newest --resolve highest
	.venv-newest/bin/python -m pytest

test-oldest:
	@$(SETUP) .venv-oldest --resolve lowest-direct
	.venv-oldest/bin/python -m pytest

fuzz: $(INSTALLED)
	$(BIN)/python tests/fuzz/fuzz.py --seconds $(FUZZ_SECONDS)

soak: $(INSTALLED)
	$(BIN)/python benchmarks/soak.py --seconds $(SOAK_SECONDS)

test-native:
	csrc/tests/run native

test-arm:
	csrc/tests/run arm

test-emulated: $(INSTALLED)
	PYTHON=$(BIN)/python csrc/tests/run emulated

sanitize:
	csrc/tests/run sanitize

constant-time:
	csrc/tests/run constant-time

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/aero bench kernels --json runs/bench/kernels.json
	$(BIN)/aero bench linear --json runs/bench/linear.json
	$(BIN)/aero bench forward --json runs/bench/forward.json
	$(BIN)/aero bench ot --json runs/bench/ot.json

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build --no-isolation --sdist --wheel --outdir dist

test-wheel: $(INSTALLED)
	$(BIN)/python -m pytest -m slow tests/test_wheel.py

wheels: $(INSTALLED)
	$(BIN)/cibuildwheel --output-dir dist

lock: $(INSTALLED)
	UV=$(BIN)/uv sh tools/lock.sh $(UPGRADE)

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-newest .venv-oldest build dist site
