# Regulars: `make run` and `make test` set up everything they need; `make help` lists the rest.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell command -v python3.11 || command -v python3)
RUN_DATE ?= 2026-03-01
MUTANTS ?= 20
SEED ?= 0
# For tests/bench/sasrec.py; without what it asks for, because it asks for an older numpy than it needs.
RECTOOLS = rectools==0.19.0 pm-implicit==0.7.3 pytorch-lightning==2.5.2 \
           lightning-utilities==0.15.3 torchmetrics==1.9.0 typeguard==4.4.4
# Every process imports torch and transformers, in half the time where bytecode may be kept; containers often say no.
export PYTHONDONTWRITEBYTECODE :=
BENCHES = $(patsubst tests/bench/%.py,%,$(shell grep -l '^if __name__' tests/bench/*.py))

.DEFAULT_GOAL := help
.PHONY: help setup run test lint tests test-slow test-faults check mutants bench clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.installed ## make .venv and install the pinned packages into it

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo "Regulars needs Python 3.11 (found: $$($(PYTHON) --version 2>&1 || echo none)). Install it (for example: apt-get install python3.11 python3.11-venv) or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@java -version 2>&1 | grep -Eq 'version "(17|21)' || { \
	  echo "Regulars needs Java 17 or 21 for Spark. Install it (for example: apt-get install openjdk-17-jre-headless) and see that 'java -version' finds it, or set JAVA_HOME."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[test]'
	@touch $@

demo/regulars.yaml: | setup
	$(BIN)/regulars sample --out demo

demo/models/recommend/regulars.json demo/models/sentiment/regulars.json demo/models/answers/regulars.json: | demo/regulars.yaml
	$(BIN)/regulars train --config demo/regulars.yaml --as-of $(RUN_DATE)

run: setup demo/regulars.yaml demo/models/recommend/regulars.json ## set up, then sample shop, training and one night under demo/
	$(BIN)/regulars nightly --config demo/regulars.yaml --run-date $(RUN_DATE)

test: setup ## set up, then the gate: lint, types, all tests but the slow ones
	@$(MAKE) --no-print-directory -j 2 lint tests

lint:
	$(BIN)/ruff check .
	$(BIN)/mypy

tests:
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m 'not slow and not faults'

test-slow: setup ## the tests of further whole nights: minutes more
	$(BIN)/python -m pytest -m slow

test-faults: setup ## processes killed, clusters, full disks: many minutes more
	$(BIN)/python -m pytest -m faults

check: setup lint ## lint, types and the tests that need no JVM: seconds
	$(BIN)/python -m pytest -m 'not spark and not slow and not faults'

mutants: setup ## random changes of the code that tests must see (make mutants MUTANTS=200 SEED=1): some seconds each
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[test,mutants]'
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants --mutants $(MUTANTS) --seed $(SEED)

# Figures need a machine that does nothing else; DATA is a folder with the real data sets, QUICK=1 shows that all run.
bench: setup ## set up with the other libraries, then every benchmark (make bench DATA=folder QUICK=1)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[test,bench]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps $(RECTOOLS)
	@status=0; for name in $(BENCHES); do \
	  echo "== $$name"; \
	  $(BIN)/python -m tests.bench.$$name --json $(if $(QUICK),--quick) $(if $(DATA),--data $(DATA)) || status=1; \
	done; exit $$status

clean: ## remove the demo, caches and the virtual environment
	rm -rf demo $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build dist
