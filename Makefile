# Two commands matter: `make demo` and `make test`. Both create .venv on first use and are quick afterwards.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
KERNELS := src/singleshot/kernels/*.c
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile --quiet --constraint constraints.txt
# pip compiles everything (two minutes); Python compiles what is imported, once, where it may write that down.
unexport PYTHONDONTWRITEBYTECODE

OLDER := tests/images tests/weights/test_file.py tests/weights/test_torch_file.py tests/runtime/test_backends.py \
  tests/export/test_package.py tests/export/test_readers.py tests/core/test_setting_errors.py \
  tests/prediction/test_*sink*.py tests/prediction/test_video.py tests/test_cli_*.py tests/test_detector.py

.PHONY: help demo test test-all browser test-older test-oldest test-newest check lint types contracts format clean \
  torture torture-faults sanitize audit wheel

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

KILLS ?= 200
torture-faults: $(VENV)/.dev-installed  ## Kill every verb KILLS times, fail the machine under it, share a detector (an hour).
	@PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m torture.kills --kills $(KILLS)
	@PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m torture.faults
	@PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m torture.sharing

sanitize: $(VENV)/.dev-installed  ## Run all C kernels under gcc's sanitizers.
	@PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m torture.sanitize

audit: $(VENV)/.dev-installed  ## Look up known weaknesses of what is installed (needs a connection).
	@$(PIP_INSTALL) pip-audit
	@$(BIN)/python scripts/audit.py

wheel: $(VENV)/.dev-installed  ## Build the wheel twice, and see that both are the same file.
	@$(PIP_INSTALL) build
	@$(BIN)/python scripts/wheel.py

torture: $(VENV)/.dev-installed  ## Give every reader damaged files; MINUTES, SEED, ONLY=NAME and GUIDED=1 say how.
	@PYTHONPATH=tests $(BIN)/python -m torture $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(ONLY),--only '$(ONLY)') $(if $(GUIDED),--guided)

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
