# `make` alone prints what there is. Works with GNU make 3.81, which macOS has.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test up down reset clean check format chaos bench lock install

# python3 when it will do, else the newest that does; override by `make PYTHON=/path/to/python3.13 ...`.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p deploy/preflight.py >/dev/null 2>&1 && echo $$p && exit; done; echo python3)
ARGS ?=
UV ?= uv
PIP := .venv/bin/python -m pip --quiet --disable-pip-version-check
INSTALL := $(PIP) install --root-user-action=ignore

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: .venv/.runtime ## break things and watch them being repaired, in under 4 minutes (ARGS="NAME --keep")
	@.venv/bin/runbook demo $(ARGS)

# With ARGS one of the two may have nothing to run: that is pytest's exit code 5.
test: .venv/.dev ## run the tests, in some 20 minutes on two cores (ARGS="-k reauth")
	@.venv/bin/pytest -m "not chaos and not alone" -n auto --dist loadfile $(ARGS) || [ $$? = 5 ]
	@.venv/bin/pytest -m "not chaos and alone" $(ARGS) || [ $$? = 5 ]

up: .venv/.runtime ## run the embedded stack here until Ctrl-C or `make down`
	@.venv/bin/runbook up $(ARGS)

down: .venv/.runtime ## stop the embedded stack; its data stays
	@.venv/bin/runbook down $(ARGS)

reset: .venv/.runtime ## stop the stack and delete its data; asks first (YES=1 does not)
	@.venv/bin/runbook reset $(if $(YES),--yes) $(ARGS)

# Before .venv goes, since it knows the data folders; without .venv the standard library does.
clean: ## stop the stack, and remove it with its data, .venv and caches, without a trace
	@python=.venv/bin/python; $$python -c "" 2>/dev/null || python="$(PYTHON)"; \
		PYTHONDONTWRITEBYTECODE=1 "$$python" -m starters.embedded.clean
	@rm -rf .venv build ./*.egg-info report.html bench/results.json
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

check: .venv/.dev ## ruff, mypy --strict, the direction of imports, migration drift
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@.venv/bin/runbook db check --fresh

format: .venv/.dev ## let ruff format the code and fix what it can
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

chaos: .venv/.dev ## the full counts: each thing broken on purpose, exactly its check fails
	@.venv/bin/pytest -m "chaos and not alone" -n 2 --dist loadfile $(ARGS) || [ $$? = 5 ]
	@.venv/bin/pytest -m "chaos and alone" $(ARGS) || [ $$? = 5 ]

bench: .venv/.dev ## the benchmarks against their bounds (BENCH=reauth or BENCH=reauth.start runs those)
	@.venv/bin/python -m bench $(BENCH) $(ARGS)

install: .venv/.dev ## make .venv with everything, for an editor

# Without --upgrade (ARGS=--upgrade) only what pyproject.toml newly asks for changes.
LOCK = $(UV) pip compile -q --universal --generate-hashes --python-version 3.11 --no-header \
	pyproject.toml --extra embedded --group build $(ARGS)
lock: ## pin the packages anew in requirements*.txt (needs uv)
	@command -v $(UV) >/dev/null || { echo "uv is needed to pin packages: https://docs.astral.sh/uv/"; exit 1; }
	@$(LOCK) -o requirements.txt
	@$(LOCK) --group dev -c requirements.txt -o requirements-dev.txt

# The stamp is written last, so that an interrupted install is done again.
.venv/.runtime: requirements.txt pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no $(PYTHON), and Python 3.11 to 3.14 is needed."; exit 1; }
	@"$(PYTHON)" deploy/preflight.py
	@rm -f $@
	@$(PIP) --version >/dev/null 2>&1 || { echo "Making .venv with $(PYTHON)."; "$(PYTHON)" -m venv --clear .venv; }
	@echo "Installing the pinned packages into .venv; the first time this takes a minute or two."
	@$(INSTALL) --require-hashes -r requirements.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.txt
	@echo "Installing the pinned development packages into .venv."
	@rm -f $@
	@$(INSTALL) --require-hashes -r requirements-dev.txt
	@touch $@
