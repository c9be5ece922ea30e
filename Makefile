# Two commands set everything up by themselves in .venv:
#   make demo    the whole way: simulate, train, generate, validate
#   make test    everything that must hold before a change lands
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# the examples keep their output here
DEMO := demo
# for a small form: make demo DEMO_OPTIONS="--train-showers 200 --test-showers 120"
DEMO_OPTIONS ?=

.PHONY: demo test lint docs clean help

help:
	@echo "make demo | test | lint | docs | clean"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python {v[0]}.{v[1]} found, 3.11 or newer needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# one resolver call, so that the bound on torch holds for everything that asks for it; Python compiles a module
# when it is first imported, and most never are
$(VENV)/.base: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[onnx,tune]' --group dev
	@touch $@ $(VENV)/.base

demo: $(VENV)/.base
	$(BIN)/caloforge demo --out $(DEMO) --force $(DEMO_OPTIONS)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry src

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

# mypy and sphinx use one core each; pytest runs on all (tests/conftest.py), the slow tests in their small form
# beside the others: they wait for processes, and the tests are collected once
test: $(VENV)/.dev
	+$(MAKE) --jobs=2 lint docs
	CALOFORGE_SCALE=small $(BIN)/pytest -m "slow or not slow" --durations=15

clean:
	rm -rf $(VENV) $(DEMO) docs/_build .pytest_cache .mypy_cache .ruff_cache
