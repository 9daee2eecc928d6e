# Two commands do everything: `make bench` runs the quick suite and names its report, `make test` runs every check.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Tests start thousands of Python processes: what they import is compiled once, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: bench test lint types proto reference suites figures clean

bench: $(READY)
	$(BIN)/wirebench run quick --report

test: lint types
	$(BIN)/pytest -n 2

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

# The marker is written last, so an interrupted installation starts again. In the mode "compat" the checkout is a line of
# a .pth file; otherwise each process of a trial imports setuptools' finder first, which takes longer than Python's start.
$(READY): pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "wirebench needs Python 3.11 or newer; name one with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --config-settings editable_mode=compat --editable .
	touch $@

# After a change of the interface; what it makes is checked in.
proto: $(READY)
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. bench/wire/wirebench.proto

# The published run: every claim in its quick mode, then every suite, an hour and a half in all. What is there is kept:
# claims go on where they were interrupted, a suite begins anew. For another run remove what is to be measured.
REFERENCE := results/reference
SUITES    := quick https stacks executions proxies protocols patterns brokers
# All scenarios of each suite. Where these are many they get fewer and shorter rounds than the suite's own, as the command
# in each file says.
SHORT      := --rounds 3 --warmup 100ms --duration 300ms
stacks     := $(SHORT)
executions := $(SHORT)
protocols  := $(SHORT)
patterns   := --rounds 3 --warmup 100ms

# Exit status 1 of claims says that a verdict has changed: no reason to measure no suites.
reference: $(READY)
	$(BIN)/wirebench claims --quick --seed 1 --out $(REFERENCE)/claims || test $$? -eq 1
	$(MAKE) -k suites

suites: $(SUITES:%=$(REFERENCE)/suites/%.json.gz)

# The file is there only when the suite has ended; what an interrupted one has measured lies in results/runs. Exit status 3
# says that a trial failed, or that none is free of grave doubts: the file says so of each.
$(REFERENCE)/suites/%.json.gz: | $(READY)
	mkdir -p $(@D)
	$(BIN)/wirebench run $* $($*) --seed 1 --json $(@:.gz=) || test $$? -eq 3
	gzip -9n $(@:.gz=)

# README's pictures, from the reference run.
figures: $(READY)
	$(BIN)/python -m analysis.report.figures $(REFERENCE)/claims $(REFERENCE)/figures

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
