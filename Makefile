# Everything runs in .venv, which these targets make. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
# pip compiles what it installs on one core, tests and all; compileall does it on every core. Not every file is Python 3.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile -e
COMPILE := @$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' .venv/lib || true

.PHONY: start test check bench mutants clean
start: .venv/installed
	$(BIN)/wizloop start

test: .venv/tested
	$(MAKE) check
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# The whole gate but the tests: format, lint, import contracts, types.
check: .venv/tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	@mkdir -p build/types/wizloop
	@for d in loop backends store tui recipes; do ln -sfn ../../../$$d build/types/wizloop/$$d; done
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(INSTALL) .
	$(COMPILE)
	@touch $@

.venv/tested: .venv/bin/python pyproject.toml
	$(INSTALL) '.[test]'
	$(COMPILE)
	@touch $@ .venv/installed

bench: .venv/bin/python pyproject.toml
	$(INSTALL) '.[bench]'
	$(COMPILE)
	$(BIN)/python benchmarks/speed.py

# How many small faults the tests find. Stops after 90 minutes; the same command resumes.
mutants: .venv/tested
	$(BIN)/python benchmarks/mutants.py --minutes 90 --results docs/results.md

clean:
	rm -rf .venv build *.egg-info
