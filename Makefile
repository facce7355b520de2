# Everything a user or CI does, one line of `make help` each.
.DEFAULT_GOAL := help
BIN := .venv/bin
READY := .venv/.ready
RUNS := .venv/.runs
SECONDS ?= 600

.PHONY: help setup demo up test soak programs unit integration acceptance check lint types docs package bench lock clean

help:  ## Say what each verb does
	@awk -F':.*## ' '/^##@/ { print "\n" substr($$0, 5) } /^[a-z]+:.*##/ { printf "  make %-12s %s\n", $$1, $$2 }' \
	  $(firstword $(MAKEFILE_LIST))

##@ Begin
setup: $(READY)  ## Make .venv with everything pinned by hash

$(READY): requirements/dev.txt requirements/uv.txt pyproject.toml Makefile scripts/make_environment.sh
	@PYTHON='$(PYTHON)' scripts/make_environment.sh dev
	@touch $(RUNS) $(READY)

# Enough to run Mendel; the tools of the tests are twice as much.
$(RUNS): requirements/hub.txt requirements/wheel.txt requirements/uv.txt pyproject.toml scripts/make_environment.sh
	@PYTHON='$(PYTHON)' scripts/make_environment.sh run
	@touch $(RUNS)

demo: $(RUNS)  ## Play the whole loop on real data (a minute or two; DEMO='--keep' leaves it running)
	@$(BIN)/mendel demo $(DEMO)

up: $(RUNS)  ## Start hub and server on this machine, in ./.mendel
	@$(BIN)/mendel up

##@ Test
# Programs of others that tests run are installed where that can be done; elsewhere tests skip and say what is absent.
programs: $(READY)  ## Install container engines, a registry, PostgreSQL, Go and more for the tests (Debian, as root)
	scripts/install_test_programs.sh
	scripts/make_grpc_clients.sh

test: $(READY)  ## Run every test, in parallel, races alone after it (PYTEST='-k name' to choose, MENDEL_TEST_WORKERS=4)
	-@scripts/install_test_programs.sh && scripts/make_grpc_clients.sh
	$(BIN)/python scripts/run_tests.py $(PYTEST)

# atheris has wheels for Linux on x86-64 only; elsewhere its tests skip and say so.
soak: $(READY)  ## Run the long random tests, each for so many seconds: make soak SECONDS=600
	-@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/fuzz.txt
	MENDEL_SOAK_SECONDS=$(SECONDS) $(BIN)/pytest --part=soak --timeout=0 $(PYTEST)

unit: $(READY)  ## Run the fast tests: units and contracts
	$(BIN)/pytest tests/unit tests/contracts $(PYTEST)

integration: $(READY)  ## Run the tests with real processes, sockets and databases
	$(BIN)/pytest tests/integration $(PYTEST)

acceptance: $(READY)  ## Run the installed command line from outside
	$(BIN)/pytest tests/acceptance $(PYTEST)

##@ Check
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
	$(BIN)/python scripts/check_language.py

##@ Keep
package: $(READY)  ## Build the wheel and import it in a bare environment
	$(BIN)/python scripts/check_package.py

bench: $(READY)  ## Run the benchmarks, one table each
	@for file in benchmarks/*.py benchmarks/registry/table.py benchmarks/serving/compare.py benchmarks/serving/overload.py; do echo "== $$file"; $(BIN)/python $$file; done

lock: $(READY)  ## Resolve the requirements files again
	$(BIN)/python scripts/lock.py

clean:  ## Remove what the other verbs made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
