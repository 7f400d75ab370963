# `make run` and `make test` do all set-up by themselves; see README.md.
.DEFAULT_GOAL := help
.PHONY: help setup run test test-fast mutants bench lint format types contracts check clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests run side by side in this many processes; those of one xdist group stay together.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup
DATA_DIR ?= ./data
# The virtual environment is set up anew when this file is older than what describes it.
STAMP := $(VENV)/.set-up

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## virtual environment in .venv, the project installed in it; quick when nothing changed

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; say which with: make PYTHON=/path/to/python $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Setting up $(VENV); the first time this takes a minute or two'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: setup ## the whole system on this machine, data under ./data; Ctrl-C stops it
	@exec $(BIN)/stratos dev --data-dir $(DATA_DIR)

test: setup ## the whole test suite
	$(PYTEST)

test-fast: setup ## the tests for daily work, little more than a minute
	HYPOTHESIS_PROFILE=fast $(PYTEST) -m 'not (slow or e2e or crash or bench)'

mutants: setup ## break each invariant on purpose, in a copy, and see that a test notices
	$(BIN)/python -m tests.mutants

bench: setup ## the benchmarks, with their targets
	$(BIN)/python -m benchmarks

lint: setup ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup ## what ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup ## mypy, strict
	$(BIN)/mypy

contracts: setup ## import-linter: which package may import which
	$(BIN)/lint-imports

check: lint types contracts test ## everything that CI runs

clean: ## remove caches and build results; keeps .venv and ./data
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
