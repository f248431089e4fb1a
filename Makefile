# Every target sets up what it needs in .venv, once; PYTHON= chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
DEV := $(VENV)/.dev-$(VERSION)
BENCH := $(VENV)/.bench-$(VERSION)
DOCS := $(VENV)/.docs-$(VERSION)
MEASURE := $(VENV)/.measure-$(VERSION)
DOCS_OUT ?= /tmp/flipjax-docs
CONFIG ?= configs/correlation_grid.py
ARGS ?=
FUZZED := tests/audit/test_damaged_files.py tests/results/test_store.py tests/data/test_images.py tests/training/test_model.py tests/test_stored_files.py

.PHONY: sweep smoke test coverage mutants fuzz lint format bench docs linkcheck clean

sweep: $(DEV)  ## Train the grid on the embedded pool; results in runs/
	$(BIN)/python -m flipjax.sweep --config $(CONFIG) $(ARGS)

smoke: $(DEV)  ## The same on a tiny grid, in half a minute
	$(BIN)/python -m flipjax.sweep --config configs/smoke.py $(ARGS)

test: $(DEV)  ## The whole suite
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

coverage: $(MEASURE)  ## The share of flipjax's statements that the suite runs, compiled as for users
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest -n 2 --dist loadfile --cov=flipjax --cov-context=test --cov-report= $(ARGS)
	@$(BIN)/python -m coverage report --format=total | sed 's/.*/coverage: & % of statements/'

mutants: $(MEASURE)  ## The share of faults that the suite notices, in seeded samples; ARGS="--sample 200 --seed 7 metrics"
	@[ -f .coverage ] || $(MAKE) coverage ARGS=
	$(BIN)/python .ci/mutants.py $(ARGS)

fuzz: $(DEV)  ## The suite's damaged files of every kind that flipjax writes or reads, many more of them
	FLIPJAX_FUZZ=$(or $(FUZZ),5000) $(BIN)/python -m pytest $(FUZZED) -k test_a_damaged_file $(ARGS)

lint: $(DEV)  ## Style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright flipjax

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BENCH)  ## Throughput and inference against PyTorch, and the speed of the metrics
	$(BIN)/python sweeps/benchmarks/throughput/bench.py $(ARGS)
	$(BIN)/python sweeps/benchmarks/throughput/inference.py
	$(BIN)/python sweeps/benchmarks/metrics_speed/bench.py

docs: $(DOCS)  ## The documentation, in $(DOCS_OUT)/html; warnings are errors
	$(BIN)/python .ci/docs/collect.py $(DOCS_OUT)/pages
	$(BIN)/python -m sphinx -W --keep-going -q -b html $(DOCS_OUT)/pages $(DOCS_OUT)/html
	@echo "make: $(DOCS_OUT)/html/index.html"

linkcheck: docs  ## Ask for every address that the documentation names
	$(BIN)/python -m sphinx -q -b linkcheck $(DOCS_OUT)/pages $(DOCS_OUT)/links

clean:  ## Remove what make made
	@if [ -f $(VENV)/.made-by-make ]; then rm -rf $(VENV); fi
	rm -rf build dist .coverage

# The stamp carries the version: another PYTHON= makes the environment anew, but only one that make made.
$(DEV): pyproject.toml
	@if [ -d $(VENV) ] && [ ! -f $(VENV)/.made-by-make ]; then \
	  if [ "$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" != "$(VERSION)" ]; then \
	    echo "make: $(VENV) is yours and not of Python $(VERSION): pass VENV=.venv-make or PYTHON=$(BIN)/python" >&2; exit 2; fi; \
	  echo "make: installing flipjax into your $(VENV), which stays as it is otherwise"; \
	elif [ ! -f $(DEV) ]; then \
	  echo "make: a new environment in $(VENV), Python $(VERSION)"; \
	  $(PYTHON) -m venv --clear $(VENV) && touch $(VENV)/.made-by-make; fi
	@echo "make: installing flipjax and what it needs (about two minutes the first time)"
	@$(PYTHON) -m pip --python $(VENV) install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(DEV)

$(BENCH): $(DEV)
	@echo "make: installing PyTorch, which the benchmarks compare with"
	@$(PYTHON) -m pip --python $(VENV) install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@touch $(BENCH)

$(MEASURE): $(DEV)
	@echo "make: installing coverage"
	@$(PYTHON) -m pip --python $(VENV) install --quiet --disable-pip-version-check 'pytest-cov>=6'
	@touch $(MEASURE)

$(DOCS): $(DEV)
	@echo "make: installing Sphinx"
	@$(PYTHON) -m pip --python $(VENV) install --quiet --disable-pip-version-check --editable '.[dev,docs]'
	@touch $(DOCS)
