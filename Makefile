# Every target does its own set-up from a fresh clone: a virtual environment, exact versions, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt
CATALOGUE ?= catalogue
TEST_WORKERS ?= 3

export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.DEFAULT_GOAL := help
.PHONY: help install demo test check format ui up bench faults constraints clean

help: ## say what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: pyproject.toml constraints.txt tasks/dictionaries/kernels/kernels.cpp
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing featlas (once; about two minutes)"
	@$(INSTALL) torch
	@$(INSTALL) --editable '.[all]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed infra/install_browser.sh infra/install_postgres.sh
	@$(INSTALL) --editable '.[test]'
	@bash infra/install_browser.sh $(BIN)
	@bash infra/install_postgres.sh
	@touch $@

install: $(VENV)/.installed ## the environment and nothing else

demo: $(VENV)/.installed ## run the demo pipeline end to end, offline, and say what to try next
	@$(BIN)/featlas run demo --catalog $(CATALOGUE)

ui: $(VENV)/.installed ## open the dashboard on the demo catalogue
	@$(BIN)/featlas ui --catalog $(CATALOGUE)

up: $(VENV)/.installed ## the whole platform: server, workers, schedules, dashboard
	@$(BIN)/featlas up --catalog $(CATALOGUE)

check: $(VENV)/.installed-test ## lint, format, layers, types, dependencies, banned calls
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy
	@$(BIN)/deptry --no-ansi .
	@$(BIN)/python -m pytest -q tests/architecture

format: $(VENV)/.installed-test ## put the code into its form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

test: $(VENV)/.installed-test ## every test but the long fault tests and the benchmarks
	@$(BIN)/python -m pytest -q -n $(TEST_WORKERS) --dist loadfile -m 'not faults and not gpu' $(RECORD)

# Also looks for new inputs: the profile `search` draws other examples each time, and more (tests/searching.py).
faults: $(VENV)/.installed-test ## the long fault tests: kill everything, everywhere
	@$(BIN)/python -m pytest -q -m 'faults or hypothesis' --hypothesis-profile=search

bench: $(VENV)/.installed-test ## benchmarks as ratios; makes an environment for each peer (BENCH=training: one of them)
	@$(BIN)/python -m tests.benchmarks.run $(BENCH)

constraints: ## write down the versions installed now
	@{ head -n 1 constraints.txt; $(PIP) freeze --exclude-editable | sed 's/+cpu//'; } > constraints.new
	@mv constraints.new constraints.txt

clean: ## remove the environments, caches and compiled kernels; the catalogue stays
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info build
	rm -f tasks/dictionaries/kernels/_native*
