# Every target sets up what it needs in .venv, once; PYTHON= chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
DEV := $(VENV)/.dev-$(VERSION)
BENCH := $(VENV)/.bench-$(VERSION)
CONFIG ?= configs/correlation_grid.py
ARGS ?=

.PHONY: sweep smoke test lint format bench clean

sweep: $(DEV)  ## Train the grid on the embedded pool; results in runs/
	$(BIN)/python -m flipjax.sweep --config $(CONFIG) $(ARGS)

smoke: $(DEV)  ## The same in half a minute, on a tiny grid
	$(BIN)/python -m flipjax.sweep --config configs/smoke.py $(ARGS)

test: $(DEV)  ## The whole suite
	$(BIN)/python -m pytest $(ARGS)

lint: $(DEV)  ## Style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright flipjax

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BENCH)  ## Throughput and inference against PyTorch, and the speed of the metrics
	$(BIN)/python sweeps/throughput/bench.py $(ARGS)
	$(BIN)/python sweeps/throughput/inference.py
	$(BIN)/python sweeps/metrics_speed/bench.py

clean:
	rm -rf $(VENV) build *.egg-info

# The stamp carries the version: another PYTHON= makes the environment anew.
$(DEV): pyproject.toml
	test -f $(DEV) || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(DEV)

$(BENCH): $(DEV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	touch $(BENCH)
