# The two commands of the README come first. Everything works from a fresh clone with Python 3.11, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
COMPILE := --quiet --upgrade --strip-extras --generate-hashes --allow-unsafe --no-header --no-annotate --no-emit-index-url \
           --no-emit-find-links --no-emit-trusted-host

# Two at a time, a file as a whole: most tests wait for processes, and none may need a machine to itself.
TESTS := -m pytest tests -m "not soak" --numprocesses=2 --dist=loadfile
# The tests of what decides: pure, seconds in all.
DECIDING := $(wildcard tests/actions/policy/test_*.py) tests/actions/runner/test_guards.py tests/actions/backups/test_retention.py

demo: $(STAMP)  ## A throw-away queue with live workers, and queuekeeper healing it
	@$(BIN)/queuekeeper demo

test: setup  ## All tests, on real SQLite, Prometheus and Alertmanager
	@$(BIN)/python $(TESTS)

check: setup  ## The whole gate: lint, types, import contracts, generated references, tests
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m exporter.reference.metrics --check
	@$(BIN)/python -m exporter.reference.commands --check
	@$(BIN)/python -m exporter.reference.configuration --check
	@$(BIN)/python -m grafana.build --check
	@$(BIN)/python $(TESTS)

setup: $(DEV_STAMP)  ## What the tests need: the environment and the real components
	@bash tests/support/real/install.sh

soak: setup  ## The slow ones: 1,000 polls, hundreds of kills
	@$(BIN)/python -m pytest tests -m soak --timeout=3600

proof: $(DEV_STAMP)  ## What decides: every branch is tested, and the tests see at least 90 % of small changes
	@$(BIN)/coverage run -m pytest -q $(DECIDING) && $(BIN)/coverage report
	@$(BIN)/python bench/mutants.py

bench: $(DEV_STAMP)  ## The cost of a scrape, beside what one would use instead: a naive exporter and query-exporter
	@test -x .venv-peers/bin/query-exporter || ($(PYTHON) -m venv .venv-peers && \
	  .venv-peers/bin/pip install --quiet --disable-pip-version-check query-exporter) || \
	  echo "query-exporter cannot be installed here: its column is left out"
	@$(BIN)/python bench/scrape.py --query-exporter .venv-peers/bin/python

docs: $(DEV_STAMP)  ## Regenerate the references, the dashboards and the golden page
	@$(BIN)/python -m exporter.reference.metrics
	@$(BIN)/python -m exporter.reference.commands
	@$(BIN)/python -m exporter.reference.configuration
	@$(BIN)/python -m grafana.build

format: $(DEV_STAMP)
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

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

.PHONY: demo test check setup soak proof bench docs format lock
