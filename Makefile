# Every target sets itself up on a machine that has Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
AZURITE := azurite@3.37.0
# Its source has the official JSON-Schema-Test-Suite.
JSON_SCHEMA_SUITE := jsonschema==4.26.0
.DEFAULT_GOAL := help

export DAGSTER_DISABLE_TELEMETRY := 1

.PHONY: help install run test test-fast check docs ui bench format clean

help:  ## what the targets do
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=…" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --editable . --group dev
	@command -v npm >/dev/null && npm install --silent --no-audit --no-fund --prefix .venv/azurite $(AZURITE) \
		|| echo "npm is not here, or failed: the tests for Azure will be skipped"
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null \
		|| $(BIN)/playwright install --only-shell chromium >/dev/null 2>&1 \
		|| echo "Chromium is not here, and cannot be had: the tests in the browser will be skipped"
	@$(BIN)/pip download --quiet --no-deps --no-binary jsonschema --dest .venv/json-schema-suite $(JSON_SCHEMA_SUITE) \
		|| echo "the source of $(JSON_SCHEMA_SUITE) cannot be had: its JSON Schema tests will be skipped"
	@touch $@

install: $(INSTALLED)  ## create .venv

vv_exports.yaml: | $(INSTALLED)
	$(BIN)/vv-exports demo

run: $(INSTALLED) vv_exports.yaml  ## run the main job on the demo archive and say where it delivered
	$(BIN)/vv-exports automations run idx_archive review-team
	$(BIN)/vv-exports export index idx_archive --connector conn_export --subpath exports/on-demand --idempotency-key make-run-on-demand
	$(BIN)/vv-exports export index idx_archive --format csv --to downloads/ --idempotency-key make-run-download
	$(BIN)/vv-exports verify conn_export

test: $(INSTALLED)  ## run the tests
	$(BIN)/pytest -n 3 --dist worksteal

test-fast: $(INSTALLED)  ## run the tests without servers, processes and daemons
	$(BIN)/pytest -n 3 --dist worksteal -m "not slow"

check: $(INSTALLED)  ## lint, types, import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(INSTALLED)  ## build the documentation as a site, in site/
	$(BIN)/pip install --quiet --group docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(INSTALLED)  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

ui: $(INSTALLED) vv_exports.yaml  ## start the Dagster UI with its daemon on port 3000
	$(BIN)/vv-exports ui

bench: $(INSTALLED)  ## run the benchmarks, in a quarter of an hour
	$(BIN)/pip install --quiet --group bench
	$(BIN)/python benchmarks/suite.py

clean:  ## remove what the other targets made
	rm -rf .venv .dagster .vv_exports deliveries downloads site vv_exports.yaml
