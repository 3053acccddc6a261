# Everything runs in .venv, which these targets make. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
# pip compiles what it installs on one core, tests and all; compileall does it on every core. Not every file is Python 3.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile
# What the package consists of. The checkers find it through links, since its root is the repository.
PACKAGE := __init__.py __main__.py plugins.py regular_file.py py.typed loop backends store tui recipes console
COMPILE := @$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' .venv/lib || true
# Exact versions, which `make lock` finds anew.
PINNED := --constraint constraints.txt
PYTEST := -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Otherwise each of the many processes that tests start compiles the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: start test units check imports links types newest lock long long-tests bench real mutants docs clean
start: .venv/installed
	$(BIN)/wizloop start

test: .venv/tested
	$(MAKE) --no-print-directory --jobs 2 check units

# One thread a worker: those of two would wait for each other.
units: .venv/tested
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST)

# The whole gate but the tests: format, lint, import contracts, types.
check: .venv/tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(MAKE) --no-print-directory imports types

imports: .venv/tested links
	PYTHONPATH=build/tree $(BIN)/lint-imports

links:
	@mkdir -p build/tree/wizloop
	@for f in $(PACKAGE); do ln -sfn ../../../$$f build/tree/wizloop/$$f; done

types: .venv/tested links
	$(BIN)/mypy

# The tests on the newest versions that the ranges of pyproject.toml allow. What a library deprecates is reported, not an
# error: in `make test`, on versions that stay, it is one.
newest: NEWEST := .venv-newest/bin/python
newest:
	test -x $(NEWEST) || $(PYTHON) -m venv .venv-newest
	$(NEWEST) -m pip install --quiet --upgrade --upgrade-strategy eager -e '.[test]'
	$(NEWEST) -m pip freeze --exclude-editable
	$(NEWEST) $(PYTEST) -W default::DeprecationWarning -W default::PendingDeprecationWarning -W default::FutureWarning

# Find the versions anew that `make start` and `make test` install: one file for Linux and macOS, from Python 3.11 on.
lock: build/lock-venv/bin/uv
	$< pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade --quiet \
	  --no-annotate --custom-compile-command 'make lock' --output-file constraints.txt

build/lock-venv/bin/uv:
	$(PYTHON) -m venv build/lock-venv
	build/lock-venv/bin/python -m pip install --quiet uv

.venv/bin/python:
	$(PYTHON) -m venv .venv

# A machine for which a pinned version has no wheel still gets its night.
.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) $(PINNED) -e . || { \
	  echo "warning: constraints.txt does not resolve here: installing the newest versions that pyproject.toml allows" >&2; \
	  $(INSTALL) -e .; }
	$(COMPILE)
	@touch $@

.venv/tested: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) $(PINNED) -e '.[test]'
	$(COMPILE)
	@touch $@ .venv/installed

# What takes longer than the gate.
long: long-tests mutants bench

# The tests that `make test` leaves out: every architecture on both backends.
long-tests: .venv/tested
	$(BIN)/python $(PYTEST) -m long

bench: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) $(PINNED) -e '.[bench]'
	$(COMPILE)
	$(BIN)/python benchmarks/speed.py

# A small night on a real pretrained guard, fetched once; it prints its rounds and its time. The same command resumes.
real: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) $(PINNED) -e '.[bench]'
	$(COMPILE)
	$(BIN)/python benchmarks/real.py night

# How many small faults the tests find. Stops after 90 minutes; the same command resumes.
mutants: .venv/tested
	$(BIN)/python benchmarks/mutants.py --minutes 90 --results docs/results.md

# The documentation site, in build/site. A warning is an error.
docs: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) $(PINNED) -e '.[docs]'
	$(BIN)/zensical build --strict --clean

clean:
	rm -rf .venv .venv-newest build *.egg-info
