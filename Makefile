# `make demo` and `make test` are all that a newcomer needs; both prepare .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
BENCH := .venv-bench
KERNELS := $(shell find loader_service -name '*.[ch]')

# Tests start hundreds of processes: what one has compiled, the next ones read. Some images forbid it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test test-all faults test-containers bench bench-all lock format clean fuzz-jpeg

install: $(READY)

# Kernels are built where the package is installed: anew, when one of them has changed.
$(READY): pyproject.toml $(KERNELS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --editable '.[test]'
	touch $@

demo: install
	$(BIN)/loader-service demo

test: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder -m 'not slow'

# And those that take long, beside others that show nearly the same.
test-all: test
	$(BIN)/python -m pytest -m slow

# What docs/guarantees.md promises, at length: both print the seed that they go by, and stop at the first violation.
faults: install
	$(BIN)/python -m pytest tests/faults
	$(BIN)/python -m tests.faults.long
	$(BIN)/python -m tests.faults.fuzz

# Any bytes as a JPEG, against the kernel that decodes parts of them; with the sanitizers, as long as FUZZ_SECONDS say.
FUZZ_SECONDS ?= 3600
fuzz-jpeg: install
	mkdir -p build/jpegs build/found
	$(BIN)/python -m tests.faults.fuzz_jpeg build/jpegs
	clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
		tests/faults/fuzz_jpeg.c -ljpeg -lm -o build/fuzz-jpeg
	build/fuzz-jpeg -max_total_time=$(FUZZ_SECONDS) -max_len=6000 -timeout=20 build/found build/jpegs

# Builds the images and runs docker-compose.yml: needs root, Docker with Compose, and some gigabytes.
test-containers: install
	$(BIN)/python -m tests.containers.run

# Peers (gigabytes) go into an environment of their own. The short form takes minutes, the long one a night.
bench: $(BENCH)/ready
	$(BENCH)/bin/python -m benchmarks --short --seconds 0.5 --repeats 1 --longest 1

bench-all: $(BENCH)/ready
	rm -f bench-all.jsonl
	$(BENCH)/bin/python -m benchmarks --seconds 3 --repeats 5 --json bench-all.jsonl
	$(BENCH)/bin/python -m benchmarks.footprint --json bench-all.jsonl
	$(BENCH)/bin/python -m benchmarks.report bench-all.jsonl
	$(BENCH)/bin/python -m benchmarks.check bench-all.jsonl

$(BENCH)/ready: pyproject.toml $(KERNELS)
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

# What the images of deploy/Dockerfile consist of.
LOCK = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-annotate \
	--custom-compile-command 'make lock' pyproject.toml
lock: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCK) --extra demo deploy/tensorflow-cpu.txt --override deploy/tensorflow-cpu.txt \
		--output-file deploy/requirements-trainer.txt
	$(LOCK) --constraint deploy/requirements-trainer.txt --output-file deploy/requirements-daemon.txt

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(BENCH) build dist
