# `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
VENV_MCP1 := .venv-mcp1
READY_MCP1 := $(VENV_MCP1)/ready
PIP := -m pip --disable-pip-version-check
# Two for each processor: most of what the tests do is to wait, for processes, clocks and windows of freshness.
WORKERS := $(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN))
PROTOS := $(wildcard protos/broker/v1/*.proto)

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

.PHONY: demo
demo: $(READY) ## Watch the whole life of a credential, and a stock MCP client, between real processes
	$(BIN)/credbroker demo
	$(BIN)/credbroker demo mcp

.PHONY: test
test: $(READY) $(READY_MCP1) ## Run every test, on SQLite and PostgreSQL
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

.PHONY: test-long
test-long: $(READY) ## Break brokers for an hour: every fault, kill -9 at each step and 150 other instants, 58 recorded histories
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "long or not long" tests/faults tests/history tests/laws tests/planted tests/upgrades

# What takes values and gives values: every branch has a test.
PURE := model identity intent policy credential audit lease
PURE_FILES := $(addprefix revocation/,barrier closing freshness peers unrecorded)
FLOOR := 93
EMPTY :=
COMMA := ,

.PHONY: coverage
coverage: $(READY) $(READY_MCP1) ## Measure which branches no test takes: all in the pure rooms and lease, a floor elsewhere
	rm -f .coverage .coverage.*
	$(BIN)/python -m coverage run -m pytest -n $(WORKERS) --dist loadgroup
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --fail-under=100 \
		--include='$(subst $(EMPTY) $(EMPTY),$(COMMA),$(PURE:%=broker/%/*) $(PURE_FILES:%=broker/%.py))'
	$(BIN)/python -m coverage report --fail-under=$(FLOOR)

# The first of each version: of those that pyenv keeps, and of those on the path (but for pyenv's shims, which may lead nowhere).
FOLDERS = $(filter-out %/shims,$(subst :, ,$(PATH)))
PYTHONS = $(foreach minor,11 12 13 14 15,$(firstword $(wildcard \
	$(HOME)/.pyenv/versions/3.$(minor).*/bin/python3.$(minor) $(FOLDERS:%=%/python3.$(minor)))))

.PHONY: test-all-pythons
test-all-pythons: ## Run the unit tests on every Python from 3.11 on that is here
	@for python in $(PYTHONS); do \
		$(MAKE) --no-print-directory test-units PYTHON=$$python VENV=build/$$(basename $$python) || exit 1; \
	done

.PHONY: test-units
test-units: $(READY) ## Run the unit tests
	$(BIN)/python --version
	$(BIN)/python -m pytest -q -n $(WORKERS) tests/unit

.PHONY: audit
audit: ## Look the locked versions up among known vulnerabilities (needs uv, and the data's host)
	uvx pip-audit --strict --disable-pip --require-hashes -r requirements.lock
	uvx pip-audit --strict --disable-pip --require-hashes -r requirements-mcp1.lock

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
bench: $(READY) ## Measure issue, renew, verify and revoke against real daemons
	@for what in issue renew verify revoke; do $(BIN)/credbroker bench $$what -o json || exit 1; done

.PHONY: lock
lock: PIN := uv pip compile pyproject.toml --universal --python-version 3.11 --upgrade --generate-hashes \
	--no-emit-index-url --no-header --quiet
lock: ## Pin every dependency anew (needs uv)
	$(PIN) --all-extras --group dev --output-file requirements.lock
	$(PIN) --group mcp1 --output-file requirements-mcp1.lock

# The lock says all there is to install: whoever resolves it again finds what was released since. Nothing is built, as a
# build would fetch its tools from outside the lock.
LOCKED = -u -m pip install --disable-pip-version-check --progress-bar off --no-deps --only-binary :all: --require-hashes

# $(call install,ENVIRONMENT,LOCK): a line for every ten packages, and failure unless pip comes to its end.
install = { $(1)/bin/python $(LOCKED) -r $(2) && echo installed; } | { count=0; while read -r word package rest; do \
	case $$word in \
	Ignoring|Collecting) count=$$((count + 1)); [ $$((count % 10)) -ne 0 ] || echo "  $$count of $(call size,$(2))  $$package" ;; \
	Installing) echo "  all at hand: installing" ;; \
	installed) exit 0 ;; \
	esac; done; exit 1; }
size = $(shell grep -c '^[^ \#].*==' $(1))

MODERN = $(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("Python 3.11 or later is needed, and $(PYTHON) is " \
	+ sys.version.split()[0] + ": name another, as in `make demo PYTHON=python3.12`")'

# $(call fits,ENVIRONMENT,LOCK)
fits = $(1)/bin/python $(PIP) check || { echo "$(2) does not fit together, see above: renew it with \`make lock\`" >&2; exit 1; }

# Made once, and again when a pin or an entry point changes. What was interrupted is not ready.
$(READY): requirements.lock pyproject.toml
	@rm -f $@
	@$(MODERN)
	$(PYTHON) -m venv --clear $(VENV)
	@echo "installing $(call size,$<) packages into $(VENV)"
	@$(call install,$(VENV),requirements.lock)
	$(BIN)/python $(PIP) install --quiet --no-deps --no-build-isolation -e .
	@$(call fits,$(VENV),requirements.lock)
	@touch $@

# For programs that need version 1 of package `mcp`; the tests put ours beside it.
$(READY_MCP1): requirements-mcp1.lock
	@rm -f $@
	@$(MODERN)
	$(PYTHON) -m venv --clear $(VENV_MCP1)
	@echo "installing $(call size,$<) packages into $(VENV_MCP1)"
	@$(call install,$(VENV_MCP1),requirements-mcp1.lock)
	@$(call fits,$(VENV_MCP1),requirements-mcp1.lock)
	@touch $@
