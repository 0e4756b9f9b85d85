# Everything works on a fresh machine with python3 and make: each target sets up what it needs first.
PY := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help setup quickstart run test test-deep check fix golden clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.runtime: pyproject.toml constraints.txt scripts/setup
	@scripts/setup runtime

.venv/.dev: pyproject.toml constraints.txt scripts/setup
	@scripts/setup dev

setup: .venv/.dev ## virtual environment, with what the tests need

quickstart: .venv/.runtime ## the tour: an organization, two policies, real backups, a compared restore
	@.venv/bin/holdfast quickstart $(ARGS)

run: .venv/.runtime ## a server with a demonstration organization, kept running
	@.venv/bin/holdfast quickstart --keep --port 8420 $(ARGS)

test: .venv/.dev ## the test suite, under 15 minutes
	@$(PY) -m pytest -n 2 -m "not deep" $(ARGS)

test-deep: .venv/.dev ## everything, also what takes hours
	@HYPOTHESIS_PROFILE=deep $(PY) -m pytest -n 2 --timeout 7200 $(ARGS)

check: .venv/.dev ## format, lint, spelling, types, layers
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/codespell README.md CONTRIBUTING.md SECURITY.md docs src tests bench changes
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache

fix: .venv/.dev ## what a machine can mend
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

golden: .venv/.dev ## the data directory of this release, frozen for later ones to open
	@$(PY) -m tests.golden.make_data_directory

clean: ## remove the virtual environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
