# `make up` and `make test` need Python 3.11 or newer and make; everything else they set up themselves.
# The first that is new enough; `make PYTHON=/path/to/python3.12 up` takes another.
PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help up demo down clean test chaos lint format lock

help:  ## show this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Vitrine needs Python 3.11 or newer: install it, or set PYTHON=/path/to/it" >&2; exit 1; }
	@echo "Making a virtual environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.local: requirements-local.txt | $(BIN)/python
	@$(BIN)/python scripts/install.py requirements-local.txt "what Vitrine needs" && touch $@

$(VENV)/.dev: requirements-dev.txt | $(BIN)/python
	@$(BIN)/python scripts/install.py requirements-dev.txt "what the tests need" && touch $@ $(VENV)/.local

tests/js/node_modules/.stamp: tests/js/package-lock.json $(VENV)/.dev
	@cd tests/js && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --silent --no-audit --no-fund && touch node_modules/.stamp

up: $(VENV)/.local  ## start everything (embedded Supabase and sandbox unless .env says otherwise)
	@$(BIN)/python -m scripts.up

demo: $(VENV)/.local  ## one photograph, no terminal: make demo PHOTO=ring.jpg OUT=folder
	@$(BIN)/python -m scripts.demo "$$PHOTO" "$$OUT"

down:  ## stop what `make up` started
	@if [ -f $(VENV)/.local ]; then $(BIN)/python -m scripts.down; fi

clean: down  ## stop, then remove the local data and the virtual environment
	rm -rf .vitrine .venv .mypy_cache .ruff_cache .pytest_cache tests/js/node_modules

test: $(VENV)/.dev tests/js/node_modules/.stamp  ## run every test
	@$(BIN)/python -m pytest

chaos: $(VENV)/.dev  ## break it on purpose and check the books: make chaos OPTIONS="--minutes 30 --seed 7"
	@$(BIN)/python -m chaos $(OPTIONS)

lint: $(VENV)/.dev  ## lint, format check, migration lint, type check
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/python -m scripts.lint_migrations && $(BIN)/mypy

format: $(VENV)/.dev  ## format the code
	@$(BIN)/ruff check --fix-only . && $(BIN)/ruff format .

lock: $(VENV)/.dev  ## pin requirements.in, requirements-local.in and requirements-dev.in anew
	@for set in requirements requirements-local requirements-dev; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    $$set.in --output-file $$set.txt || exit 1; done

.vitrine/bench/.installed: bench/requirements.txt | $(BIN)/python
	@$(BIN)/python -m venv .vitrine/bench
	@.vitrine/bench/bin/python scripts/install.py bench/requirements.txt "the queues to compare with" && touch $@

.PHONY: bench
bench: $(VENV)/.local .vitrine/bench/.installed  ## measure speed and cost; FULL=1 more of it, WRITE=1 into docs/performance.md
	@$(BIN)/python -m bench $(if $(FULL),--full) $(if $(WRITE),--write)
