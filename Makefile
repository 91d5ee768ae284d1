# What a user runs: make demo, make test. What a developer runs besides: make setup, lint, docs.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install
TESTS  := $(BIN)/python -m pytest -n 2 --durations 15

# Of make random: programs, the first one's seed, configurations.
N       ?= 300
SEED    ?= 0
CONFIGS ?= 8

.PHONY: help setup demo test test-full random formal fit fpga-report lint docs clean

help:
	@echo "make demo       train, compile and run a classifier on the emitted Verilog"
	@echo "make test       the default tests, some minutes"
	@echo "make test-full  the tests that make test leaves out, proofs and planted bugs among them"
	@echo "make random     random programs on model and Verilog; N=300 SEED=0 CONFIGS=8"
	@echo "make fit        what systolith plan knows, from builds, into docs/boards.md; resumable"
	@echo "make fpga-report every board with three seeds, into docs/boards.md; hours, resumable"
	@echo "make formal     the proofs, and that each fails where it must; some minutes"
	@echo "make setup      everything a developer needs, in $(VENV)"
	@echo "make lint       ruff and pyright"
	@echo "make docs       write docs/commands.md anew"
	@echo "make clean      remove what was built; $(VENV) stays"

# One stamp for what the demo needs, one for what developers need.
$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "PYTHON must be 3.11 or newer, not $$($(PYTHON) --version)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/demo-installed: pyproject.toml | $(VENV)/made
	$(PIP) --editable '.[sim,demo]'
	@touch $@

$(VENV)/dev-installed: pyproject.toml | $(VENV)/made
	$(PIP) --editable '.[dev]'
	@touch $(VENV)/demo-installed $@

setup: $(VENV)/dev-installed

demo: $(VENV)/demo-installed
	$(BIN)/systolith demo

test: setup
	$(TESTS) -m "not full"

test-full: setup
	$(TESTS) -m full

random: setup
	$(BIN)/python -m systolith_sim.random_programs --count $(N) --seed $(SEED) --configs $(CONFIGS)

formal: setup
	$(BIN)/python tests/formal/run.py --planted --jobs 2

fit: setup
	$(BIN)/python -m systolith_boards.fit --document docs/boards.md

fpga-report: setup
	$(BIN)/python -m systolith_boards.report --document docs/boards.md

lint: setup
	$(BIN)/ruff check .
	$(BIN)/pyright

docs: setup
	$(BIN)/python -m systolith.cli.manual docs/commands.md

clean:
	rm -rf build dist .pytest_cache .ruff_cache
	find hw sw sim boards tests examples -name __pycache__ -prune -exec rm -rf {} +
