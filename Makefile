# Everything runs from here: `make demo` and `make test` make the environment themselves.
.DEFAULT_GOAL := help
.ONESHELL:
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
# pip compiles nothing, which is two thirds of an installation: Python compiles what is imported, and keeps it unless told not to.
unexport PYTHONDONTWRITEBYTECODE
IMPORTED := ray.data, ray.serve, ray.train.torch, s3fs, scipy.stats, sklearn.ensemble, transformers, raysynth.cli

.PHONY: help demo check test test-all gpu bench clean
help: ## what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/'

.venv/.ready: pyproject.toml constraints.txt
	@set -e
	"$(BIN)/python" -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	"$(BIN)/python" -m pip install -q --upgrade pip
	"$(BIN)/python" -m pip install -q --no-compile -c constraints.txt torch==2.13.0
	"$(BIN)/python" -m pip install -q --no-compile -c constraints.txt -e '.[examples,text,llm,image,onnx,dev]'
	"$(BIN)/python" -c "import $(IMPORTED)"
	touch .venv/.ready

demo: .venv/.ready ## 100,000 synthetic flights on an embedded Ray, checked and published
	@set -e
	"$(BIN)/raysynth" run jobs/recipes/flights.yaml
	"$(BIN)/raysynth" verify runs/flights

check: .venv/.ready ## format, lint, types, floors, unit and contract tests
	@set -e
	"$(BIN)/python" -m ruff format --check .
	"$(BIN)/python" -m ruff check .
	"$(BIN)/python" -m pyright
	"$(BIN)/python" -c "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
	"$(BIN)/python" -m pytest tests/unit tests/contract -n 2 --dist loadfile

test: check ## all of check, and the tests of integration, statistics, browser and cluster (skipped by name without Chromium, or namespaces)
	@set -e
	"$(BIN)/python" -m pytest tests/cluster tests/browser tests/integration tests/statistical -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --durations=25

gpu: .venv/.ready ## the tests that need a GPU (skipped by name without one): training in bfloat16 by NCCL, rows drawn there
	@"$(BIN)/python" -m pytest tests/gpu -m gpu -rs

bench: .venv/.ready ## quality and speed on the folder that RAYSYNTH_DATA names
	@set -e
	"$(BIN)/python" benchmarks/quality.py
	"$(BIN)/python" benchmarks/conditioning.py
	"$(BIN)/python" benchmarks/speed.py
	"$(BIN)/python" benchmarks/evaluate.py
	"$(BIN)/python" benchmarks/serve.py
	"$(BIN)/python" benchmarks/scaling.py
	"$(BIN)/python" benchmarks/fairness.py
	"$(BIN)/python" benchmarks/imputation.py
	"$(BIN)/python" benchmarks/text.py
	"$(BIN)/python" benchmarks/images.py

test-all: check ## everything, the slow tests too
	@"$(BIN)/python" -m pytest tests/integration tests/statistical tests/browser tests/cluster -n 2 --dist loadfile

clean: ## remove the environment
	rm -rf .venv
