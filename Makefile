# Everything works from a fresh machine with Python 3.11 or later: targets set up .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
# Files of tests that run at once.
JOBS ?= 2
READY := .venv/.ready

.PHONY: demo test lint bench clean

demo: $(READY)  ## plan, deploy and verify a real trained model; predicted vs measured
	$(BIN)/python benchmarks/demo.py

test: $(READY)  ## the whole test suite
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

lint: $(READY)  ## style, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## start-up times; benchmarks/README.md has the rest, one command a figure
	$(BIN)/python benchmarks/startup.py

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[serve,fused,dev]"
	touch $@
