# make demo | test | emulate | bench | gpu | lint | format | clean | help
#
# Everything is installed into $(VENV). Python files are used from where they stand (an editable
# install), so a change to them needs nothing; a change under csrc/ recompiles what it touches.

PYTHON ?= python3
VENV ?= .venv
# What the tests compare with. On some platforms the default wheel brings gigabytes of CUDA libraries; an
# index of CPU builds avoids them: make test TORCH="torch==2.13.0 --index-url URL_OF_THAT_INDEX"
TORCH ?= torch==2.13.0
# Further arguments of pytest, as in: make test PYTEST_ARGS="-k svm -x"
PYTEST_ARGS ?=
# One file per run; bench-compare looks at the last two.
ifndef BENCH_JSON
BENCH_JSON := .benchmarks/$(shell date -u +%Y%m%dT%H%M%SZ).json
endif

export PIP_DISABLE_PIP_VERSION_CHECK := 1
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet
# The compiler and its helpers come from $(VENV), not from a throw-away environment, so that the next
# build can go on from the objects of the last one.
INSTALL := $(PIP_INSTALL) --no-build-isolation --editable
NATIVE := CMakeLists.txt setup.py lead_fast/_version.py $(shell find csrc -type f)
CPP = $(shell find csrc tests/emulated_cuda -name '*.cpp' -o -name '*.h' -o -name '*.inl' -o -name '*.cu' -o -name '*.cuh')

.NOTPARALLEL:
.PHONY: help demo test emulate bench bench-compare gpu lint format clean distclean

help:
	@echo 'make demo       build, and rank the models of examples/zoo/digits against their fine-tuned accuracy'
	@echo 'make test       build, and run the tests (installs torch, which they compare with)'
	@echo 'make emulate    run the tests of the CUDA backend on the processor (tests/emulated_cuda)'
	@echo 'make bench      run the benchmarks of bench/; numbers go to $(BENCH_JSON)'
	@echo 'make bench-compare   compare the last two runs; fails where a metric is 25 % slower'
	@echo 'make gpu        build for the GPU that is here, run the tests and benchmarks that need it'
	@echo 'make lint       ruff and clang-format, checking only'
	@echo 'make format     ruff and clang-format, changing files'
	@echo 'make clean      remove what was built (distclean: and $(VENV))'

demo: $(VENV)/.package
	$(BIN)/lead-fast rank examples/zoo/digits --truth examples/zoo/digits/truth.json

test: $(VENV)/.package $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

emulate: $(VENV)/.package $(VENV)/.test
	$(BIN)/python tests/emulated_cuda/run.py $(PYTEST_ARGS)

bench: $(VENV)/.package $(VENV)/.test
	mkdir -p $(dir $(BENCH_JSON))
	$(BIN)/python -m pytest bench --benchmark-json=$(BENCH_JSON) $(PYTEST_ARGS)

bench-compare: $(VENV)/.package
	$(BIN)/python bench/compare.py $(dir $(BENCH_JSON))

gpu: $(VENV)/.package $(VENV)/.test
	PATH="$(abspath $(BIN)):$$PATH" bash bench/gpu.sh

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CPP)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

clean:
	rm -rf build dist *.egg-info lead_fast/*.so $(VENV)/.package
	rm -rf .pytest_cache .ruff_cache .hypothesis
	find lead_fast tests bench -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean
	rm -rf $(VENV)

$(VENV)/.created:
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

# The list under `requires = [` of pyproject.toml, which pip would read for an isolated build.
$(VENV)/.build-tools: pyproject.toml | $(VENV)/.created
	sed -n '/^requires = \[/,/^\]/s/^ *"\(.*\)",$$/\1/p' pyproject.toml > $(VENV)/build-requires.txt
	$(PIP_INSTALL) -r $(VENV)/build-requires.txt
	touch $@

$(VENV)/.package: $(VENV)/.build-tools $(NATIVE)
	$(INSTALL) .
	touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.package
	$(PIP_INSTALL) $(TORCH)
	$(INSTALL) '.[test]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.package
	$(INSTALL) '.[dev]'
	touch $@
