# Needs make and Python 3.11 or newer; whatever else is used comes into .venv.
#
#   make rehearse                     rehearse on the embedded demo
#   make test ARGS="-k lease -x"      arguments for pytest

PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$each; exit; fi; \
	done; echo python3)
VENV ?= .venv
ARGS ?=
EXAMPLES ?= 2000

python := $(VENV)/bin/python
demo := $(VENV)/.demo
dev := $(VENV)/.dev

.DEFAULT_GOAL := help
.PHONY: help rehearse test docs kubernetes fuzz bench picture lint clean

help:  ## Say what can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z]*\):.*## /  make \1: /p' Makefile

rehearse: $(demo)  ## Rehearse the features on the embedded demo
	$(python) -m pytest --erp-sandbox-reset=scenario features $(ARGS)

test: $(dev)  ## Run the whole test suite
	$(python) -m pytest -n auto tests features $(ARGS)

docs: $(dev)  ## Build the documentation, build/docs/index.html; a warning is an error
	$(python) -m sphinx -W --keep-going -n -q -E -b html -d build/doctrees docs build/docs $(ARGS)

kubernetes: $(dev)  ## Run tests/cluster on the Kubernetes of ERP_SANDBOX_TEST_KUBECONFIG
	$(python) -m pytest -n 2 --dist loadfile tests/cluster $(ARGS)
	# Once more as Kubernetes from 1.30 on is spoken to, whichever one this is.
	ERP_SANDBOX_TEST_WEBSOCKETS=1 $(python) -m pytest -n 2 --dist loadfile $(ARGS) \
		tests/cluster/test_toolbox.py tests/cluster/test_claim.py tests/cluster/test_dumping.py \
		tests/cluster/test_golden_documents.py

fuzz: $(dev)  ## Rewind random workloads on random schemas: make fuzz EXAMPLES=5000
	ERP_SANDBOX_TEST_EXAMPLES=$(EXAMPLES) $(python) -m pytest -n 2 tests/postgres/test_rewind_machine.py -k whatever $(ARGS)

bench: $(dev)  ## Measure a reset against the shell script's way (a few minutes)
	$(python) -m bench $(ARGS)

picture: $(dev)  ## Make the README's picture again (with Chromium)
	$(python) docs/picture.py

lint: $(dev)  ## Check format, style and types
	$(python) -m ruff format --check
	$(python) -m ruff check
	$(python) -m mypy

clean:  ## Remove what was made here
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: a second make installs nothing, until pyproject.toml changes.
$(demo): pyproject.toml | $(python)
	$(python) -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(dev): pyproject.toml | $(python)
	$(python) -m pip install --quiet --disable-pip-version-check --editable '.[demo,dev]'
	@touch $@ $(demo)

$(python):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "This needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 || true)." >&2; \
		echo "Name another one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) comes without venv or ensurepip (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
