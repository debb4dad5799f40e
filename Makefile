# Each target sets up what it needs in its own virtual environment.
#
#   make demo      the whole idea on real input: train two small models, generate privately, write runs/demo/
#   make test      the tests            make test-all   with the slow ones
#   make check     ruff, mypy, import contracts
#   make fuzz      all that reads what others wrote, for FUZZ_SECONDS (60)
#   make bench     the benchmarks       make docs       the documentation as HTML, in site/
#
# TORCH chooses the build of PyTorch. On a Linux machine without a GPU, the CPU build saves gigabytes:
#   make demo TORCH="torch --index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3.11
VENV   ?= .venv
TORCH  ?= torch==2.13.0
FUZZ_SECONDS ?= 60
EXTRAS ?= train,plot,eval,spu,dev

BIN       := $(VENV)/bin
INSTALLED := $(VENV)/.installed
NATIVE    := CMakeLists.txt $(wildcard csrc/*)

.PHONY: demo test test-all fuzz check bench docs venv format clean

venv: $(INSTALLED)

$(INSTALLED): pyproject.toml $(NATIVE)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	@touch $@

demo: $(INSTALLED)
	$(BIN)/aero demo

test: $(INSTALLED)
	$(BIN)/python -m pytest

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -m "slow or not slow"

fuzz: $(INSTALLED)
	$(BIN)/python tests/fuzz/fuzz.py --seconds $(FUZZ_SECONDS)

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
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	$(BIN)/mkdocs build --strict --quiet

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build site
