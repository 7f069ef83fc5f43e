# One word to work, and the same word in CI. `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin
# Tests are shared by so many processes: one begins with those that need a cluster, the other with the rest, so that two
# clusters seldom start at once on two cores (tests/conftest.py). With three, tests ran out of time.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder
# What the packages bring that nobody here imports, a third of it all: it is not compiled.
UNUSED := /(tests|transformers/models|ray/(rllib|data|train|tune)|phonenumbers/geodata|anthropic|fontTools|pip)/
# What was not compiled at set-up is when it is first imported, for good: on some machines this is set, and then each of a
# cluster's processes would compile it anew.
export PYTHONDONTWRITEBYTECODE :=
# Set-up is done when this file exists: its name is the content of what set-up depends on, and where.
READY := .make/ready-$(shell { cat pyproject.toml requirements.lock .ci/torch; pwd; } | cksum | tr ' ' '-')

.DEFAULT_GOAL := help
.PHONY: help setup run stop test test-fast check format bench lock

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

run: setup ## the store's 74 customer tasks, live; keeps serving until `make stop`
	$(BIN)/hanse run retail

stop: ## end what `make run` left serving
	@test ! -x $(BIN)/hanse || $(BIN)/hanse down

test: setup ## every test; ARGS=... for pytest, WORKERS=0 for one after the other
	$(PYTEST) $(ARGS)

test-fast: setup ## the tests that need no cluster, no model and no patience
	$(PYTEST) -m "not ray and not slow and not vllm" $(ARGS)

check: setup ## style, types, and the import rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --warnings
	$(BIN)/python -m pytest -q tests/test_layout.py

format: setup ## what `make check` finds in style and can be repaired without thought
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

bench: setup ## durable steps per second; NAME=... for another benchmark, ARGS=... for its options
	$(BIN)/python -m hanse.benchmarks.$(or $(NAME),steps) $(ARGS)

setup: ## .venv from requirements.lock, with this checkout in it; does nothing when it is there
	@test -e $(READY) -a -x $(BIN)/hanse || $(MAKE) --no-print-directory .make/install

.PHONY: .make/install
.make/install:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Hanse needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Say which: make setup PYTHON=python3.11")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make environments. On Debian: apt install python3-venv"; exit 1; }
	rm -f .make/ready-*
	$(PYTHON) -m venv .venv
	.ci/torch $(BIN)/python $$(sed -n 's/^torch==//p' requirements.lock)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile -r requirements.lock
	@$(BIN)/python -m compileall -q -j 0 -x '$(UNUSED)' .venv/lib agents contracts runtime models memory >/dev/null 2>&1 || true # on all cores; pip uses one
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@mkdir -p .make/path && ln -sfn ../.. .make/path/hanse
	@touch $(READY)

lock: ## requirements.lock anew, from the newest versions that pyproject.toml allows
	.ci/lock $(PYTHON)
