# Everything a user or CI does, one line of `make help` each.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo up test engines unit integration acceptance check lint types docs package bench lock clean

help:  ## Say what each verb does
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY)  ## Make .venv with everything pinned by hash

# uv is quick; where it cannot reach an index that pip is configured for, pip installs the same files.
# Byte-code is made here, once: uv leaves none, and where PYTHONDONTWRITEBYTECODE is set nobody else does. Each of the many
# processes that tests start would compile every module anew (5 s of CPU for a hub instead of 2).
$(READY): requirements/dev.txt requirements/uv.txt pyproject.toml Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt \
	  || $(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -qq -j 0 .venv/lib src
	touch $(READY)

demo: $(READY)  ## Play the whole loop on real data (about two minutes; DEMO='--keep' leaves it running)
	$(BIN)/mendel demo $(DEMO)

up: $(READY)  ## Start hub and server on this machine, in ./.mendel
	$(BIN)/mendel up

# What the image tests run for real is installed where that can be done; elsewhere they skip and say what is absent.
engines:  ## Install container engines, a registry and mmdebstrap for the tests (Debian, as root)
	scripts/install_engines.sh

# Many tests race real processes, sockets and signals; on a busy machine one may lose its race. What failed is looked at
# once more, alone and in plain sight: what fails twice has failed.
test: $(READY)  ## Run every test (PYTEST='-k name' to choose); what failed is tried once more, alone
	-@scripts/install_engines.sh
	$(BIN)/pytest $(PYTEST) || { echo "== A second look at what failed"; $(BIN)/pytest $(PYTEST) --last-failed; }

unit: $(READY)  ## Run the fast tests: units and contracts
	$(BIN)/pytest tests/unit tests/contracts $(PYTEST)

integration: $(READY)  ## Run the tests with real processes, sockets and databases
	$(BIN)/pytest tests/integration $(PYTEST)

acceptance: $(READY)  ## Run the installed command line from outside
	$(BIN)/pytest tests/acceptance $(PYTEST)

check: lint types docs  ## Lint, types, layers, docs and doctests

lint: $(READY)  ## ruff and import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(READY)  ## mypy, strict
	$(BIN)/mypy

docs: $(READY)  ## Doctests, and every link and command in the docs
	$(BIN)/pytest -q --doctest-modules src
	$(BIN)/python scripts/check_docs.py

package: $(READY)  ## Build the wheel and import it in a bare environment
	$(BIN)/python scripts/check_package.py

bench: $(READY)  ## Run the benchmarks, one table each
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file; done

lock: $(READY)  ## Resolve the requirements files again
	$(BIN)/python scripts/lock.py

clean:  ## Remove what the other verbs made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
