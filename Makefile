# Needs Python >= 3.11 and make; everything else comes from requirements.lock into .venv.
.NOTPARALLEL:
.SHELLFLAGS := -ec
.DEFAULT_GOAL := help

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Without bytecode every rule of the workflow would compile its imports anew.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
# Processes for the tests; two is what the times in docs/ are measured with.
JOBS ?= 2
PYTEST = $(BIN)/python -m pytest $(PYTEST_ARGS)
FAST = not slow and not slurm and not wsclean

# The first interpreter that the lock covers; override with `make PYTHON=/path/to/python`.
SUPPORTED = import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	if $$p -c '$(SUPPORTED)' 2>/dev/null; then echo $$p; break; fi; done)

.PHONY: help setup demo test test-slow test-all lint bench campaign lock config clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

setup: .venv/.compiled ## the environment in .venv (the other targets do it by themselves)

demo: .venv/.compiled ## simulate nights of a strip with one ESE in it and find it
	$(BIN)/dsaflow demo

test: lint ## style, types and the fast tests (under 15 min on 2 cores)
	$(PYTEST) -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "$(FAST)"

test-slow: .venv/.complete ## the tests that `make test` leaves out
	$(PYTEST) -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "(slow or wsclean) and not slurm"
	$(PYTEST) -m slurm # with the machine to itself

test-all: test test-slow ## every test (see tests/install-system-packages.sh)

lint: .venv/.complete ## ruff, snakefmt, mypy, and generated files that drifted
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy
	$(BIN)/python -m dsaflow.config.generate --check

bench: .venv/.complete ## measure each stage; prints what docs/performance.md quotes
	@set -e; for script in benchmarks/bench_*.py benchmarks/validate.py; do \
		echo "== $$script"; $(BIN)/python $$script; done
	$(BIN)/python benchmarks/bench_stages.py --full --tiles 3 # half an hour, 15 GB of disk

# Of the campaign, e.g. CAMPAIGN="--only truth-table --skies 100"; all of it without.
CAMPAIGN ?=
campaign: .venv/.complete ## the long counts over many seeds, hours; logs in docs/campaign
	$(BIN)/python benchmarks/campaign.py $(CAMPAIGN)

config: .venv/.complete ## write config/config.yaml, its schema and envs/ from models and lock
	$(BIN)/python -m dsaflow.config.generate

# One version of each package for every supported Python; no index address in the file.
lock: .venv/.complete ## resolve pyproject.toml anew into requirements.lock (needs network)
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --fork-strategy fewest \
		--generate-hashes --no-emit-index-url --no-annotate --upgrade --quiet \
		--custom-compile-command "make lock" --output-file requirements.lock
	$(BIN)/python -m dsaflow.config.generate

clean: ## the demo's products and caches
	rm -rf demo .pytest_cache .mypy_cache .ruff_cache .hypothesis build
	find src scripts tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## and the environment
	rm -rf .venv

# uv where it is on PATH, else the standard library's venv and pip. In place, so that a changed lock
# updates what is there.
.venv/.locked: requirements.lock
	@python="$(PYTHON)"; \
	if [ -z "$$python" ]; then \
		echo "no Python 3.11, 3.12 or 3.13 on PATH: install one, or make PYTHON=/path/to/python" >&2; exit 1; fi; \
	$$python -c '$(SUPPORTED)' || { \
		echo "$$python is $$($$python -V 2>&1); requirements.lock covers Python 3.11 to 3.13" >&2; exit 1; }; \
	echo "Setting up .venv with $$python (some minutes with pip, seconds with uv; once)"; \
	if command -v uv >/dev/null; then \
		[ -x $(BIN)/python ] || uv venv --quiet --clear --python "$$python" .venv; \
		uv pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python requirements.lock; \
	else \
		[ -x $(BIN)/pip ] || $$python -m venv --clear .venv || { \
			echo "$$python cannot make a venv: install python3-venv (Debian), or uv" >&2; exit 1; }; \
		$(BIN)/python -m pip install -qq --require-hashes -r requirements.lock; \
	fi
	@touch $@

.venv/.complete: .venv/.locked pyproject.toml
	@if [ -x $(BIN)/pip ]; then install="$(BIN)/python -m pip install"; \
	else install="$(BIN)/uv pip install --python $(BIN)/python"; fi; \
	$$install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

.venv/.compiled: .venv/.complete $(wildcard src/dsaflow/variability/*.py)
	@echo "Compiling the search for events (a minute; once)"
	@$(BIN)/python -m dsaflow.variability.compiled
	@touch $@
