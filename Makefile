# `make help` lists the targets. Everything works from a fresh clone with Python 3.11, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
COMPILE := --quiet --upgrade --strip-extras --generate-hashes --allow-unsafe --no-header --no-annotate --no-emit-index-url \
           --no-emit-find-links --no-emit-trusted-host

# Two at a time, a file as a whole: most tests wait for processes, and none may need a machine to itself.
PARALLEL := --numprocesses=2 --dist=loadfile
# What decides: pure, seconds in all. `make proof` demands every branch of it.
DECIDING := $(wildcard tests/actions/policy/test_*.py) tests/actions/runner/test_guards.py tests/actions/backups/test_retention.py
# What an edit needs: tests that start few processes and end within seconds. A file or folder is added here by its name.
FAST := tests/actions/policy tests/actions/runner/test_guards.py tests/actions/runner/test_enqueue.py \
        tests/actions/backups/test_retention.py tests/actions/model tests/actions/store \
        tests/collectors/test_file_collectors.py tests/collectors/queue_profiles/test_profile_schema.py \
        tests/exporter/test_log.py tests/exporter/alert_rules tests/exporter/config tests/exporter/exposition \
        tests/exporter/polling tests/exporter/reference tests/exporter/text tests/exporter/triggers \
        tests/exporter/web/test_webhook_payload.py tests/exporter/web/test_log_limit.py \
        tests/documents/test_house.py tests/documents/test_recipes.py tests/documents/test_web_document.py
# Options for pytest, as in `make test ARGS="-k cooldown"`.
ARGS ?=

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP)  ## Run a throw-away queue with live workers, and queuekeeper repairing it
	@$(BIN)/queuekeeper demo

fast: $(DEV_STAMP) lint types contracts  ## What an edit needs, in under a minute: lint, types, contracts, the quick tests
	@$(BIN)/python -m pytest $(FAST) -m "not soak and not real" -q $(PARALLEL) $(ARGS)

check: setup lint types contracts references  ## The whole gate: lint, format, types, contracts, references, all tests
	@$(BIN)/python -m pytest tests -m "not soak" $(PARALLEL) $(ARGS)

lint: $(DEV_STAMP)  ## Check style and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(DEV_STAMP)  ## Check types (strict; what did not change is not checked again)
	@$(BIN)/mypy

contracts: $(DEV_STAMP)  ## Check that imports go one way
	@$(BIN)/lint-imports

references: $(DEV_STAMP)  ## Check that the generated documents, dashboards and rules are up to date
	@$(BIN)/python -m exporter.reference.metrics --check
	@$(BIN)/python -m exporter.reference.commands --check
	@$(BIN)/python -m exporter.reference.configuration --check
	@$(BIN)/python -m grafana.build --check

test: setup  ## Run all tests, on real SQLite, Prometheus and Alertmanager
	@$(BIN)/python -m pytest tests -m "not soak" $(PARALLEL) $(ARGS)

soak: setup  ## Run the slow tests: 1,000 polls, hundreds of kills
	@$(BIN)/python -m pytest tests -m soak --timeout=3600 $(ARGS)

proof: $(DEV_STAMP)  ## Prove the tests of what decides: every branch, and at least 90 % of small changes noticed
	@$(BIN)/coverage run -m pytest -q $(DECIDING) && $(BIN)/coverage report
	@$(BIN)/python bench/mutants.py

bench: $(DEV_STAMP)  ## Measure the cost of a scrape against a naive exporter and query-exporter
	@test -x .venv-peers/bin/query-exporter || ($(PYTHON) -m venv .venv-peers && \
	  .venv-peers/bin/pip install --quiet --disable-pip-version-check query-exporter) || \
	  echo "query-exporter cannot be installed here: its column is left out"
	@$(BIN)/python bench/scrape.py --query-exporter .venv-peers/bin/python

docs: $(DEV_STAMP)  ## Write the generated documents, dashboards, rules and the golden page again
	@$(BIN)/python -m exporter.reference.metrics
	@$(BIN)/python -m exporter.reference.commands
	@$(BIN)/python -m exporter.reference.configuration
	@$(BIN)/python -m grafana.build

format: $(DEV_STAMP)  ## Format the code and fix what can be fixed by itself
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

setup: $(DEV_STAMP)  ## Install what the tests need: the environment and the real components
	@bash tests/support/real/install.sh

lock: $(DEV_STAMP)  ## Lock the newest allowed versions, with hashes and without addresses
	@$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install --quiet pip-tools
	@.venv-lock/bin/pip-compile $(COMPILE) --extra build -o requirements.lock pyproject.toml
	@.venv-lock/bin/pip-compile $(COMPILE) --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEV_STAMP): requirements-dev.lock $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

.PHONY: help demo fast check lint types contracts references test soak proof bench docs format setup lock
