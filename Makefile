# `make demo` and `make test` need Python 3.10 or newer and nothing else: they make .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint wheel-test chaos bench clean

demo: $(VENV)/.installed
	@$(BIN)/trace-guard demo

test: lint $(VENV)/.installed
	$(BIN)/python -m pytest
	$(MAKE) --no-print-directory wheel-test

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy

# The built wheel in an environment of its own: its contents, and the tests of the package against it.
wheel-test: $(VENV)/.installed
	$(BIN)/python tests/packaging/wheel.py

# CHAOS_RUNS processes killed at random instants; repeat a run with CHAOS_SEED.
CHAOS_RUNS ?= 300
CHAOS_SEED ?=
chaos: $(VENV)/.installed
	$(BIN)/python -m pytest tests/chaos -q --chaos-runs $(CHAOS_RUNS) $(if $(CHAOS_SEED),--chaos-seed $(CHAOS_SEED))

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/run.py

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "trace-guard needs Python 3.10 or newer: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-* dist build .pytest_cache .mypy_cache .ruff_cache
