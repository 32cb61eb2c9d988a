# Thin targets; each line is one that a person could type.  `make` alone lists them.
#
# Everything a target needs goes into $(VENV); nothing is installed on the machine (make hil says which Debian
# packages it wants, .ci/run installs them).

PYTHON  ?= python3
VENV    ?= build/venv
BIN     := $(VENV)/bin
ARCH    ?= all
OUT     ?= build/hil
STEPS   ?= 1000000
SOURCES := pyproject.toml $(shell find pyvfio backends fixtures tools -type f -not -path '*/__pycache__/*')

.PHONY: help demo test sweep hil bench lint docs clean

help:
	@echo "make demo    the main job on the software machine, in under a minute"
	@echo "make test    all tests, on the built wheel"
	@echo "make sweep   each seam call of each command fails with each errno in turn, and hangs; a million random writes to"
	@echo "             the registers of each machine with PCI Express (half an hour; STEPS=N: so many)"
	@echo "make hil     the contract tests on real s390x, x86 and POWER kernels (QEMU; Hercules with a DASD), beside the"
	@echo "             software machines; ARCH=s390x, ARCH=x86 or ARCH=ppc64: on one of them"
	@echo "make bench   speed, as ratios"
	@echo "make lint    style, types, spelling"
	@echo "make docs    the generated pages of docs/ (man page, exit codes, what is not modelled)"
	@echo "make clean   remove build/"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "pyvfio needs Python 3.11 or later ($(PYTHON) is older); try make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module does not work here (Debian: apt-get install python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip

build/dist/.wheel: $(VENV)/bin/python $(SOURCES)
	@rm -rf build/lib build/bdist.* build/dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/dist .
	@touch $@

$(VENV)/.demo: build/dist/.wheel
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps build/dist/pyvfio-*.whl
	$(BIN)/python -m pip install --quiet build/dist/pyvfio-*.whl
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet "$$(ls build/dist/pyvfio-*.whl)[test]"
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	$(BIN)/python -m pip install --quiet "$$(ls build/dist/pyvfio-*.whl)[dev]"
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/pyvfio demo

test: $(VENV)/.test
	$(BIN)/pytest

sweep: $(VENV)/.test
	PYVFIO_SWEEP=all $(BIN)/pytest -q tests/unit/sweep/test_command_sweep.py
	PYVFIO_STEPS=$(STEPS) $(BIN)/pytest -q tests/unit/linux/test_pcie_random_registers.py \
		tests/unit/software/test_q35_registers.py

hil: $(VENV)/.test
	$(BIN)/python -m tests.hil test --arch $(ARCH) --out $(OUT) --wheel "$$(ls build/dist/pyvfio-*.whl)"

bench: $(VENV)/.test
	$(BIN)/python tests/bench/run.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p build/src && for p in backends fixtures tools; do ln -sfn ../../$$p build/src/pyvfio_$$p; done && ln -sfn ../../pyvfio build/src/pyvfio
	cd build/src && MYPYPATH=. ../../$(BIN)/mypy --config-file ../../pyproject.toml
	$(BIN)/codespell pyvfio backends fixtures/machines tools tests docs README.md CHANGELOG.md Makefile

$(VENV)/.docs: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet "$$(ls build/dist/pyvfio-*.whl)[docs]"
	@touch $@

docs: $(VENV)/.docs
	$(BIN)/python docs/generate.py

clean:
	rm -rf build
