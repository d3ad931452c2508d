# `make up` and `make test` need Python 3.11 or newer and make; everything else they set up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

.DEFAULT_GOAL := help
.PHONY: help up demo down clean test lint format lock

help:  ## show this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Vitrine needs Python 3.11 or newer; set PYTHON=/path/to/python3.11") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.local: requirements-local.txt | $(BIN)/python
	@echo "Installing what Vitrine needs (about a minute the first time) ..."
	@$(PIP_INSTALL) -r requirements-local.txt && touch $@

$(VENV)/.dev: requirements-dev.txt | $(BIN)/python
	@echo "Installing what the tests need (about a minute the first time) ..."
	@$(PIP_INSTALL) -r requirements-dev.txt && touch $@ $(VENV)/.local

tests/js/node_modules/.stamp: tests/js/package-lock.json $(VENV)/.dev
	@cd tests/js && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --silent --no-audit --no-fund && touch node_modules/.stamp

up: $(VENV)/.local  ## start everything (embedded Supabase and sandbox unless .env says otherwise)
	@$(BIN)/python -m scripts.up

demo: $(VENV)/.local  ## one photograph, no terminal: make demo PHOTO=ring.jpg OUT=folder
	@$(BIN)/python -m scripts.demo "$(PHOTO)" "$(OUT)"

down: $(VENV)/.local  ## stop what `make up` started
	@$(BIN)/python -m scripts.down

clean: down  ## stop, then remove the local data and the virtual environment
	rm -rf .vitrine .venv .mypy_cache .ruff_cache .pytest_cache tests/js/node_modules

test: $(VENV)/.dev tests/js/node_modules/.stamp  ## run every test
	@$(BIN)/python -m pytest

lint: $(VENV)/.dev  ## lint, format check, type check
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(VENV)/.dev  ## format the code
	@$(BIN)/ruff check --fix-only . && $(BIN)/ruff format .

lock: $(VENV)/.dev  ## pin requirements.in, requirements-local.in and requirements-dev.in anew
	@for set in requirements requirements-local requirements-dev; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    $$set.in --output-file $$set.txt || exit 1; done
