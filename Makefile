# `make demo` and `make test` need Python 3.10 or newer and nothing else: they make .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Certificates that the machine trusts are trusted, as pip does where it is told to.
export UV_SYSTEM_CERTS := true

.PHONY: demo test lint environments browser screenshots wheel-test releases sdk-suite chaos live-load recovery-scale fuzz reference bench clean

demo: $(VENV)/.installed
	@$(BIN)/trace-guard demo

# Tests wait for processes and clocks for half of their time: four at a time keep two cores busy. What fails then runs
# once more, one test at a time: some runtimes have limits of their own that a busy machine can miss. A test that fails
# again fails the run.
WORKERS ?= 4
test: $(VENV)/.installed
	$(MAKE) --no-print-directory -j 3 lint environments browser
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
	  || $(BIN)/python -m pytest --last-failed --last-failed-no-failures none
	$(MAKE) --no-print-directory wheel-test

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell

# Runtimes that want a Python or packages of their own; tests of what this machine can't have are skipped, and say so.
environments: $(VENV)/.installed
	@$(BIN)/python tests/environments.py

# Chromium for the tests of the page. Where it can't be installed they are skipped, and say so.
browser:
	@command -v chromium chromium-browser google-chrome > /dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null \
	       && { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } > /dev/null 2>&1; } \
	  || echo "no Chromium: the tests of the page in a browser are skipped"

# The pictures of the page in the docs, made of the demo's traces.
screenshots: $(VENV)/.installed browser
	$(BIN)/python tests/ui/screenshots.py

# The test suites of frameworks, alone and with the middleware; the table goes to docs/compatibility.md.
suites: $(VENV)/.installed
	$(BIN)/python tests/suites/run.py

# The built wheel in an environment of its own: its contents, and the tests of the package against it.
wheel-test: $(VENV)/.installed
	$(BIN)/python tests/packaging/wheel.py

# All tests of the SDK with each of its releases; `make test` has most of them with the newest only.
releases: $(VENV)/.installed
	$(BIN)/python -m pytest tests/sdk -n $(WORKERS) --all-releases

# The SDK's own tests, plain and under the guard; docs/compatibility.md gets the table of what differs.
sdk-suite: $(VENV)/.installed
	$(BIN)/python tests/sdk_suite/run.py

# CHAOS_RUNS processes killed at random instants; repeat a run with CHAOS_SEED.
CHAOS_RUNS ?= 300
CHAOS_SEED ?=
chaos: $(VENV)/.installed
	$(BIN)/python -m pytest tests/chaos tests/ray_/test_ray_nodes.py tests/ray_/test_ray_shutdown.py tests/ray_/test_reap_at_scale.py tests/repair/test_reap_kills.py -q --chaos-runs $(CHAOS_RUNS) $(if $(CHAOS_SEED),--chaos-seed $(CHAOS_SEED))

# The reaper beside a live load, for LIVE_SECONDS.
LIVE_SECONDS ?= 60
live-load: $(VENV)/.installed
	$(BIN)/python -m pytest tests/repair/test_live_load.py -q --live-seconds $(LIVE_SECONDS)

# The journals of so many dead processes, with ten open spans each: descriptors, memory, time, interruptions.
JOURNALS ?= 10000
recovery-scale: $(VENV)/.installed
	$(BIN)/python -m pytest tests/recovery/test_many_orphans.py -q -s --journals $(JOURNALS)

# Generated journals, payloads, events and server answers, for FUZZ_SECONDS; repeat a run with FUZZ_SEED.
FUZZ_SECONDS ?= 120
FUZZ_SEED ?= $(shell date +%s)
fuzz: $(VENV)/.installed
	$(BIN)/python -m pytest tests/fuzz -q -s --fuzz-seconds $(FUZZ_SECONDS) --fuzz-seed $(FUZZ_SEED)

# The docstrings of the public surface as HTML, in build/reference.
reference: $(VENV)/.installed
	cd adapters && ../$(BIN)/python ../docs/reference.py ../build/reference

# BENCH="--only cloud-run ray" for some of the tables, BENCH="--write docs/benchmarks.md" to put them on the page.
BENCH ?=
bench: $(VENV)/.installed
	$(BIN)/python benchmarks/run.py $(BENCH)

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "trace-guard needs Python 3.10 or newer: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip uv
	$(BIN)/python -m uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[dev]' \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-* dist build .pytest_cache .mypy_cache .ruff_cache
