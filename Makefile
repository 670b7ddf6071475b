# `make help` says what can be made.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
# These files say that an environment is complete: the first to run chatd, the second to work on it too.
CAN_RUN := $(VENV)/can-run
CAN_TEST := $(VENV)/can-test
PIP_INSTALL := $(BIN)/pip --disable-pip-version-check --quiet install

NO_PYTHON = There is no $(PYTHON), and chatd needs Python 3.10 or newer. On Debian and Ubuntu: \
	sudo apt install python3-venv. Where it has another name: make PYTHON=python3.12
OLD_PYTHON = $(PYTHON) is too old: chatd needs Python 3.10 or newer. If you have one: make PYTHON=python3.12
NO_VENV = $(PYTHON) cannot make virtual environments. On Debian and Ubuntu: sudo apt install python3-venv

.DEFAULT_GOAL := environment
.PHONY: environment server client test lint pytest bench clean help

environment: $(CAN_TEST) ## the environment in .venv, with everything (what `make` alone does)

server: $(CAN_RUN) ## run the server here, with a page, as in: make server ARGS="--port 6000 --web 8081"
	@CHATD_WEB="$${CHATD_WEB-8080}" exec $(BIN)/twistd --nodaemon chat $(ARGS)

client: $(CAN_RUN) ## run the client, as in: make client ARGS="localhost --name ana"
	@exec $(BIN)/python -m chatd.client $(ARGS)

test: lint pytest ## ruff, mypy and pytest, as in: make test ARGS="-k names"

lint: $(CAN_TEST)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo 'Run $(BIN)/ruff format' >&2; false; }
	@$(BIN)/mypy

pytest: $(CAN_TEST)
	@$(BIN)/pytest $(ARGS)

bench: $(CAN_TEST) ## measure it, as in: make bench ARGS=--help
	@$(PIP_INSTALL) --editable '.[bench]'
	@exec $(BIN)/python -m benchmarks.run $(ARGS)

clean: ## remove what make, the tests and the builds made; databases and logs stay
	rm -rf $(VENV) build dist benchmarks/build *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -f twisted/plugins/dropin.cache

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(CAN_TEST): $(CAN_RUN)
	@echo 'Installing what the tests need ...'
	@$(PIP_INSTALL) --editable '.[postgres,test]'
	@touch $@

$(CAN_RUN): setup.cfg pyproject.toml | $(BIN)/pip
	@echo 'Installing chatd into $(VENV) ...'
	@$(PIP_INSTALL) --editable .
	@touch $@

$(BIN)/pip:
	@command -v $(PYTHON) > /dev/null || { echo '$(NO_PYTHON)' >&2; false; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo '$(OLD_PYTHON)' >&2; false; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { echo '$(NO_VENV)' >&2; false; }
	@$(PYTHON) -m venv $(VENV)
