# make demo: see it work.  make test: run the whole suite.  make docs: the documentation site in site/.
# All set themselves up in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-torch-free check docs tutorial clean
.DELETE_ON_ERROR:

demo: $(VENV)/.local
	$(BIN)/mesa-meanfield fetch
	$(BIN)/mesa-meanfield run

test: $(VENV)/.test check
	-$(BIN)/mesa-meanfield fetch  # without it the tests that need the model are skipped
	$(BIN)/python -m pytest

# What needs no torch, for a second Python: make test-torch-free PYTHON=python3.12 VENV=.venv-3.12
test-torch-free: $(VENV)/.torch-free
	$(BIN)/python -m pytest -m "not torch and not model"

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# Stores the tutorial's outputs anew, after a change of what it shows.
tutorial: $(VENV)/.test
	$(BIN)/python tests/documents.py

$(VENV)/.local: $(VENV)/.made setup.cfg constraints.txt
	@echo "Installing torch, transformers and Mesa into $(VENV) (a few minutes the first time)"
	$(PIP) --editable ".[local]"
	@touch $@

$(VENV)/.test: $(VENV)/.local
	@echo "Installing the test tools"
	$(PIP) --editable ".[local,test,viz]"
	@touch $@

$(VENV)/.torch-free: $(VENV)/.made setup.cfg constraints.txt
	$(PIP) --editable ".[test,viz]"
	@touch $@

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %s; name another by PYTHON=" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	@touch $@

clean:
	rm -rf .venv .venv-* build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
