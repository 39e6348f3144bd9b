# Each target installs what it needs: uv into .tools, the locked environment into .venv, the load
# generators into .tools/bin. Assumed is only a Python from 3.10 to 3.13; Go is used where it is.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.13.9
UV := .tools/uv/bin/uv
PYTEST_ARGUMENTS ?=
SECONDS_TO_FUZZ := $(if $(filter environment command,$(origin SECONDS)),$(SECONDS),60)
PROTOCOL ?= grpc
CLUSTER ?= shared

export PATH := $(CURDIR)/.tools/bin:$(CURDIR)/.venv/bin:$(PATH)
export TF_CPP_MIN_LOG_LEVEL ?= 3
export PYTHONDONTWRITEBYTECODE = 1

.DEFAULT_GOAL := help
.PHONY: help demo demo-capacity demo-sweep test lint compile describe docs tools fuzz format clean environment

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: environment tools  ## train, serve, load and judge two candidates on this machine (PROTOCOL=grpc|http)
	model-load-test demo --protocol $(PROTOCOL) --output build/demo

demo-capacity: environment tools  ## how much two servers can take, and which of them more
	model-load-test capacity --demo --output build/demo-capacity

demo-sweep: environment tools  ## which way of batching is best for an embedded server, and what it costs
	model-load-test sweep --demo --output build/demo-sweep

test: environment tools  ## all tests that can run here; those that cannot say why
	pytest $(PYTEST_ARGUMENTS)

.PHONY: images test-cluster
test-cluster: environment tools  ## tests on the cluster of KUBECONFIG (CLUSTER=disposable: also those that drain nodes)
	@test -n "$(KUBECONFIG)" || { echo "KUBECONFIG names no cluster: see docs/testing-on-a-cluster.md"; exit 1; }
	MODEL_LOAD_TEST_CLUSTER=$(CLUSTER) pytest -m cluster $(PYTEST_ARGUMENTS)

# TFX pins what this project needs newer, so its tests have an environment of their own, made by uv without
# the project's settings. TFX 1.21 needs glibc 2.39; TFX 1.16 has wheels for Python 3.10 only where glibc is older.
GLIBC := $(lastword $(shell getconf GNU_LIBC_VERSION 2>/dev/null))
TFX_VERSION ?= $(if $(filter 2.39,$(firstword $(sort 2.39 $(GLIBC)))),1.21.0,1.16.0)
TFX_SERIES := $(if $(filter 1.16.%,$(TFX_VERSION)),3.10,3.11)
TFX_PYTHON ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/$(TFX_SERIES).*/bin/python3) $(TFX_SERIES))
TFX := build/tfx-$(TFX_VERSION)

.PHONY: test-tfx
test-tfx: environment tools $(TFX)/installed  ## tests of the TFX component and the graft, with TFX (TFX_VERSION=1.16.0|1.21.0)
	$(TFX)/bin/python -m pytest --timeout 1800 tests/tfx $(PYTEST_ARGUMENTS)

$(TFX)/installed: tests/tfx/requirements-$(TFX_VERSION).txt $(UV)
	$(UV) venv --no-config --quiet --allow-existing --python $(TFX_PYTHON) $(TFX)
	$(UV) pip install --no-config --system-certs --quiet --python $(TFX)/bin/python --requirement $<
	$(UV) pip install --no-config --system-certs --quiet --python $(TFX)/bin/python --no-deps --editable .
	@touch $@

.PHONY: test-matrix
test-matrix: environment  ## compile everything with the lowest to the newest KFP, on each Python from 3.10 to 3.13 that is here
	MODEL_LOAD_TEST_MATRIX=whole pytest tests/compile/test_matrix.py $(PYTEST_ARGUMENTS)

images: tools  ## both images as localhost/model-load-test/NAME:VERSION (BASE=IMAGE, GENERATORS=FOLDER)
	images/build.sh

lint: environment build/source  ## format, lint, types (strict), import contracts
	ruff format --check .
	ruff check .
	mypy -p model_load_test
	PYTHONPATH=build/source lint-imports

compile: environment  ## all pipelines as YAML into build/compile (TTL_SECONDS=N, DEADLINE_SECONDS=N: of runs in Kubeflow)
	python -m model_load_test.pipelines.compiling build/compile $(TTL_SECONDS:%=--ttl-seconds %) $(DEADLINE_SECONDS:%=--deadline-seconds %)

describe: environment  ## the READMEs of rooms and pipelines, from their interfaces
	python -m model_load_test.pipelines.describing

docs: environment build/source  ## the documentation site, strictly, into build/site
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

.PHONY: screenshots
screenshots: demo demo-capacity  ## the pictures of the documentation, anew from both demos (needs Chromium)
	python docs/make_screenshots.py

tools: environment  ## ghz and vegeta into .tools/bin
	@python images/load_test/install_generators.py --into .tools/bin

fuzz: environment  ## coverage-guided fuzzing of the readers (SECONDS=60)
	python tests/fuzz/fuzz_readers.py --seconds $(SECONDS_TO_FUZZ)

format: environment  ## rewrite the code in the house format
	ruff format .
	ruff check --fix .

clean:  ## remove what the targets above made
	rm -rf build .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info

environment: .venv/installed

.venv/installed: pyproject.toml uv.lock $(UV)
	$(UV) sync --locked --all-extras --python $(PYTHON) --quiet
	@touch $@

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
		{ echo "PYTHON=$(PYTHON) is not a Python from 3.10 to 3.13; name one: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .tools/uv
	.tools/uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# The packages live in components/ and pipelines/; type checker and import linter see them by their import names.
build/source:
	@mkdir -p build/source/model_load_test
	@ln -sfn ../../../components build/source/model_load_test/components
	@ln -sfn ../../../pipelines build/source/model_load_test/pipelines
