PYTHON ?= python3
BIN := .venv/bin
export OMP_WAIT_POLICY := PASSIVE
export OPENBLAS_NUM_THREADS := 1

.PHONY: setup demo test test-slow check bench clean

setup: .venv/.installed  ## a virtual environment with everything in it; leaves .venv/bin/soundloom

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup  ## the main job, on sounds Soundloom makes itself: out/report.html
	$(BIN)/soundloom demo -o out

check: setup  ## style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

test: check  ## style, types and all fast tests: two at a time, then those that need the machine for themselves
	$(BIN)/python -m pytest -m "not slow and not alone" -n 2 --dist loadfile
	$(BIN)/python -m pytest -m "alone and not slow"

test-slow: setup  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

bench: setup  ## every figure in docs/benchmarks.md
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv out
