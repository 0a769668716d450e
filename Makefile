# make demo   from nothing to the rubric of a request
# make test   lint, types and tests, as CI runs them

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
REQUEST ?= Explain to a ten-year-old how a rainbow forms. Use fewer than 100 words and end with a question.

.PHONY: demo test lint test-fast test-reference test-referees demo-bundle gpu gpu-pack clean

demo: .venv/installed-demo
	$(BIN)/rubricrm export onnx models/demo/checkpoint -o build/demo-bundle --force
	$(BIN)/rubricrm generate -m build/demo-bundle "$(REQUEST)"

test: lint test-fast

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-fast: .venv/installed-test
	$(BIN)/python -m pytest -q

# Against torch, transformers, optimum-onnx and onnxruntime-genai.
test-reference: .venv/installed-reference
	$(BIN)/python -m pytest -q -m reference

# Directories for TensorRT against nvidia-modelopt and TensorRT Edge-LLM's exporter, on the CPU.
test-referees: .venv/installed-test .venv-referees/installed
	RUBRICRM_REFEREES=$(CURDIR)/.venv-referees/bin/python $(BIN)/python -m pytest -q -m referee

# The bundle that ships inside the package: run after the demo checkpoint or the graph changed, and commit it.
demo-bundle: .venv/installed-demo
	$(BIN)/rubricrm export onnx models/demo/checkpoint -o sdk/python/rubricrm/demo_bundle --force

# What only a GPU can check, under 10 minutes; without a GPU a rehearsal on the CPU. Commit build/gpu/gpu-CARD.* in
# benchmarks/results. For a machine without network: make gpu-pack, carry build/gpu-pack there, bash run.sh RESULTS.
gpu: .venv/installed-test
	$(BIN)/python benchmarks/gpu/check.py build/gpu

gpu-pack: .venv/installed-test
	rm -rf build/gpu-pack
	$(BIN)/python benchmarks/gpu/pack.py build/gpu-pack

clean:
	rm -rf .venv .venv-referees build dist *.egg-info

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or later is needed")'
	$(PYTHON) -m venv .venv

.venv/installed-demo: .venv/bin/python pyproject.toml
	$(PIP) install -e '.[cpu,export]'
	touch $@

.venv/installed-test: .venv/installed-demo
	$(PIP) install -e '.[cpu,export,bench,dev]'
	touch $@

.venv/installed-reference: .venv/installed-test
	$(PIP) install -e '.[cpu,export,bench,dev,reference,optimum]'
	touch $@

# Their pins clash with ours: Edge-LLM's exporter wants transformers 5.14. modelopt imports requests without asking for it.
.venv-referees/installed: Makefile
	$(PYTHON) -m venv .venv-referees
	.venv-referees/bin/python -m pip --disable-pip-version-check --quiet install torch==2.13.0
	.venv-referees/bin/python -m pip --disable-pip-version-check --quiet install \
		'tensorrt-edgellm[export]==0.11.0' nvidia-modelopt==0.45.0 requests
	touch $@
