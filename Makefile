# Everything is set up by the first call and reused by the next: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two processes of one thread each take half the time of one process: most tests compute little.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2
# make test COVER=--cov also says which lines and branches the tests reach, and fails below the floor
# in pyproject.toml. On Python 3.11 it takes 1.3 to 1.8 times as long.
COVER ?=

.PHONY: demo test test-slow lint samples clean

demo: $(VENV)/.installed  ## fine-tune sentiment on the shipped sample; prints the report's path and the scores
	$(BIN)/python cli.py finetune sentiment

test: $(VENV)/.installed-dev  ## the tests, without the long ones
	$(PYTEST) --dist loadfile -m "not slow" $(COVER)

test-slow: $(VENV)/.installed-dev  ## the long tests
	$(PYTEST) -m slow

lint: $(VENV)/.installed-dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

samples:  ## write samples/ again
	$(PYTHON) samples/make.py

clean:  ## remove the environment; outputs stay
	rm -rf $(VENV)

# transformers 5.24 needs Python 3.11; torch 2.13 is not tried here beyond 3.13.
CHECK := import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("Python 3.11 to 3.13 is needed, not %d.%d: make PYTHON=python3.12 ..." % v)

$(BIN)/python:
	@$(PYTHON) -c '$(CHECK)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
