# `make demo` and `make test` are all that a newcomer needs; both prepare .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
BENCH := .venv-bench

.PHONY: install demo test bench bench-all format clean

install: $(READY)

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

demo: install
	$(BIN)/loader-service demo

test: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

# Peers (gigabytes) go into an environment of their own. The short form takes minutes, the long one two hours.
bench: $(BENCH)/ready
	$(BENCH)/bin/python -m benchmarks --seconds 0.5 --repeats 1 --longest 1

bench-all: $(BENCH)/ready
	rm -f bench-all.jsonl
	$(BENCH)/bin/python -m benchmarks --seconds 3 --repeats 5 --json bench-all.jsonl
	$(BENCH)/bin/python -m benchmarks.report bench-all.jsonl

$(BENCH)/ready: pyproject.toml
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(BENCH) build dist
