# `make demo` and `make test` make their virtual environment if there is none. Other builds of torch (CUDA, ROCm):
#   make TORCH=torch test          or          make TORCH="torch --index-url URL" test
PYTHON ?= python3
VENV ?= .venv
# The CPU build must be there before anything that needs torch, which would bring the CUDA build.
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
PARALLEL ?= -n auto --maxprocesses 4 --dist loadfile
READY := $(VENV)/.ready

.PHONY: demo test check slow clean

demo: $(READY)
	$(BIN)/python experiments/acc/run.py --out run-demo  # the committed results stay as they are

test: check
	$(BIN)/python -m pytest -q -m "not slow" $(PARALLEL)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

slow: $(READY)
	HYPOTHESIS_PROFILE=full $(BIN)/python -m pytest -q $(PARALLEL)

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
