# Two commands matter: `make demo` and `make test`. Both create .venv on first use and are quick afterwards.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
KERNELS := src/singleshot/kernels/*.c
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

OLDER := tests/images tests/weights/test_file.py tests/weights/test_torch_file.py tests/runtime/test_backends.py \
  tests/export/test_package.py tests/export/test_readers.py tests/core/test_setting_errors.py \
  tests/prediction/test_*sink*.py tests/prediction/test_video.py tests/test_cli_*.py tests/test_detector.py

.PHONY: help demo test test-all browser test-older test-oldest test-newest check lint types contracts format clean

help:  ## List the commands.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.demo-installed  ## Install, then detect in photos, learn new classes, write a report.
	@$(BIN)/singleshot demo

test: $(VENV)/.dev-installed  ## Install what the tests need and run them on all cores.
	@echo "Running the tests (those that compare with other systems skip without the reference data)."
	@$(BIN)/python -m pytest -n auto --dist worksteal -m "not heavy" --ignore tests/browser

test-all: $(VENV)/.dev-installed  ## The same with the heaviest tests: trainings of large networks.
	@$(BIN)/python -m pytest -n auto --dist worksteal --ignore tests/browser

browser: $(VENV)/.dev-installed  ## Open all pages in Chromium; installs it (Debian) and Playwright, and skips where it cannot.
	@$(PIP_INSTALL) playwright || echo "Playwright cannot be installed here: the tests of the pages skip."
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	  timeout 300 sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium' >/dev/null 2>&1 || \
	  echo "Chromium cannot be installed here: the tests of the pages skip."
	@$(BIN)/python -m pytest tests/browser -n 2 --dist loadfile -rs || [ $$? = 5 ]  # 5: all skipped

test-oldest:  ## Run the tests with the oldest versions that are allowed (an environment of its own, 5 GB).
	@$(PYTHON) scripts/versions.py oldest $(if $(TORCH),--torch $(TORCH)) -- -n auto $(TESTS)

test-older: $(VENV)/.dev-installed  ## The oldest versions (but of PyTorch and NNCF) over .venv, and the tests nearest to them.
	@$(PYTHON) scripts/versions.py oldest --over $(VENV) -- -n auto --dist worksteal -m "not slow and not heavy" \
	  -k "not int8" $(OLDER)

test-newest:  ## Run the tests with the newest versions.
	@$(PYTHON) scripts/versions.py newest -- -n auto $(TESTS)

check: lint types contracts  ## Lint, types and import contracts.

lint: $(VENV)/.dev-installed  ## Style and format: ruff for Python, clang-format for C.
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/clang-format --dry-run -Werror $(KERNELS)

types: $(VENV)/.dev-installed  ## mypy, strict.
	@$(BIN)/mypy

contracts: $(VENV)/.dev-installed  ## Imports go downward only.
	@$(BIN)/lint-imports

format: $(VENV)/.dev-installed  ## Rewrite the code in the project's format.
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format . ; $(BIN)/clang-format -i $(KERNELS)

clean:  ## Remove the environment and what the demo wrote.
	rm -rf $(VENV) demo

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "singleshot needs Python 3.11 or newer; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Creating $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

# torch goes first and alone: later resolves then keep the pinned build.
$(VENV)/.torch-installed: constraints.txt | $(BIN)/python
	@echo "Installing torch (once; a few minutes on a slow connection) ..."
	@$(PIP_INSTALL) torch
	@touch $@

$(VENV)/.demo-installed: pyproject.toml constraints.txt $(VENV)/.torch-installed
	@echo "Installing singleshot and what the demo needs ..."
	@$(PIP_INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.dev-installed: pyproject.toml constraints.txt $(VENV)/.torch-installed
	@echo "Installing singleshot and what its tests need ..."
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $@
