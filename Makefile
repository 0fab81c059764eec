# `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
VENV_MCP1 := .venv-mcp1
READY_MCP1 := $(VENV_MCP1)/ready
INSTALL := -m pip install --quiet --disable-pip-version-check
PROTOS := $(wildcard protos/broker/v1/*.proto)

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

.PHONY: demo
demo: $(READY) ## Watch the whole life of a credential, and a stock MCP client, between real processes
	$(BIN)/credbroker demo
	$(BIN)/credbroker demo mcp

.PHONY: test
test: $(READY) $(READY_MCP1) ## Run every test, on SQLite and PostgreSQL
	$(BIN)/python -m pytest -n auto --dist loadgroup

.PHONY: check
check: $(READY) check-protos ## Check format, style, types, imports, generated code and migrations
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/store/test_migrations.py

.PHONY: check-protos
check-protos: $(READY)
	@rm -rf build/protos && mkdir -p build/protos
	@$(MAKE) --silent protos INTO=build/protos
	@diff -r -x __pycache__ -x __init__.py build/protos/broker/v1 broker/v1 || \
		{ echo "broker/v1 is not what protos/ says: run \`make protos\`" >&2; exit 1; }

.PHONY: protos
protos: INTO ?= .
protos: $(READY) ## Regenerate broker/v1 from protos/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc --proto_path=protos \
		--python_out=$(INTO) --grpc_python_out=$(INTO) --mypy_out=quiet:$(INTO) --mypy_grpc_out=quiet:$(INTO) $(PROTOS)

.PHONY: bench
bench: $(READY) ## Measure issue, verify and revoke against real daemons
	@for what in issue verify revoke; do $(BIN)/credbroker bench $$what -o json || exit 1; done

.PHONY: lock
lock: PIN := uv pip compile pyproject.toml --universal --python-version 3.11 --upgrade --generate-hashes \
	--no-emit-index-url --no-header --quiet
lock: ## Pin every dependency anew (needs uv)
	$(PIN) --all-extras --group dev --output-file requirements.lock
	$(PIN) --group mcp1 --output-file requirements-mcp1.lock

# Made once, and again when a pin or an entry point changes.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python $(INSTALL) --require-hashes -r requirements.lock
	$(BIN)/python $(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

# For programs that need version 1 of package `mcp`; the tests put ours beside it.
$(READY_MCP1): requirements-mcp1.lock
	$(PYTHON) -m venv --clear $(VENV_MCP1)
	$(VENV_MCP1)/bin/python $(INSTALL) --require-hashes -r requirements-mcp1.lock
	@touch $@
