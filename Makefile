# Two commands on a fresh machine with Python 3.11 or newer: `make bench` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests and benchmarks use one thread a process; more only get in each other's way.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MNE_LOGGING_LEVEL=ERROR
WORKERS ?= 2
# Freed memory stays with the process on Linux: networks train sooner (docs/guide/devices.rst).
KEEP_MEMORY := GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=2147483647

.PHONY: bench test lint doctest docs clean

bench: $(VENV)/ready
	$(ONE_THREAD) $(KEEP_MEMORY) $(BIN)/skeeg bench

test: $(VENV)/ready
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q tests

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

doctest: $(VENV)/ready
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) -q --doctest-modules skeeg

docs: $(VENV)/ready
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[docs]"
	$(ONE_THREAD) $(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

$(VENV)/ready: setup.cfg constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "skeeg needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
